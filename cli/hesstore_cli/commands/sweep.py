"""``hesstore sweep``."""

from __future__ import annotations

import shlex
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hesstore_cli.exit_status import ExitStatus
from hesstore_cli.help_pages import Command
from hesstore_cli.options import config_options, runs_option, store_argument
from hesstore_cli.stop_request import Duration, StopRequest
from hesstore_cli.terminal.amounts import counted, duration
from hesstore_cli.terminal.streams import write_line

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from hesstore.config import SweepConfig
    from hesstore.engine.sweep import SweepSummary
    from hesstore_cli.event_log import EventLog


@click.command(cls=Command)
@store_argument
@config_options
@click.option(
    "--time-limit",
    type=Duration(),
    metavar="7h50m",
    help="Stop after the current grid point once this time has passed, with exit status 75.",
)
@click.option(
    "--workers",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Number of processes on this machine that share the work.",
)
@click.option(
    "--dask", "scheduler", default="", metavar="ADDRESS", help="Dask scheduler whose workers carry out the work."
)
@click.option(
    "--grow",
    is_flag=True,
    help="First extend an existing STORE: more grid points, seeds or directions, a larger k, or other settings of the "
    "solver, with which the spectra are computed again from the stored weights.",
)
@runs_option
@click.option("--retry-failed", is_flag=True, help="Try failed grid points again.")
@click.option(
    "-q",
    "--quiet",
    count=True,
    help="Print only warnings, failures and the final summary; -qq prints only an error that ends the sweep.",
)
@click.option("-v", "--verbose", is_flag=True, help="Print a line for every grid point.")
@click.option(
    "--log-file",
    metavar="FILE",
    default="",
    help="Append every event to FILE as one JSON object per line, for programs.",
)
def sweep(
    store: str,
    config: SweepConfig,
    time_limit: float | None,
    workers: int,
    scheduler: str,
    runs: tuple[int, ...],
    quiet: int,
    *,
    retry_failed: bool,
    grow: bool,
    verbose: bool,
    log_file: str,
) -> int:
    """Compute all grid points that STORE lacks.

    STORE is created if it does not exist. Every sweep first prints a plan: it estimates the run time, as a range, from
    a short probe or from finished grid points.

    Ctrl-C stops the sweep after the current grid point; a second one stops it immediately. SIGTERM, SIGHUP and SIGUSR1
    act in the same way. To continue, run the same command again.

    \b
    Examples:
      hesstore sweep quickstart.zarr --preset quickstart
      hesstore sweep run.zarr --dataset fashion-mnist --l2 0:0.05:251 --seeds 0,1,2
    """
    if workers and scheduler:
        raise click.UsageError(
            "--workers starts its own workers, --dask uses those of a scheduler: give only one of them"
        )
    if quiet and verbose:
        raise click.UsageError("--quiet and --verbose contradict each other: give only one of them")
    stop = StopRequest(time_limit)
    with _open_log(log_file, store) as log, stop:
        from hesstore.engine.sweep import run_sweep
        from hesstore_cli.terminal.sweep_reporter import SweepReporter

        if log is not None:
            log.write_start(store, config)
        with SweepReporter(quiet, log, stop, verbose=verbose) as reporter:
            summary = run_sweep(
                config,
                store,
                observer=reporter,
                on_plan=None if quiet and log is None else reporter.plan,
                stop=stop,
                workers=workers,
                scheduler=scheduler,
                retry_failed=retry_failed,
                grow=grow,
                runs=runs,
            )
        status = exit_status(summary, stop)
        if log is not None:
            log.write_end(summary, status)
    if quiet < 2:
        write_line(summary_line(summary, store))
    return status


def exit_status(summary: SweepSummary, stop: StopRequest) -> ExitStatus:
    """Return the exit status of a sweep."""
    if summary.pending:
        return stop.status or ExitStatus.DONE
    return ExitStatus.SOME_FAILED if summary.failed else ExitStatus.DONE


def _open_log(path: str, store: str) -> AbstractContextManager[EventLog | None]:
    """Return the log, if a file is given."""
    if not path:
        return nullcontext()
    from hesstore_cli.event_log import EventLog

    if Path(path).absolute() == Path(store).absolute():
        raise click.UsageError(f"--log-file: {path} is the store: give another path")
    return EventLog(path)


def summary_line(summary: SweepSummary, store: str) -> str:
    """Return how the sweep ended and what to do next, in one line."""
    where = shlex.quote(store)
    failed = f", {summary.failed} failed (hesstore info {where} shows why)" if summary.failed else ""
    computed = f"{summary.computed} computed now, in {duration(summary.seconds)}"
    if summary.pending:
        return (
            f"hesstore: stopped with {summary.complete} of {counted(summary.total, 'grid point')} complete in "
            f"{store}{failed}; {computed}; run the same command again to continue"
        )
    if not summary.complete:
        return f"no grid point is complete in {store}{failed}; {computed}; --retry-failed tries them again"
    opener = "hesstore.open" if "://" in store else "xr.open_zarr"  # xarray passes URLs to fsspec
    return (
        f"{counted(summary.complete, 'grid point')} complete in {store}{failed}; {computed}. "
        f"Next: hesstore export {where} --format csv, or in Python {opener}({store!r})"
    )
