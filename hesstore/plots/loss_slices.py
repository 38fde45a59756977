"""Figures of the loss along an eigenvector, in the plane of two, and between two grid points."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps

from hesstore.analysis.selection import require_split
from hesstore.config.l2_grid import value_text
from hesstore.errors import AnalysisError
from hesstore.plots import style
from hesstore.store.schema import SPLITS, axis_of

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

_LEVELS = 14
_MODEL = (0, (4, 2))
"""The dashes of the quadratic model."""


@style.in_style
def loss_slice(found: xr.Dataset, *, split: str = "train") -> Figure:
    """Draw the result of :func:`hesstore.loss_slice` or :func:`hesstore.loss_path`.

    Along one line: above, the losses of both splits; below, those of the classes. Dashed lines are the quadratic
    models at the middle of the slice. In a plane: the loss as filled contours, and the quadratic model of the training
    loss as dashed ones at the same levels.

    Parameters
    ----------
    found : Dataset
        The slice or path.
    split : str
        The split of the classes' losses, or of the loss in a plane.

    Raises
    ------
    AnalysisError
        If the Dataset is not a slice or path, or the split is unknown.
    """
    require_split(split)
    if "class_loss" not in found or not {"t", "s"} & set(found.dims):
        raise AnalysisError("the Dataset is not a slice: pass the result of hesstore.loss_slice or hesstore.loss_path")
    return _draw_plane(found, split) if "u" in found.dims else _draw_line(found, split)


def _draw_line(found: xr.Dataset, split: str) -> Figure:
    along = "t" if "t" in found.dims else "s"
    x = found[along].values
    figure = style.new_figure(7.2, 6.6)
    upper, lower = figure.subplots(2, 1, sharex=True)
    for axes in (upper, lower):
        style.set_up_axes(axes)
        axes.margins(x=0.015)
    for colour, name in zip(style.COLOURS, SPLITS, strict=False):
        upper.plot(x, found["loss"].sel(split=name).values, color=colour, label=name)
    if "quadratic" in found:
        _draw_model(upper, x, found["quadratic"].values, style.COLOURS[0], "train, quadratic model")
    for index, label in enumerate(found["label"].values):
        values = found["class_loss"].sel(split=split).values[index]
        lower.plot(x, values, color=style.class_colour(index), linewidth=1.1, label=str(label))
    if "class_quadratic" in found:
        for index, label in enumerate(found["label"].values):
            model = found["class_quadratic"].sel(split=split).values[index]
            _draw_model(lower, x, model, style.class_colour(index), f"_model {label}")
    upper.set_ylabel("mean cross-entropy (nat)")
    lower.set(ylabel=f"{split} loss of the class (nat)", xlabel=found[along].attrs["long_name"])
    style.draw_legend(upper)
    style.draw_legend(lower, "class")
    style.write_heading(upper, _name(found))
    return figure


def _draw_model(axes: Axes, x: NDArray[np.float64], values: NDArray[np.float64], colour: str, label: str) -> None:
    """Draw a quadratic model, which may leave the axes: their limits stay those of the measured losses."""
    limits = axes.get_ylim()
    axes.plot(x, values, color=colour, linestyle=_MODEL, linewidth=0.9, label=label)
    axes.set_ylim(limits)


def _draw_plane(found: xr.Dataset, split: str) -> Figure:
    figure = style.new_figure(6.4, 5.2)
    axes = figure.subplots()
    values = found["loss"].sel(split=split).transpose("u", "t").values
    levels = np.linspace(np.nanmin(values), np.nanmax(values), _LEVELS)
    t, u = found["t"].values, found["u"].values
    filled = axes.contourf(t, u, values, levels=levels, cmap=colormaps[style.SEQUENTIAL])
    model = found["quadratic"].transpose("u", "t").values
    axes.contour(t, u, model, levels=levels, colors="white", linestyles="dashed", linewidths=0.8)
    axes.plot([0], [0], marker="+", color="white", markersize=9, label="_theta")
    axes.set(xlabel=found["t"].attrs["long_name"], ylabel=found["u"].attrs["long_name"])
    axes.tick_params(labelsize=style.points(8))
    bar = figure.colorbar(filled, ax=axes, label=f"{split} loss (nat)", pad=0.02)
    bar.ax.tick_params(labelsize=style.points(8))
    style.write_heading(axes, f"{_name(found)}; dashed: quadratic model of the training loss")
    return figure


def _name(found: xr.Dataset) -> str:
    """Return the name of the grid point of a slice, or those of the ends of a path."""
    if "ends" in found.attrs:
        return " → ".join(found.attrs["ends"])
    axis, run = axis_of(found), f"run {int(found['run'])} (seed {int(found['seed'])}, {found['direction'].values})"
    return f"{value_text(axis, float(found[axis]))}, {run}"
