"""``hesstore sweep``."""

from __future__ import annotations

import shlex
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hesstore.errors import size_text
from hesstore_cli.exit_status import ExitStatus
from hesstore_cli.help_pages import Command
from hesstore_cli.options import dask_option, layer_options, runs_option, store_argument, workers_option
from hesstore_cli.stop_request import Duration, StopRequest
from hesstore_cli.stored_config import config_of_sweep
from hesstore_cli.terminal.amounts import counted, duration
from hesstore_cli.terminal.streams import write_line

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from hesstore.config.sources import Layer
    from hesstore.engine.summary import SweepSummary
    from hesstore_cli.event_log import EventLog


@click.command(cls=Command)
@store_argument
@layer_options
@click.option(
    "--time-limit",
    type=Duration(),
    metavar="7h50m",
    help="Stop after the current grid point once this time has passed, with exit status 75.",
)
@workers_option
@dask_option
@click.option(
    "--grow",
    is_flag=True,
    help="First extend an existing STORE: more grid points, seeds or directions, a larger k, or other settings of the "
    "solver, with which the spectra are computed again from the stored weights.",
)
@click.option("--overwrite", is_flag=True, help="Delete an existing STORE and begin again; asks first.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask before --overwrite.")
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
@click.pass_context
def sweep(
    context: click.Context,
    store: str,
    layers: list[Layer],
    time_limit: float | None,
    workers: int,
    scheduler: str,
    runs: tuple[int, ...],
    *,
    quiet: int,
    retry_failed: bool,
    grow: bool,
    overwrite: bool,
    yes: bool,
    verbose: bool,
    log_file: str,
) -> int:
    """Compute all grid points that STORE lacks.

    STORE is created if it does not exist. An existing STORE continues with its own config; options change that config,
    which needs --grow or --overwrite. Every sweep first prints a plan: it estimates the run time, as a range, from a
    short probe or from finished grid points.

    Ctrl-C stops the sweep after the current grid point; a second one stops it immediately. SIGTERM, SIGHUP and SIGUSR1
    act in the same way. To continue, run the same command again, or only hesstore sweep STORE.

    \b
    Examples:
      hesstore sweep quickstart.zarr --preset quickstart
      hesstore sweep run.zarr --dataset fashion-mnist --l2 0:0.05:251
      hesstore sweep run.zarr --seeds 0,1,2 --grow
    """
    for both, why in (
        (workers and scheduler, "--workers starts its own workers, --dask uses those of a scheduler"),
        (quiet and verbose, "--quiet and --verbose contradict each other"),
        (grow and overwrite, "--grow keeps the results of STORE, --overwrite deletes them"),
    ):
        if both:
            raise click.UsageError(f"{why}: give only one of them")
    config = config_of_sweep(context, store, layers, overwrite=overwrite)
    if overwrite and not yes:
        _confirm_overwriting(store)
    stop = StopRequest(time_limit)
    with _open_log(log_file, store) as log, stop:
        if log is None and not (grow or overwrite or retry_failed):
            from hesstore.engine.summary import finished_sweep

            if (finished := finished_sweep(config, store, runs=runs)) is not None:
                return _end(finished, store, stop, quiet)
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
                overwrite=overwrite,
                runs=runs,
            )
        if log is not None:
            log.write_end(summary, exit_status(summary, stop))
    return _end(summary, store, stop, quiet)


def _confirm_overwriting(store: str) -> None:
    """Ask whether an existing store may be deleted.

    Raises
    ------
    click.UsageError
        If nobody can be asked.
    click.Abort
        If the answer is no.
    """
    from hesstore.errors import CorruptStoreError
    from hesstore.store.places.location import locate
    from hesstore.store.removing import check_removable
    from hesstore.store.schema import Status
    from hesstore.store.writing import SweepStore

    place = locate(store)
    if place.is_new():
        return
    check_removable(place)
    try:
        opened = SweepStore.open(place)
        counts = [int((opened.status(run) == Status.COMPLETE).sum()) for run in opened.runs]
        contents = f"{counted(sum(counts), 'complete grid point')}, {size_text(place.size() or 0)}"
    except CorruptStoreError:
        contents = f"damaged, {size_text(place.size() or 0)}"
    if not sys.stdin.isatty():
        raise click.UsageError(f"--overwrite would delete {store} ({contents}): add --yes to allow it")
    click.confirm(f"Delete {store} ({contents})?", abort=True, err=True)


def _end(summary: SweepSummary, store: str, stop: StopRequest, quiet: int) -> ExitStatus:
    """Print how the sweep ended; return the exit status."""
    if quiet < 2:
        write_line(summary_line(summary, store))
    return exit_status(summary, stop)


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
    if not summary.computed and not summary.pending:
        computed = "nothing was left to compute"
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
