"""One page with the most telling pictures."""

from __future__ import annotations

from functools import partial
from textwrap import fill
from typing import TYPE_CHECKING, Any

from hesstore.errors import AnalysisError
from hesstore.plots import style
from hesstore.plots.accuracies import draw_accuracies
from hesstore.plots.gradients import draw_shares
from hesstore.plots.loss_marks import mark_losses
from hesstore.plots.maps import draw_classes, draw_response
from hesstore.plots.plot_data import at_l2, labels_of, losses, named, telling_l2
from hesstore.plots.spectra import draw_spectrum
from hesstore.plots.subspaces import draw_overlap

if TYPE_CHECKING:
    from collections.abc import Callable

    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@style.styled
def summary(
    ds: xr.Dataset,
    run: int = 0,
    l2: float | None = None,
    k: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Figure:
    """Against λ: skill of the classes, eigenvalues, shares in the top space; at one λ: class × mode; overlap map.

    What the store does not have is said in the place of its picture.

    Parameters
    ----------
    ds : Dataset
        A store.
    run : int
        Run ID.
    l2 : float, optional
        The complete λ of the maps; by default the last before the first class is lost.
    k : int, optional
        Eigenvectors of the spans in the overlap map; by default classes − 1.
    progress : callable, optional
        Is told (pairs done, all pairs) of the overlap map.

    Raises
    ------
    AnalysisError
        If the run or the λ is not there, or not complete.
    """
    where = telling_l2(ds, run) if l2 is None else l2
    at_l2(ds, run, where, "eigenvalues")
    direction = str(ds["direction"].sel(run=run).values)
    figure = style.sheet(12.6, 9.0)
    halves: Any = figure.subfigures(1, 2, width_ratios=(1.1, 1))
    left, right = halves[0].subplots(3, 1, sharex=True), halves[1].subplots(3, 1)
    for axes, draw, text in (
        (
            left[0],
            partial(draw_accuracies, ds=ds, run=run, direction=direction, split="test", skill=True),
            named(ds, run),
        ),
        (left[1], partial(draw_spectrum, ds=ds, run=run, shift=False), named(ds, run)),
        (left[2], partial(draw_shares, ds=ds, run=run, split="train"), named(ds, run)),
        (right[0], partial(draw_classes, ds=ds, run=run, l2=where, split="train"), f"λ = {where:g}, {named(ds, run)}"),
        (right[1], partial(draw_response, ds=ds, run=run, l2=where), f"λ = {where:g}, {named(ds, run)}"),
        (right[2], partial(draw_overlap, ds=ds, run=run, k=k, progress=progress), named(ds, run)),
    ):
        _draw_or_say(axes, draw)
        room = mark_losses(axes, labels_of(ds), losses(ds, run)) if axes is left[0] else 0.0
        style.heading(axes, text, room)
    for axes in left[:2]:
        axes.set_xlabel("")
    for axes, letter in zip((*left, *right), "abcdef", strict=True):
        axes.annotate(
            letter, (0, 1), (-34, 6), xycoords="axes fraction", textcoords="offset points", weight="bold", fontsize=11
        )
    return figure


def _draw_or_say(axes: Axes, draw: Callable[[Axes], None]) -> None:
    """Draw, or write why it can't be drawn."""
    try:
        draw(axes)
    except AnalysisError as error:
        axes.clear()
        axes.set_axis_off()
        axes.text(0.5, 0.5, fill(str(error), 48), ha="center", va="center", color=style.INK, transform=axes.transAxes)
