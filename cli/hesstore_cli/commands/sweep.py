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
from hesstore_cli.terminal.amounts import duration

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
    help="Stop after the λ in hand once this time has passed, with exit status 75.",
)
@click.option(
    "--workers", type=click.IntRange(0), default=0, metavar="N", help="Processes on this machine that share the work."
)
@click.option("--dask", "scheduler", default="", metavar="ADDRESS", help="A Dask scheduler whose workers do the work.")
@click.option(
    "--grow",
    is_flag=True,
    help="Make an existing STORE larger first: more λ, seeds or directions; or a larger k or another setting of the "
    "solver, which computes its spectra again from the stored weights.",
)
@runs_option
@click.option("--retry-failed", is_flag=True, help="Try λ again that failed.")
@click.option(
    "-q",
    "--quiet",
    count=True,
    help="Say only warnings, what failed, and how it ended; twice: nothing but an error that ends it.",
)
@click.option("-v", "--verbose", is_flag=True, help="A line for every λ.")
@click.option(
    "--log-file",
    metavar="FILE",
    default="",
    help="Append all that happens to FILE, a JSON object a line, for programs.",
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
    """Compute every λ that STORE lacks; make STORE if it is not there.

    It begins with its plan, see hesstore plan. Ctrl-C, SIGTERM, SIGHUP and SIGUSR1 stop it after the λ in hand; a
    second one at once. Run the same command again to go on where it stopped.

    \b
    Examples:
      hesstore sweep quickstart.zarr --preset quickstart
      hesstore sweep run.zarr --dataset fashion-mnist --l2 0:0.05:251 --seeds 0,1,2
    """
    if workers and scheduler:
        raise click.UsageError(
            "--workers starts workers of its own, --dask uses those of a scheduler: give one of them"
        )
    if quiet and verbose:
        raise click.UsageError("--quiet and --verbose contradict each other: give one of them")
    stop = StopRequest(time_limit)
    with _log(log_file, store) as log, stop:
        from hesstore.engine.sweep import run_sweep
        from hesstore_cli.terminal.console import SweepReporter, talk

        if log is not None:
            log.started(store, config)
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
        status = _status(summary, stop)
        if log is not None:
            log.ended(summary, status)
    if quiet < 2:
        talk(_ending(summary, store))
    return status


def _status(summary: SweepSummary, stop: StopRequest) -> ExitStatus:
    if summary.pending:
        return stop.status or ExitStatus.DONE
    return ExitStatus.SOME_FAILED if summary.failed else ExitStatus.DONE


def _log(path: str, store: str) -> AbstractContextManager[EventLog | None]:
    """The log file, if one is asked for."""
    if not path:
        return nullcontext()
    from hesstore_cli.event_log import EventLog

    if Path(path).absolute() == Path(store).absolute():
        raise click.UsageError(f"--log-file: {path} is the store: give another path")
    return EventLog(path)


def _ending(summary: SweepSummary, store: str) -> str:
    """How the sweep ended and what comes next, in a line."""
    where = shlex.quote(store)
    failed = f", {summary.failed} failed (hesstore info {where} says why)" if summary.failed else ""
    now = f"{summary.computed} computed now, in {duration(summary.seconds)}"
    if summary.pending:
        return (
            f"hesstore: stopped with {summary.complete} of {summary.total} λ complete in {store}{failed}; {now}; "
            "the same command goes on from there"
        )
    if not summary.complete:
        return f"no λ complete in {store}{failed}; {now}; --retry-failed tries them again"
    opener = "hesstore.open" if "://" in store else "xr.open_zarr"  # xarray alone takes URLs to fsspec
    return (
        f"{summary.complete} λ complete in {store}{failed}; {now}. "
        f"Next: hesstore export {where} --format csv, or in Python {opener}({store!r})"
    )
