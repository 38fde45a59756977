"""Maps of class × mode at one λ."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes

from hesstore.analysis import sensitivity
from hesstore.errors import AnalysisError
from hesstore.plots import style
from hesstore.plots.plot_data import at_l2, labels_of, named, telling_l2

if TYPE_CHECKING:
    from collections.abc import Iterable

    import xarray as xr
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

_NAMES = ("class_curvature", "class_slope", "confusion", "eigenvalues")
_SEEN = 0.06
"""Share of the colour range from which a negative cell carries its sign."""


@style.styled
def classes(ds: xr.Dataset, run: int = 0, l2: float | None = None, split: str = "train") -> Figure:
    """Which classes curve which directions: class × mode at one λ.

    The cell is the class's share of the curvature along the eigenvector, π_c vᵀH_c v / Σ_c π_c vᵀH_c v
    (:func:`hesstore.analysis.sensitivity`); shares of a mode sum to 1 and can be negative. Above, the eigenvalues.

    Parameters
    ----------
    ds : Dataset
        A store.
    run : int
        Run ID.
    l2 : float, optional
        One of the complete λ; by default the last before the first class is lost.
    split : str
        ``"train"`` or ``"test"``: the rows that shares are of.

    Raises
    ------
    AnalysisError
        If the run or the λ is not there or not complete, or the store has no class geometry.
    """
    where = telling_l2(ds, run) if l2 is None else l2
    figure = style.sheet(*_size(ds, 1))
    axes = figure.subplots()
    draw_classes(axes, ds, run, where, split)
    figure.suptitle(f"λ = {where:g}, {named(ds, run)}, {split} split", fontsize=9, x=0.01, ha="left")
    return figure


def draw_classes(axes: Axes, ds: xr.Dataset, run: int, l2: float, split: str) -> None:
    """The axes of :func:`classes`, with their colour bar."""
    at = at_l2(ds, run, l2, *_NAMES)
    shares = sensitivity(at, run, split)["curvature_share"].isel(l2=0).transpose("label", "mode").values
    _require_some(shares, "shares of the curvature", "some rows of each class in the data")
    _draw_map(axes, labels_of(ds), shares)
    _name_modes(axes, at["eigenvalues"].isel(run=0, l2=0).values)
    _bar(axes, "share of the curvature\nalong the mode", shares)


@style.styled
def response(ds: xr.Dataset, run: int = 0, l2: float | None = None) -> Figure:
    """What moving along each mode does to each class's test accuracy, at one λ.

    Above, a step along −v, below along +v, each until the quadratic model of the training loss has risen by the
    ``response`` of the sweep, 0.1 nat by default.

    Parameters
    ----------
    ds : Dataset
        A store.
    run : int
        Run ID.
    l2 : float, optional
        One of the complete λ; by default the last before the first class is lost.

    Raises
    ------
    AnalysisError
        If the run or the λ is not there or not complete, or the store has no responses.
    """
    where = telling_l2(ds, run) if l2 is None else l2
    at = at_l2(ds, run, where, "class_response", "eigenvalues").isel(run=0, l2=0)
    changes = at["class_response"].transpose("sign", "label", "mode")
    _require_some(changes.values, "responses", "--response above 0")
    figure = style.sheet(*_size(ds, 2))
    panels = figure.subplots(2, 1, sharex=True)
    for axes, sign, values in zip(panels, ("−", "+"), changes.values, strict=True):
        _draw_map(axes, labels_of(ds), values, _limit(changes.values))
        axes.set_ylabel(f"class, step along {sign}v")
    panels[0].set_xlabel("")
    _name_modes(panels[0], at["eigenvalues"].values)
    _bar(panels, "change of the class's test accuracy", changes.values)
    figure.suptitle(f"λ = {where:g}, {named(ds, run)}", fontsize=9, x=0.01, ha="left")
    return figure


def draw_response(axes: Axes, ds: xr.Dataset, run: int, l2: float) -> None:
    """The mean over both ways along each mode, with its colour bar."""
    at = at_l2(ds, run, l2, *_NAMES, "class_response")
    changes = sensitivity(at, run)["response"].isel(l2=0).transpose("label", "mode").values
    _require_some(changes, "responses", "--response above 0")
    _draw_map(axes, labels_of(ds), changes)
    _name_modes(axes, at["eigenvalues"].isel(run=0, l2=0).values)
    _bar(axes, "change of test accuracy,\nmean of both ways", changes)


def _size(ds: xr.Dataset, panels: int) -> tuple[float, float]:
    width = 2.4 + 0.2 * max(ds.sizes["mode"], 12)
    return min(width, 14.0), 1.4 + panels * 0.2 * max(ds.sizes["label"], 8)


def _require_some(values: NDArray[np.float64], what: str, remedy: str) -> None:
    if not np.isfinite(values).any():
        raise AnalysisError(f"the store has no {what} there: sweep with {remedy}")


def _limit(values: NDArray[np.float64]) -> float:
    """Of the colours: the largest magnitude, at most 1."""
    return min(float(np.nanmax(np.abs(values))), 1.0) or 1.0


def _draw_map(axes: Axes, labels: list[str], values: NDArray[np.float64], limit: float | None = None) -> None:
    """(label, mode)."""
    limit = _limit(values) if limit is None else limit
    colours = colormaps[style.DIVERGING].reversed().with_extremes(bad=style.MISSING)
    axes.pcolormesh(
        np.ma.masked_invalid(values),
        cmap=colours,
        vmin=-limit,
        vmax=limit,
        edgecolors="white",
        linewidth=0.4,
        rasterized=values.size > style.MANY,
    )
    for row, mode in np.argwhere(values < -_SEEN * limit):
        axes.text(
            mode + 0.5, row + 0.47, "−", ha="center", va="center", fontsize=7, color=_ink(values[row, mode], limit)
        )
    every = range(0, values.shape[1], 1 if values.shape[1] <= 12 else 5)
    axes.set_xticks([mode + 0.5 for mode in every], labels=[str(mode) for mode in every])
    axes.set_yticks(np.arange(len(labels)) + 0.5, labels=labels)
    axes.tick_params(labelsize=8, length=2)
    axes.set(xlabel="mode, by |eigenvalue|", ylabel="class", ylim=(len(labels), 0))
    axes.spines[:].set_visible(False)


def _ink(value: float, limit: float) -> str:
    """Readable on the colour of ``value``."""
    return "white" if abs(value) > 0.6 * limit else style.INK


def _name_modes(axes: Axes, eigenvalues: NDArray[np.float64]) -> None:
    """Write each eigenvalue above its mode."""
    above = axes.secondary_xaxis("top")
    found = np.flatnonzero(np.isfinite(eigenvalues))
    above.set_xticks(found + 0.5, labels=[_short(eigenvalues[mode]) for mode in found], rotation=90)
    above.tick_params(labelsize=6.5, length=2)
    above.set_xlabel("eigenvalue (nat)", fontsize=8)
    above.spines[:].set_visible(False)


def _short(value: float) -> str:
    """Two digits: 2.5, 0.024, 3.1e−5."""
    number, _, exponent = f"{value:#.2g}".partition("e")
    digits = number.removesuffix(".")
    return (f"{digits}e{int(exponent)}" if exponent else digits).replace("-", "−")


def _bar(axes: Axes | Iterable[Axes], label: str, values: NDArray[np.float64]) -> None:
    """The colour bar of the maps in ``axes``."""
    panels = [axes] if isinstance(axes, Axes) else list(axes)
    mesh = panels[0].collections[0]
    extend = {(True, True): "both", (True, False): "min", (False, True): "max"}
    beyond = (bool(np.nanmin(values) < -_limit(values)), bool(np.nanmax(values) > _limit(values)))
    bar = panels[0].figure.colorbar(
        mesh,
        ax=panels,
        label=label,
        extend=extend.get(beyond, "neither"),
        pad=0.015,
        aspect=18 * len(panels),
        fraction=0.05,
    )
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
