"""Means and bands over seeds against λ."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hesstore.analysis.selection import require_split, require_variables
from hesstore.config.l2_grid import axis_symbol
from hesstore.errors import AnalysisError
from hesstore.plots import style
from hesstore.store.schema import Status, axis_of

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

_SETTING = "config_"
"""The prefix of coordinates of the settings in which several stores differ."""

_LABELS = {"accuracy": "accuracy", "loss": "mean cross-entropy (nat)", "weights_norm": "‖θ‖"}


@style.in_style
def bands(ds: xr.Dataset, split: str = "test") -> Figure:
    """Draw accuracy, loss and ‖θ‖ against λ: the mean over seeds, and a band from the lowest to the highest seed.

    Runs that differ only in their seed belong together; other directions, and other settings of several stores, have a
    line each. Only complete grid points count. A band needs two seeds.

    Parameters
    ----------
    ds : Dataset, path or URL
        A store, or several stores that were opened together.
    split : str
        ``"train"`` or ``"test"``.
    ax : Axes, optional
        Axes to draw in, instead of a new figure; several panels take its place.

    Raises
    ------
    AnalysisError
        If no grid point is complete.
    """
    require_split(split)
    require_variables(ds, "status", *_LABELS)
    axis = axis_of(ds)
    small = ds[["status", *_LABELS]].load()
    is_complete = small["status"].transpose("run", axis).values == Status.COMPLETE
    if not is_complete.any():
        raise AnalysisError("no grid point is complete: run the sweep first")
    groups = _groups(small)
    figure = style.new_figure(7.2, 7.6)
    panels = figure.subplots(len(_LABELS), 1, sharex=True)
    for axes, (name, label) in zip(panels, _LABELS.items(), strict=True):
        style.set_up_grid_axes(axes, small)
        array = small[name].sel(split=split) if "split" in small[name].dims else small[name]
        values = np.where(is_complete, array.transpose("run", axis).values, np.nan)
        for index, (text, rows) in enumerate(groups.items()):
            _draw_band(axes, small[axis].values, values[rows], style.COLOURS[index % len(style.COLOURS)], text)
        axes.set(ylabel=f"{split} {label}" if "split" in small[name].dims else label, xlabel="")
    panels[-1].set_xlabel(style.grid_label(small))
    style.draw_legend(panels[0])
    style.write_heading(panels[0], "mean over seeds, and the range from the lowest to the highest seed")
    return figure


def _groups(ds: xr.Dataset) -> dict[str, list[int]]:
    """Return the positions of the runs that differ only in their seed, by the label of their group."""
    names = [str(name) for name in ds.coords if str(name).startswith(_SETTING)]
    found: dict[str, list[int]] = {}
    for row in range(ds.sizes["run"]):
        facts = [f"{name.removeprefix(_SETTING)} = {ds[name].values[row]}" for name in names]
        found.setdefault(", ".join([*facts, f"{axis_symbol(axis_of(ds))} {ds['direction'].values[row]}"]), []).append(
            row
        )
    return {f"{text} ({len(rows)} seed{'s' if len(rows) > 1 else ''})": rows for text, rows in found.items()}


def _draw_band(axes: Axes, l2: NDArray[np.float64], values: NDArray[np.float64], colour: str, label: str) -> None:
    """Draw the mean and the range of ``values`` (runs, λ) where they are known."""
    known = np.isfinite(values)
    some = known.any(axis=0)
    l2, values, known = l2[some], values[:, some], known[:, some]
    mean = np.where(known, values, 0).sum(axis=0) / known.sum(axis=0)
    marks = style.marker_positions(mean)
    axes.plot(l2, mean, color=colour, linewidth=1.3, marker="o", markersize=3, markevery=marks, label=label)
    low = np.where(known, values, np.inf).min(axis=0)
    high = np.where(known, values, -np.inf).max(axis=0)
    several = known.sum(axis=0) > 1
    axes.fill_between(l2, low, high, where=several, color=colour, alpha=0.25, linewidth=0, label="_range")
