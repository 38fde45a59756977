"""The diagonal blocks of the Hessian by layer, against λ."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps

from hesstore.analysis.selection import loss_unit, matrix_name, setting
from hesstore.plots import style
from hesstore.plots.run_data import run_name, run_series
from hesstore.plots.transition_marks import mark_transitions
from hesstore.store.schema import axis_of

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray


@style.in_style
def blocks(ds: xr.Dataset, run: int = 0) -> Figure:
    """Draw the largest eigenvalue and the trace of the diagonal block of each layer.

    The block of a layer is the Hessian with all other parameters fixed. The upper axes show the magnitude of its
    eigenvalue with the largest magnitude, and that of the whole matrix in black, unless the store has only the largest
    or the smallest eigenvalues; the lower axes show the traces.

    Parameters
    ----------
    ds : Dataset, path or URL
        A store that was recorded with ``--blocks layer``.
    run : int
        Run ID.
    ax : Axes, optional
        Axes to draw in, instead of a new figure; several panels take its place.

    Raises
    ------
    AnalysisError
        If the run does not exist or has no complete grid point, or the store lacks the blocks.
    """
    part = run_series(ds, run, "block_eigenvalues", "block_trace", "eigenvalues")
    figure = style.new_figure(7.2, 6.0)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    matrix, unit = matrix_name(ds), f" ({loss_unit(ds)})" if loss_unit(ds) else ""
    style.set_up_grid_axes(upper, ds)
    _draw_layers(upper, part, np.abs(part["block_eigenvalues"].isel(block_mode=0).values))
    if setting(ds, "which") in {None, "LM"}:
        axis = axis_of(ds)
        largest = np.fmax.reduce(np.abs(part["eigenvalues"].transpose(axis, "mode").values), axis=1)
        upper.plot(part[axis].values, largest, color=style.INK, linewidth=1, linestyle="--", label="whole matrix")
    upper.set(ylabel=f"largest |eigenvalue| of the\nlayer's block of the {matrix}{unit}", yscale="log", xlabel="")
    style.draw_legend(upper, "layer")
    _draw_layers(style.set_up_grid_axes(lower, ds), part, part["block_trace"].values)
    lower.set(ylabel=f"trace of the block{unit}")
    for axes in (upper, lower):
        mark_transitions(axes, ds, run)
    style.write_heading(upper, run_name(ds, run))
    return figure


def _draw_layers(axes: Axes, part: xr.Dataset, values: NDArray[np.float64]) -> None:
    """Draw values (grid, block) as a line for each layer; many layers have colours from the first to the last."""
    names = [str(name) for name in part["block"].values]
    few = len(names) <= len(style.COLOURS)
    shades = colormaps[style.SEQUENTIAL](np.linspace(0, 0.9, len(names)))
    for index, name in enumerate(names):
        axes.plot(
            part[axis_of(part)].values,
            values[:, index],
            color=style.COLOURS[index] if few else shades[index],
            marker=style.MARKERS[index % len(style.MARKERS)],
            markersize=4,
            markevery=style.marker_positions(values[:, index], index / len(names)),
            label=name,
        )
