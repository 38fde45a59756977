"""One figure with the six most informative plots of a run."""

from __future__ import annotations

from functools import partial
from textwrap import fill
from typing import TYPE_CHECKING, Any

from hesstore.errors import AnalysisError
from hesstore.plots import style
from hesstore.plots.accuracies import draw_accuracies
from hesstore.plots.class_maps import draw_classes, draw_response
from hesstore.plots.eigenvectors import draw_overlap
from hesstore.plots.gradients import draw_shares
from hesstore.plots.lost_classes import mark_lost_classes
from hesstore.plots.run_data import class_names, complete_point, default_l2, lost_at, point_name, run_name
from hesstore.plots.spectra import draw_spectrum

if TYPE_CHECKING:
    from collections.abc import Callable

    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@style.in_style
def summary(
    ds: xr.Dataset,
    run: int = 0,
    l2: float | None = None,
    k: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Figure:
    """Draw a summary of a run: six plots on one page.

    Against λ: (a) the skill of the classes, (b) the eigenvalues, (c) the shares of gradient and weights in the top
    space. At one grid point: (d) the share of each class in the curvature of each mode, (e) the response of each class
    to a step along each mode. For all pairs of grid points: (f) the overlap of the top spaces. If the store lacks the
    variables of a plot, a sentence in its place says so.

    Parameters
    ----------
    ds : Dataset
        A store.
    run : int
        Run ID.
    l2 : float, optional
        λ of the complete grid point of the maps; by default the last one before the first class is lost.
    k : int, optional
        Number of eigenvectors of the spans in the overlap map; by default classes − 1.
    progress : callable, optional
        Called with (pairs done, all pairs) of the overlap map.

    Raises
    ------
    AnalysisError
        If the run or grid point does not exist or is not complete.
    """
    where = default_l2(ds, run) if l2 is None else l2
    complete_point(ds, run, where)
    direction = str(ds["direction"].sel(run=run).values)
    figure = style.new_figure(12.6, 9.0)
    halves: Any = figure.subfigures(1, 2, width_ratios=(1.1, 1))
    left, right = halves[0].subplots(3, 1, sharex=True), halves[1].subplots(3, 1)
    name = run_name(ds, run)
    at_point = point_name(ds, run, where)
    for axes, draw, text in (
        (left[0], partial(draw_accuracies, ds=ds, run=run, direction=direction, split="test", skill=True), name),
        (left[1], partial(draw_spectrum, ds=ds, run=run, shift=False), name),
        (left[2], partial(draw_shares, ds=ds, run=run, split="train"), name),
        (right[0], partial(draw_classes, ds=ds, run=run, l2=where, split="train"), at_point),
        (right[1], partial(draw_response, ds=ds, run=run, l2=where), at_point),
        (right[2], partial(draw_overlap, ds=ds, run=run, k=k, progress=progress), name),
    ):
        _draw_or_explain(axes, draw)
        room = mark_lost_classes(axes, class_names(ds), lost_at(ds, run)) if axes is left[0] else 0.0
        style.write_heading(axes, text, room)
    for axes in left[:2]:
        axes.set_xlabel("")
    for axes, letter in zip((*left, *right), "abcdef", strict=True):
        axes.annotate(
            letter, (0, 1), (-34, 6), xycoords="axes fraction", textcoords="offset points", weight="bold", fontsize=11
        )
    return figure


def _draw_or_explain(axes: Axes, draw: Callable[[Axes], None]) -> None:
    """Draw, or write why it cannot be drawn."""
    try:
        draw(axes)
    except AnalysisError as error:
        axes.clear()
        axes.set_axis_off()
        axes.text(0.5, 0.5, fill(str(error), 48), ha="center", va="center", color=style.INK, transform=axes.transAxes)
