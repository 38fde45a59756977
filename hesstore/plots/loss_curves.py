"""Losses and accuracies against λ and against the norm of the weights, or their distance to the penalty's centre."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hesstore.plots import style
from hesstore.plots.run_data import run_name, run_series
from hesstore.plots.transition_marks import mark_transitions
from hesstore.store.schema import SPLITS, axis_of

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

_LOOKS: dict[str, dict[str, Any]] = {
    "train": {"color": style.COLOURS[0], "marker": "o"},
    "test": {"color": style.COLOURS[4], "marker": "s", "linestyle": "--"},
}


@style.in_style
def losses(ds: xr.Dataset, run: int = 0) -> Figure:
    """Draw the losses, the accuracies and r against λ, and the losses and accuracies against r.

    r is the distance ‖θ − θ_ref‖ to the centre of the penalty if the store has one, otherwise the norm ‖θ‖. Grid points
    that follow each other along λ are joined, so that a curve against r may turn back. Grey bands are transitions
    (:func:`hesstore.analysis.transitions`).

    Parameters
    ----------
    ds : Dataset, path or URL
        A store. No eigenpairs are needed.
    run : int
        Run ID.
    ax : Axes, optional
        Axes to draw in, instead of a new figure; several panels take its place.

    Raises
    ------
    AnalysisError
        If the run does not exist or has no complete grid point.
    """
    name, label = ("distance", "‖θ − θ_ref‖") if "distance" in ds else ("weights_norm", "‖θ‖")
    part = run_series(ds, run, "loss", "accuracy", name)
    l2, r = part[axis_of(ds)].values, part[name].values
    figure = style.new_figure(9.6, 7.2, least=120)
    grid = figure.subplots(3, 2, sharex="col")
    for quantity, (against_l2, against_r) in zip(("loss", "accuracy"), grid, strict=False):
        for split in SPLITS:
            values = part[quantity].sel(split=split).values
            _draw(style.set_up_grid_axes(against_l2, ds), l2, values, split)
            _draw(style.set_up_axes(against_r), r, values, split)
        for axes in (against_l2, against_r):
            axes.set(ylabel="mean cross-entropy (nat)" if quantity == "loss" else "accuracy", xlabel="")
            if quantity == "loss" and np.nanmin(part["loss"].values, initial=np.inf) > 0:
                axes.set_yscale("log")
    style.draw_legend(grid[0, 1])
    lowest, empty = grid[2]
    _draw(style.set_up_grid_axes(lowest, ds), l2, r, "train")
    lowest.set_ylabel(label)
    empty.set_visible(False)
    grid[1, 1].set_xlabel(label)
    grid[1, 1].tick_params(labelbottom=True)
    for axes in grid[:, 0]:
        mark_transitions(axes, ds, run)
    style.write_heading(grid[0, 0], run_name(ds, run))
    return figure


def _draw(axes: Axes, x: NDArray[np.float64], y: NDArray[np.float64], split: str) -> None:
    axes.plot(
        x, y, **_LOOKS[split], linewidth=1.1, markersize=3.5, markevery=style.marker_positions(x + y), label=split
    )
