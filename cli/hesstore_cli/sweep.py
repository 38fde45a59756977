"""``hesstore sweep``."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from hesstore_cli.exit_status import ExitStatus
from hesstore_cli.help_pages import Command
from hesstore_cli.options import config_options, store_argument
from hesstore_cli.stopping import Duration, StopRequest

if TYPE_CHECKING:
    from hesstore.config import SweepConfig
    from hesstore.sweep import SweepSummary


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
@click.option(
    "--run",
    "runs",
    type=click.IntRange(0),
    multiple=True,
    metavar="ID",
    help="Only this run; repeatable. [default: all]",
)
@click.option("--retry-failed", is_flag=True, help="Try λ again that failed.")
def sweep(
    store: str,
    config: SweepConfig,
    time_limit: float | None,
    workers: int,
    scheduler: str,
    runs: tuple[int, ...],
    *,
    retry_failed: bool,
    grow: bool,
) -> int:
    """Compute every λ that STORE lacks; make STORE if it is not there.

    Ctrl-C, SIGTERM and SIGUSR1 stop it after the λ in hand; a second one at once. Run the same command again to go on
    where it stopped.

    \b
    Examples:
      hesstore sweep quickstart.zarr --preset quickstart
      hesstore sweep run.zarr --dataset fashion-mnist --l2 0:0.05:251 --seeds 0,1,2
    """
    if workers and scheduler:
        raise click.UsageError(
            "--workers starts workers of its own, --dask uses those of a scheduler: give one of them"
        )
    stop = StopRequest(time_limit)
    with stop:
        from hesstore.sweep import run_sweep
        from hesstore_cli.console import SweepReporter

        with SweepReporter() as reporter:
            summary = run_sweep(
                config,
                store,
                observer=reporter,
                stop=stop,
                workers=workers,
                scheduler=scheduler,
                retry_failed=retry_failed,
                grow=grow,
                runs=runs,
            )
    click.echo(_ending(summary, store), err=True)
    if summary.pending:
        return stop.status or ExitStatus.DONE
    return ExitStatus.SOME_FAILED if summary.failed else ExitStatus.DONE


def _ending(summary: SweepSummary, store: str) -> str:
    """How the sweep ended and what comes next, in a line."""
    from hesstore_cli.console import duration

    where = shlex.quote(store)
    failed = f", {summary.failed} failed (hesstore info {where} says why)" if summary.failed else ""
    now = f"{summary.computed} computed now, in {duration(summary.seconds)}"
    if summary.pending:
        return (
            f"hesstore: stopped with {summary.complete} of {summary.total} λ complete in {store}{failed}; {now}; "
            "the same command goes on from there"
        )
    opener = "hesstore.open" if "://" in store else "xr.open_zarr"  # xarray alone takes URLs to fsspec
    return (
        f"{summary.complete} λ complete in {store}{failed}; {now}. "
        f"Next: hesstore export {where} --format csv, or in Python {opener}({store!r})"
    )
