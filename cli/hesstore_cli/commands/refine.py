"""``hesstore refine``."""

from __future__ import annotations

import click

from hesstore_cli.commands.sweep import exit_status, summary_line
from hesstore_cli.exit_status import ExitStatus
from hesstore_cli.help_pages import Command
from hesstore_cli.options import store_argument
from hesstore_cli.stop_request import Duration, StopRequest
from hesstore_cli.stored_config import stored_layer
from hesstore_cli.terminal.amounts import counted
from hesstore_cli.terminal.streams import write_line


@click.command(cls=Command)
@store_argument
@click.option(
    "--points",
    type=click.IntRange(1),
    default=4,
    show_default=True,
    metavar="N",
    help="Number of new grid points in each gap of the grid within a transition.",
)
@click.option(
    "--threshold",
    type=float,
    metavar="X",
    help="Smallest strength, or combined strength, of a transition.  [default: 6]",
)
@click.option(
    "--time-limit",
    type=Duration(),
    metavar="7h50m",
    help="Stop after the current grid point once this time has passed, with exit status 75.",
)
@click.option("-q", "--quiet", count=True, help="Print only warnings, failures and the final summary.")
def refine(store: str, points: int, threshold: float | None, time_limit: float | None, quiet: int) -> int:
    """Add grid points to STORE where its networks change suddenly.

    The transitions are those of `hesstore transitions`. All grid points of STORE stay as they are. In a continuation,
    a new grid point starts from the weights of the one before it.

    \b
    Examples:
      hesstore refine run.zarr
      hesstore refine run.zarr --points 9 --time-limit 2h
    """
    import hesstore
    from hesstore.analysis.change_points import THRESHOLD
    from hesstore.analysis.refinement import refined_l2
    from hesstore.config import SweepConfig
    from hesstore.engine.sweep import run_sweep
    from hesstore_cli.terminal.sweep_reporter import SweepReporter

    ds = hesstore.open(store, chunked=False, check=True)
    grid = refined_l2(ds, points, THRESHOLD if threshold is None else threshold)
    added = len(grid) - ds.sizes["l2"]
    if not added:
        write_line("no transition found: the grid stays as it is (hesstore transitions lists them)")
        return ExitStatus.DONE
    if not quiet:
        write_line(f"{counted(added, 'new value')} of λ within the transitions")
    config = SweepConfig.from_mapping({**stored_layer(store).values, "l2": list(grid)})
    with StopRequest(time_limit) as stop:
        with SweepReporter(quiet, None, stop, verbose=False) as reporter:
            summary = run_sweep(
                config, store, observer=reporter, on_plan=None if quiet else reporter.plan, stop=stop, grow=True
            )
        status = exit_status(summary, stop)
    if quiet < 2:
        write_line(summary_line(summary, store))
    return status
