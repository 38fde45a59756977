"""Gradients against λ: how large they are, and where they point."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hesstore.plots import style
from hesstore.plots.loss_marks import mark_losses
from hesstore.plots.plot_data import labels_of, losses, named, series_of

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

_NAMES = ("gradient_norm", "class_gradient_norm", "stationarity")


@style.styled
def gradient(ds: xr.Dataset, run: int = 0, split: str = "train") -> Figure:
    """Norms of the gradients of the mean loss and of each class's; their place in the top space; stationarity.

    The middle axes have the shares of the squared norms of the gradient and of θ that lie in the span of the k
    stored eigenvectors; a random vector has k/P there. Below is ‖∇E + 2cλθ‖/‖∇E‖, on the training set: 0 where training
    ended at a stationary point of the objective.

    Parameters
    ----------
    ds : Dataset
        A store.
    run : int
        Run ID.
    split : str
        ``"train"`` or ``"test"``: whose gradients.

    Raises
    ------
    AnalysisError
        If the run is not there, no λ of it is complete, or the store has no class geometry.
    """
    part = series_of(ds, run, *_NAMES).sel(split=split)
    figure = style.sheet(7.2, 7.2)
    upper, middle, lower = figure.subplots(3, 1, sharex=True, height_ratios=(3, 2, 1.4))
    _draw_norms(style.along_l2(upper), part, split)
    draw_shares(middle, ds, run, split)
    _draw_stationarity(style.along_l2(lower), part)
    for axes in (upper, middle):
        axes.set_xlabel("")
    room = mark_losses(upper, labels_of(ds), losses(ds, run))
    style.heading(upper, f"{named(ds, run)}, {split} split", room)
    return figure


def _draw_norms(axes: Axes, part: xr.Dataset, split: str) -> None:
    labels = labels_of(part)
    l2 = part["l2"].values
    for index, label in enumerate(labels):
        values = part["class_gradient_norm"].isel(label=index).values
        axes.plot(
            l2,
            values,
            color=style.class_colour(index),
            marker=style.class_marker(index),
            markersize=4,
            markevery=style.marked(values, index / len(labels)),
            label=label,
        )
    axes.plot(l2, part["gradient_norm"].values, color=style.INK, linewidth=2, label="all", zorder=3)
    axes.set(ylabel=f"2-norm of the gradient of the\nmean {split} loss (nat)", yscale="log")
    style.beside(axes, "class")


def draw_shares(axes: Axes, ds: xr.Dataset, run: int, split: str) -> None:
    """Shares in the span of the stored eigenvectors."""
    part = series_of(ds, run, "gradient_share", "weights_share").sel(split=split)
    style.along_l2(axes)
    for name, label, colour, dashes, marker in (
        ("gradient_share", f"{split} gradient", style.COLOURS[0], "-", "o"),
        ("weights_share", "weights θ", style.COLOURS[4], "--", "s"),
    ):
        _draw_series(axes, part, name, label=label, color=colour, linestyle=dashes, marker=marker)
    k = ds.sizes["mode"]
    axes.set(ylabel=f"share of the squared norm\nin the top {k} eigenvectors", ylim=(-0.03, 1.03))
    style.beside(axes)


def _draw_stationarity(axes: Axes, part: xr.Dataset) -> None:
    _draw_series(axes, part, "stationarity", color=style.INK, marker="o")
    axes.set(ylabel="‖∇E + 2cλθ‖ / ‖∇E‖\n(0: stationary)", ylim=(0, None))


def _draw_series(axes: Axes, part: xr.Dataset, name: str, **how: Any) -> None:
    values: NDArray[np.float64] = part[name].values
    axes.plot(part["l2"].values, values, markersize=4, markevery=style.marked(values), **how)
