"""``hesstore refine``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from hesstore_cli.commands.sweep import exit_status, summary_line
from hesstore_cli.exit_status import ExitStatus
from hesstore_cli.help_pages import Command
from hesstore_cli.options import store_argument
from hesstore_cli.stop_request import Duration, StopRequest
from hesstore_cli.stored_config import stored_layer
from hesstore_cli.terminal.amounts import counted
from hesstore_cli.terminal.streams import write_line
from hesstore_cli.terminal.tables import table

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from hesstore.analysis.refinement import Bracket
    from hesstore.engine.sweep import SweepSummary


@click.command(cls=Command)
@store_argument
@click.option(
    "--points",
    type=click.IntRange(1),
    metavar="N",
    help="Number of new grid points in each gap of the grid within a transition.  [default: 4, without --to]",
)
@click.option(
    "--to",
    "width",
    type=float,
    metavar="WIDTH",
    help="Bisect each transition until it lies between two λ that are at most this far apart.",
)
@click.option(
    "--transitions",
    "count",
    type=click.IntRange(1),
    metavar="N",
    help="Number of transitions to bisect in each run, the strongest first.  [default: all]",
)
@click.option(
    "--at",
    "places",
    type=float,
    multiple=True,
    metavar="λ",
    help="Bisect the jump of the quantity in the gap of the grid around this λ, transition or not; can be repeated.",
)
@click.option(
    "--quantity",
    "quantities",
    multiple=True,
    metavar="NAME",
    help="Quantity that jumps, such as loss, weights_norm, accuracy or overlap; can be repeated without --at.  "
    "[default: loss and weights_norm; loss with --at]",
)
@click.option(
    "--run", "runs", type=click.IntRange(0), multiple=True, metavar="ID", help="Only this run; can be repeated."
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
def refine(
    store: str,
    *,
    points: int | None,
    width: float | None,
    count: int | None,
    places: tuple[float, ...],
    quantities: tuple[str, ...],
    runs: tuple[int, ...],
    threshold: float | None,
    time_limit: float | None,
    quiet: int,
) -> int:
    """Add grid points to STORE where its networks change suddenly.

    The transitions are those of `hesstore transitions`. All grid points of STORE stay as they are. In a continuation,
    a new grid point starts from the weights of the one before it.

    With --to, each round adds the λ in the middle of each transition, and keeps the half in which the quantity jumps
    further. At the end, a table on stdout names the grid points on both sides, which --center and --start of
    `hesstore sweep` accept. An interrupted command continues when it is run again.

    \b
    Examples:
      hesstore refine run.zarr
      hesstore refine run.zarr --points 9 --time-limit 2h
      hesstore refine run.zarr --transitions 5 --to 1e-6
      hesstore refine run.zarr --at 0.0248 --quantity accuracy --to 1e-6
    """
    import hesstore
    from hesstore.analysis.change_points import THRESHOLD
    from hesstore.analysis.refinement import brackets_at, refined_l2, strongest_brackets
    from hesstore.analysis.transitions import QUANTITIES

    limit = THRESHOLD if threshold is None else threshold
    if width is None:
        _refuse({"--transitions": count, "--at": places, "--quantity": quantities, "--run": runs}, "needs --to WIDTH")
        grid = refined_l2(hesstore.open(store, chunked=False, check=True), points or 4, limit)
        with StopRequest(time_limit) as stop:
            return _add_evenly(store, grid, stop, quiet)
    _refuse({"--points": points}, "can't be combined with --to, which adds one value of λ at a time")
    if places:
        _refuse({"--transitions": count, "--threshold": threshold}, "can't be combined with --at")
        if len(quantities) > 1:
            raise click.UsageError("--at follows the jump of one quantity: give --quantity once")

    def find() -> list[Bracket]:
        ds = hesstore.open(store, chunked=False, check=True)
        if places:
            return brackets_at(ds, places, runs=runs, quantity=(quantities or QUANTITIES)[0])
        names = quantities or QUANTITIES
        return strongest_brackets(ds, count, runs=runs, quantities=names, threshold=limit)

    with StopRequest(time_limit) as stop:
        return _bisect(store, find, width, stop, runs, quiet)


def _refuse(options: Mapping[str, Any], reason: str) -> None:
    for name, value in options.items():
        if value not in (None, ()):
            raise click.UsageError(f"{name} {reason}")


def _add_evenly(store: str, grid: Sequence[float], stop: StopRequest, quiet: int) -> int:
    """Let the store grow to the grid, and compute what it then lacks."""
    added = len(set(grid) - set(_grid(store)))
    if not added:
        write_line("no transition found: the grid stays as it is (hesstore transitions lists them)")
        return ExitStatus.DONE
    if not quiet:
        write_line(f"{counted(added, 'new value')} of λ within the transitions")
    summary = _grow(store, grid, stop, quiet, shows_plan=True)
    if quiet < 2:
        write_line(summary_line(summary, store))
    return exit_status(summary, stop)


def _bisect(
    store: str, find: Callable[[], list[Bracket]], width: float, stop: StopRequest, runs: Collection[int], quiet: int
) -> int:
    """Add the middle of each bracket wider than ``width``, until none is, and print the brackets."""
    from hesstore.analysis.refinement import NARROWEST

    if not width >= NARROWEST:
        raise click.UsageError(f"--to {width:g} is too small: λ has ten decimals, so the least is {NARROWEST:g}")
    status: int = ExitStatus.DONE
    while True:
        brackets = find()
        if not brackets:
            write_line("no transition found: the grid stays as it is (hesstore transitions lists them; see --at)")
            return ExitStatus.DONE
        grid = _grid(store)
        new = {bracket.middle for bracket in brackets if bracket.width > width} - set(grid)
        if not new or status != ExitStatus.DONE:
            break
        if not quiet:
            widest = max(bracket.width for bracket in brackets)
            write_line(f"{counted(len(new), 'new value')} of λ; the widest of the brackets is {widest:.3g}")
        summary = _grow(store, sorted({*grid, *new}), stop, max(quiet, 1), runs=runs)
        status = exit_status(summary, stop)
        if summary.pending and quiet < 2:
            write_line(summary_line(summary, store))
    click.echo("\n".join(_lines(store, brackets, width)))
    return status


def _grid(store: str) -> tuple[float, ...]:
    import hesstore

    return tuple(hesstore.open(store)["l2"].values.tolist())


def _grow(
    store: str,
    grid: Sequence[float],
    stop: StopRequest,
    quiet: int,
    *,
    runs: Collection[int] = (),
    shows_plan: bool = False,
) -> SweepSummary:
    """Let the store grow to the grid, and compute what the runs then lack."""
    from hesstore.config import SweepConfig
    from hesstore.engine.sweep import run_sweep
    from hesstore_cli.terminal.sweep_reporter import SweepReporter

    config = SweepConfig.from_mapping({**stored_layer(store).values, "l2": list(grid)})
    with SweepReporter(quiet, None, stop, verbose=False) as reporter:
        plan = reporter.plan if shows_plan and not quiet else None
        return run_sweep(config, store, observer=reporter, on_plan=plan, stop=stop, grow=True, runs=runs)


def _lines(store: str, brackets: Sequence[Bracket], width: float) -> Iterator[str]:
    """Yield a table of the brackets."""
    headings = ("run", "λ from", "to", "quantity", "there", "and there", "weights before the transition")
    rows = [
        (
            str(each.run),
            f"{each.l2_from:.10g}",
            f"{each.l2_to:.10g}" + ("" if each.width <= width else " (wider)"),
            each.quantity,
            f"{each.value_from:.4g}",
            f"{each.value_to:.4g}",
            f"{store}#{each.run},{each.l2_before:.10g}",
        )
        for each in brackets
    ]
    yield from table(headings, rows, align="><<<>><")
