"""Hysteresis loops: the way up and the way down along λ, class by class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from matplotlib.patches import Patch

from hesstore import analysis
from hesstore.errors import AnalysisError
from hesstore.plots import style
from hesstore.plots.run_data import class_names, run_name, run_names, runs_of_seed, skill_series, without_parameters
from hesstore.store.schema import axis_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from numpy.typing import NDArray


@style.in_style
def hysteresis(ds: xr.Dataset, run: int = 0, split: str = "test") -> Figure:
    """Draw the way up and the way down of each class, in small axes for each class, and shade the area between them.

    The curves are the skill of the class, its hit rate minus its false-alarm rate
    (:func:`hesstore.analysis.class_skill`). The number is the area ∫ |s_up − s_down| dλ for the seed of the run
    (:func:`hesstore.analysis.hysteresis`).

    Parameters
    ----------
    ds : Dataset, path or URL
        A store.
    run : int
        Run ID; either of the two runs of the seed.
    split : str
        ``"train"`` or ``"test"``.
    ax : Axes, optional
        Axes to draw in, instead of a new figure; several panels take its place.

    Raises
    ------
    AnalysisError
        If the seed has no run in one of the directions, or its runs have no complete grid point in common.
    """
    runs = runs_of_seed(ds, run)
    if len(runs) < 2:
        raise AnalysisError(
            f"the seed of {run_name(ds, run)} has no complete grid point in the other direction: "
            "sweep with --direction both"
        )
    small = without_parameters(ds).sel(run=list(runs.values()))
    areas = analysis.hysteresis(small, split=split)["area"].values[0]
    curves = {direction: skill_series(ds, each, split) for direction, each in runs.items()}
    return _draw_small_multiples(class_names(ds), curves, areas, f"{split} split, {run_names(ds, run)}")


def _draw_small_multiples(
    labels: list[str], curves: dict[str, xr.DataArray], areas: NDArray[np.float64], title: str
) -> Figure:
    columns = min(5, len(labels))
    rows = -(-len(labels) // columns)
    figure = style.new_figure(1.75 * columns + 0.6, 1.55 * rows + 0.95, least=28 * columns)
    lowest = min(float(np.nanmin(curve.values)) for curve in curves.values()) - 0.03
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for index, axes in enumerate(panels.flat):
        if index >= len(labels):
            axes.set_visible(False)
            continue
        style.set_up_axes(axes).set_ylim(lowest, 1.03)
        _draw_loop(axes, {direction: curve.isel(label=index) for direction, curve in curves.items()}, index)
        style.write_heading(axes, f"{labels[index]}:  area {areas[index]:.2g}")
    figure.supxlabel(style.grid_label(curves["up"]), fontsize=style.points(9))
    figure.supylabel("skill of the class", fontsize=style.points(9))
    figure.legend(handles=_handles(), title=title, loc="outside upper left", alignment="left", ncols=3)
    return figure


def _draw_loop(axes: Axes, curves: dict[str, xr.DataArray], index: int) -> None:
    axis = axis_of(curves["up"])
    colour = style.class_colour(index)
    up, down = xr.align(curves["up"].dropna(axis), curves["down"].dropna(axis))  # as for the area
    axes.fill_between(up[axis].values, up.values, down.values, color=colour, alpha=0.25, linewidth=0, label="_area")
    for direction, curve in curves.items():
        dashes = style.DASHES[direction]
        axes.plot(curve[axis].values, curve.values, color=colour, linestyle=dashes, linewidth=1.3, label=direction)


def _handles() -> list[Line2D | Patch]:
    """Return the legend of the whole figure."""
    return [
        style.legend_handle("λ up", color=style.INK),
        style.legend_handle("λ down", color=style.INK, linestyle=style.DASHES["down"]),
        Patch(color=style.INK, alpha=0.2, linewidth=0, label="area between them, ∫ |Δ skill| dλ"),
    ]
