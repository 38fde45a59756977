"""``hesstore analyse``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from hesstore_cli import completion_values
from hesstore_cli.commands.sweep import exit_status, summary_line
from hesstore_cli.help_pages import Command
from hesstore_cli.options import analysis_options, dask_option, workers_option
from hesstore_cli.stop_request import Duration, StopRequest
from hesstore_cli.terminal.streams import write_line
from hesstore_cli.terminal.widths import width

if TYPE_CHECKING:
    from hesstore_cli.exit_status import ExitStatus


@click.command(cls=Command)
@click.argument(
    "checkpoints",
    metavar="CKPT…",
    nargs=-1,
    required=True,
    type=click.Path(path_type=str),
    shell_complete=completion_values.files,
)
@click.option(
    "-o",
    "--output",
    "store",
    required=True,
    metavar="STORE",
    type=click.Path(path_type=str),
    shell_complete=completion_values.stores,
    help="Store to create or to continue.",
)
@click.option(
    "--axis",
    metavar="NAME",
    help="What the checkpoints differ in: step, epoch, l2 or a name of yours.  [default: checkpoint, their number]",
)
@click.option("--from-name", is_flag=True, help="Take the values along that axis from the names of the checkpoints.")
@click.option("--values", metavar="A,B,…", help="Values along that axis, one per checkpoint in the given order.")
@analysis_options
@click.option(
    "--time-limit",
    type=Duration(),
    metavar="7h50m",
    help="Stop after the current checkpoint once this time has passed, with exit status 75.",
)
@workers_option
@dask_option
@click.option(
    "--grow",
    is_flag=True,
    help="First extend an existing STORE: more checkpoints, a larger k, or other settings of the solver.",
)
@click.option("--retry-failed", is_flag=True, help="Try failed checkpoints again.")
@click.option(
    "-q",
    "--quiet",
    count=True,
    help="Print only warnings, failures and the final summary; -qq prints only an error that ends the command.",
)
@click.option("-v", "--verbose", is_flag=True, help="Print a line for every checkpoint.")
def analyse(
    checkpoints: tuple[str, ...],
    store: str,
    axis: str | None,
    values: str | None,
    settings: dict[str, Any],
    *,
    time_limit: float | None,
    workers: int,
    scheduler: str,
    quiet: int,
    from_name: bool,
    grow: bool,
    retry_failed: bool,
    verbose: bool,
) -> ExitStatus:
    """Compute what a sweep records, for checkpoints that exist.

    CKPT is a file with weights (.pth, .pt, .ckpt, .safetensors), a folder with such files, or a pattern in quotation
    marks. STORE gets spectra, gradients, accuracies and class geometry, along the training step or anything else that
    the checkpoints differ in.

    The value of each checkpoint is printed, and all are checked, before STORE is created. To continue after an
    interruption, run the same command again.

    \b
    Examples:
      hesstore analyse best.pth -o best.zarr --model mynet:build --dataset mydata:load
      hesstore analyse checkpoints/ -o training.zarr --axis step --from-name --dataset mnist-5k
      hesstore analyse models/wd_*.pth -o mine.zarr --axis l2 --from-name --dataset mnist-5k
    """
    if workers and scheduler:
        raise click.UsageError(
            "--workers starts its own workers, --dask uses those of a scheduler: give only one of them"
        )
    if quiet and verbose:
        raise click.UsageError("--quiet and --verbose contradict each other: give only one of them")
    stop = StopRequest(time_limit)
    with stop:
        from hesstore.importing.checkpoints import analyse as run_analyse
        from hesstore.importing.checkpoints import place_checkpoints
        from hesstore_cli.terminal.account import checkpoint_lines
        from hesstore_cli.terminal.sweep_reporter import SweepReporter

        if not quiet:
            found, placed = place_checkpoints(checkpoints, axis, values, from_name=from_name)
            for line in checkpoint_lines(found, placed, complete=verbose, width=width(sys.stderr)):
                write_line(line)
        with SweepReporter(quiet, None, stop, verbose=verbose) as reporter:
            summary = run_analyse(
                checkpoints,
                store,
                axis=axis,
                values=values,
                from_name=from_name,
                settings=settings,
                observer=reporter,
                on_plan=None if quiet else reporter.plan,
                stop=stop,
                workers=workers,
                scheduler=scheduler,
                retry_failed=retry_failed,
                grow=grow,
            )
    if quiet < 2:
        write_line(summary_line(summary, store))
    return exit_status(summary, stop)
