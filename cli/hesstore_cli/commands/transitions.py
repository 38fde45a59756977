"""``hesstore transitions``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import click

from hesstore.config.l2_grid import axis_symbol
from hesstore_cli.help_pages import Command
from hesstore_cli.options import Choice, store_argument
from hesstore_cli.terminal.amounts import counted
from hesstore_cli.terminal.tables import table
from hesstore_cli.terminal.widths import fitted, width

if TYPE_CHECKING:
    from collections.abc import Iterator

    import xarray as xr


@click.command(cls=Command)
@store_argument
@click.option(
    "--quantity",
    "quantities",
    multiple=True,
    metavar="NAME",
    help="Quantity to search, several times for several: loss, accuracy, weights_norm, overlap, …  "
    "[default: loss and weights_norm]",
)
@click.option("--split", type=Choice(["train", "test"]), default="train", show_default=True, help="Split of the data.")
@click.option("--threshold", type=float, metavar="X", help="Smallest strength, or combined strength.  [default: 6]")
def transitions(store: str, quantities: tuple[str, ...], split: str, threshold: float | None) -> None:
    """List the transitions of STORE, and where classes are lost.

    A transition is a change between two grid points that is large against the scatter of their neighbours (strength),
    and that lasts. Runs in the same direction that have the same change combine their strengths. Classes are lost where
    a fit to their test skill says so; intervals have 95 % confidence.

    \b
    Examples:
      hesstore transitions quickstart.zarr
      hesstore transitions quickstart.zarr --quantity accuracy --split test
    """
    import hesstore
    from hesstore import analysis
    from hesstore.analysis.change_points import THRESHOLD
    from hesstore.analysis.transitions import QUANTITIES

    ds = hesstore.open(store, chunked=False, check=True)
    limit = THRESHOLD if threshold is None else threshold
    found = analysis.transitions(ds, quantities or QUANTITIES, split, limit).load()
    has_counts = bool((ds["confusion"] >= 0).any())
    losses = analysis.lost_classes(ds) if has_counts else None
    for line in lines(ds, found, losses, limit):
        click.echo(fitted(line))


def lines(ds: xr.Dataset, found: xr.Dataset, losses: xr.Dataset | None, limit: float) -> Iterator[str]:
    """Yield the tables of each run of ``ds`` as text."""
    from hesstore.store.schema import axis_of

    axis = axis_of(ds)
    symbol = axis_symbol(axis)
    for at, run in enumerate(ds["run"].values):
        if at:
            yield ""
        seed, direction = int(ds["seed"][at]), str(ds["direction"].values[at])
        part = found.isel(transition=found["run"].values == run)
        count = counted(part.sizes["transition"], "transition")
        yield f"run {run} (seed {seed}, {direction}): {count} above {limit:g}, alone or combined"
        if part.sizes["transition"]:
            headings = (symbol, "strength", "combined", "quantity", "change", "runs", "up − down")
            for line in table(headings, _rows(part, axis), align="<>><<>>", width=width() - 2):
                yield f"  {line}"
        if losses is not None:
            rows = _class_rows(losses.isel(run=at))
            of_classes = ("class", f"lost at {symbol}", "95 % interval", "crossings")
            for line in table(of_classes, rows, align="<<<>", width=width() - 2):
                yield f"  {line}"


def _rows(part: xr.Dataset, axis: str) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for index in range(part.sizes["transition"]):
        one = part.isel(transition=index)
        hysteresis = float(one["hysteresis"])
        rows.append(
            (
                f"{float(one[f'{axis}_from']):g} to {float(one[f'{axis}_to']):g}",
                f"{float(one['strength']):.1f}",
                f"{float(one['combined_strength']):.1f}",
                str(one["quantity_name"].values),
                str(one["change"].values),
                f"{int(one['runs_found'])}/{int(one['runs_searched'])}",
                f"{hysteresis:g}" if math.isfinite(hysteresis) else "–",
            )
        )
    return rows


def _class_rows(losses: xr.Dataset) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for index, label in enumerate(losses["label"].values):
        loss = losses.isel(label=index)
        ends = [f"{value:g}" if math.isfinite(value) else "…" for value in (float(loss["low"]), float(loss["high"]))]
        place = str(loss["censored"].values) or f"{float(loss['lost_from']):g} to {float(loss['lost_to']):g}"
        rows.append((str(label), place, " to ".join(ends), str(int(loss["crossings"]))))
    return rows
