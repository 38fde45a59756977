"""Gradients against λ: their norms, and their share in the span of the stored eigenvectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hesstore.analysis.selection import mode_count
from hesstore.plots import style
from hesstore.plots.lost_classes import mark_lost_classes
from hesstore.plots.run_data import class_names, lost_at, run_name, run_series, stationarity_label
from hesstore.plots.transition_marks import mark_transitions
from hesstore.store.schema import axis_of

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

_NAMES = ("gradient_norm", "class_gradient_norm", "stationarity")


@style.in_style
def gradient(ds: xr.Dataset, run: int = 0, split: str = "train") -> Figure:
    """Draw the norms of the gradients of all rows and of each class, their share in the top space, and stationarity.

    The middle axes show the shares of the squared norms of the gradient and of θ that lie in the span of the k stored
    eigenvectors; for a random vector the share is k/P on average. The lowest axes show the stationarity on the
    training set, which is 0 where training ended at a stationary point of the objective.

    Parameters
    ----------
    ds : Dataset, path or URL
        A store.
    run : int
        Run ID.
    split : str
        ``"train"`` or ``"test"``: the rows of the gradients.
    ax : Axes, optional
        Axes to draw in, instead of a new figure; several panels take its place.

    Raises
    ------
    AnalysisError
        If the run does not exist or has no complete grid point, or the store lacks the variables.
    """
    part = run_series(ds, run, *_NAMES).sel(split=split)
    figure = style.new_figure(7.2, 7.2)
    upper, middle, lower = figure.subplots(3, 1, sharex=True, height_ratios=(3, 2, 1.4))
    _draw_norms(style.set_up_grid_axes(upper, ds), part, split)
    draw_shares(middle, ds, run, split)
    _draw_stationarity(style.set_up_grid_axes(lower, ds), part)
    for axes in (upper, lower):
        mark_transitions(axes, ds, run)
    for axes in (upper, middle):
        axes.set_xlabel("")
    room = mark_lost_classes(upper, class_names(ds), lost_at(ds, run))
    style.write_heading(upper, f"{run_name(ds, run)}, {split} split", room)
    return figure


def _draw_norms(axes: Axes, part: xr.Dataset, split: str) -> None:
    labels = class_names(part)
    l2 = part[axis_of(part)].values
    for index, label in enumerate(labels):
        values = part["class_gradient_norm"].isel(label=index).values
        axes.plot(
            l2,
            values,
            color=style.class_colour(index),
            marker=style.class_marker(index),
            markersize=4,
            markevery=style.marker_positions(values, index / len(labels)),
            label=label,
        )
    axes.plot(l2, part["gradient_norm"].values, color=style.INK, linewidth=2, label="all", zorder=3)
    axes.set(ylabel=f"2-norm of the gradient of the\nmean {split} loss (nat)", yscale="log")
    style.draw_legend(axes, "class")


def draw_shares(axes: Axes, ds: xr.Dataset, run: int, split: str) -> None:
    """Draw the shares of gradient and weights in the span of the stored eigenvectors."""
    part = run_series(ds, run, "gradient_share", "weights_share").sel(split=split)
    style.set_up_grid_axes(axes, ds)
    for name, label, colour, dashes, marker in (
        ("gradient_share", f"{split} gradient", style.COLOURS[0], "-", "o"),
        ("weights_share", "weights θ", style.COLOURS[4], "--", "s"),
    ):
        _draw_series(axes, part, name, label=label, color=colour, linestyle=dashes, marker=marker)
    k = mode_count(ds)
    axes.set(ylabel=f"share of the squared norm\nin {k} stored eigenvectors", ylim=(-0.03, 1.03))
    style.draw_legend(axes)
    mark_transitions(axes, ds, run)


def _draw_stationarity(axes: Axes, part: xr.Dataset) -> None:
    _draw_series(axes, part, "stationarity", color=style.INK, marker="o")
    axes.set(ylabel=stationarity_label(part), ylim=(0, None))


def _draw_series(axes: Axes, part: xr.Dataset, name: str, **line_style: Any) -> None:
    values: NDArray[np.float64] = part[name].values
    axes.plot(part[axis_of(part)].values, values, markersize=4, markevery=style.marker_positions(values), **line_style)
