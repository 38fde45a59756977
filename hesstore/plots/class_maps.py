"""Maps of class × mode at one grid point: shares of the curvature, and responses to steps."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes

from hesstore.analysis import sensitivity
from hesstore.analysis.selection import mode_count
from hesstore.config.l2_grid import value_text
from hesstore.errors import AnalysisError
from hesstore.plots import style
from hesstore.plots.run_data import class_names, complete_point, default_l2, mode_label, point_name
from hesstore.store.schema import axis_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    import xarray as xr
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

_NAMES = ("class_curvature", "class_slope", "confusion", "eigenvalues")
_SIGN_FROM = 0.06
"""Share of the colour range above which a negative cell shows a minus sign."""
_SIGN_HEIGHT = 0.07
"""Height of that sign in inches; lower rows have none."""
_LABEL_HEIGHT, _EIGENVALUE_WIDTH = 0.12, 0.1
"""The room for a label of a class and of an eigenvalue, in inches: where there is less, only some are labelled."""
_MAX_SIZE = 14.0
"""Maximum width and height of a map, in inches."""
CANCELLED = 0.5
"""If the sum over classes is a smaller share of the sum of their magnitudes, the mode is marked: classes cancel."""

_NO_RESPONSES = (
    "responses: along no mode does a step up to half the norm of the weights raise the loss as far as --response says"
)


@style.in_style
def classes(ds: xr.Dataset, run: int = 0, l2: float | None = None, split: str = "train") -> Figure:
    """Draw how much each class contributes to the curvature along each mode at one grid point, as a map.

    Each cell is the class's share of the curvature along the eigenvector, π_c vᵀH_c v / Σ_c π_c vᵀH_c v
    (:func:`hesstore.analysis.sensitivity`). The shares of a mode sum to 1 and can be negative. The eigenvalues are
    written above the map. A star marks modes along which the classes nearly cancel: the sum of their parts is less than
    half of the sum of the magnitudes, so that shares are large because their denominator is small.

    Parameters
    ----------
    ds : Dataset, path or URL
        A store.
    run : int
        Run ID.
    l2 : float, optional
        λ of a complete grid point; by default the last one before the first class is lost.
    split : str
        ``"train"`` or ``"test"``: the rows whose loss is used.
    ax : Axes, optional
        Axes to draw in, instead of a new figure; several panels take its place.

    Raises
    ------
    AnalysisError
        If the run or grid point does not exist or is not complete, or the store lacks the variables.
    """
    where = default_l2(ds, run) if l2 is None else l2
    figure = style.new_figure(*_size(ds, 1))
    axes = figure.subplots()
    draw_classes(axes, ds, run, where, split)
    figure.suptitle(f"{point_name(ds, run, where)}, {split} split", fontsize=style.points(9), x=0.01, ha="left")
    return figure


def draw_classes(axes: Axes, ds: xr.Dataset, run: int, l2: float, split: str) -> None:
    """Draw the axes of :func:`classes` and their colour bar."""
    axis = axis_of(ds)
    point = complete_point(ds, run, l2, *_NAMES)
    found = sensitivity(point, run, split).isel({axis: 0}).transpose("label", "mode")
    shares, parts = found["curvature_share"].values, found["curvature"].values
    _require_some(
        shares, value_text(axis, l2), run, "shares of the curvature: sweep with data that has rows of every class"
    )
    _draw_map(axes, ds, shares)
    cancelled = np.abs(np.nansum(parts, 0)) < CANCELLED * np.nansum(np.abs(parts), 0)
    _name_modes(axes, point["eigenvalues"].isel({"run": 0, axis: 0}).values, cancelled)
    _draw_colour_bar(axes, "share of the curvature\nalong the mode", shares)


@style.in_style
def response(ds: xr.Dataset, run: int = 0, l2: float | None = None) -> Figure:
    """Draw how the test accuracy of each class changes for a step along each mode, at one grid point.

    The upper map is for a step along −v, the lower for one along +v. The step is the one at which the training loss has
    risen by the setting ``response`` of the sweep, 0.1 nat by default. A cross marks a mode along which no step up to
    half the norm of the weights does so.

    Parameters
    ----------
    ds : Dataset, path or URL
        A store.
    run : int
        Run ID.
    l2 : float, optional
        λ of a complete grid point; by default the last one before the first class is lost.
    ax : Axes, optional
        Axes to draw in, instead of a new figure; several panels take its place.

    Raises
    ------
    AnalysisError
        If the run or grid point does not exist or is not complete, or has no responses.
    """
    where = default_l2(ds, run) if l2 is None else l2
    point = complete_point(ds, run, where, "class_response", "eigenvalues").isel({"run": 0, axis_of(ds): 0})
    changes = point["class_response"].transpose("sign", "label", "mode")
    _require_some(changes.values, value_text(axis_of(ds), where), run, _NO_RESPONSES)
    figure = style.new_figure(*_size(ds, 2))
    panels = figure.subplots(2, 1, sharex=True)
    for axes, sign, values in zip(panels, ("−", "+"), changes.values, strict=True):
        _draw_map(axes, ds, values, _limit(changes.values))
        axes.set_ylabel(f"class, step along {sign}v")
        _mark_unreached(axes, values, point["eigenvalues"].values)
    panels[0].set_xlabel("")
    _name_modes(panels[0], point["eigenvalues"].values)
    _draw_colour_bar(panels, "change of the class's test accuracy", changes.values)
    figure.suptitle(point_name(ds, run, where), fontsize=style.points(9), x=0.01, ha="left")
    return figure


def draw_response(axes: Axes, ds: xr.Dataset, run: int, l2: float) -> None:
    """Draw the mean response over both signs of each mode, and its colour bar; crosses as in :func:`response`."""
    axis = axis_of(ds)
    point = complete_point(ds, run, l2, *_NAMES, "class_response")
    changes = sensitivity(point, run)["response"].isel({axis: 0}).transpose("label", "mode").values
    _require_some(changes, value_text(axis, l2), run, _NO_RESPONSES)
    _draw_map(axes, ds, changes)
    _mark_unreached(axes, changes, point["eigenvalues"].isel({"run": 0, axis: 0}).values)
    _name_modes(axes, point["eigenvalues"].isel({"run": 0, axis: 0}).values)
    _draw_colour_bar(axes, "change of test accuracy,\nmean over steps along ±v", changes)


def _size(ds: xr.Dataset, panels: int) -> tuple[float, float]:
    width = 2.4 + 0.2 * max(mode_count(ds), 12)
    height = 1.4 + panels * 0.2 * max(ds.sizes["label"], 8)
    return min(width, _MAX_SIZE), min(height, _MAX_SIZE)


def _require_some(values: NDArray[np.float64], where: str, run: int, what: str) -> None:
    if not np.isfinite(values).any():
        raise AnalysisError(f"{where} of run {run} has no {what}")


def _mark_unreached(axes: Axes, values: NDArray[np.float64], eigenvalues: NDArray[np.float64]) -> None:
    """Mark the modes of a map (label, mode) that were found but have no step."""
    unreached = np.flatnonzero(np.isnan(values).all(0) & np.isfinite(eigenvalues))
    if not unreached.size:  # an empty line has no extent, and the layout fails
        return
    axes.plot(
        unreached + 0.5,
        np.full(len(unreached), -0.02),
        "x",
        color=style.INK,
        markersize=4,
        transform=axes.get_xaxis_transform(),
        clip_on=False,
    )


def _limit(values: NDArray[np.float64]) -> float:
    """Return the limit of the colours: the largest magnitude, at most 1."""
    return min(float(np.nanmax(np.abs(values))), 1.0) or 1.0


def _draw_map(axes: Axes, ds: xr.Dataset, values: NDArray[np.float64], limit: float | None = None) -> None:
    """Draw ``values`` (label, mode) of the classes and modes of ``ds``."""
    labels, limit = class_names(ds), _limit(values) if limit is None else limit
    height = _inches(axes)[1]
    colours = colormaps[style.DIVERGING].reversed().with_extremes(bad=style.MISSING)
    axes.pcolormesh(
        np.ma.masked_invalid(values),
        cmap=colours,
        vmin=-limit,
        vmax=limit,
        edgecolors="white",
        linewidth=0.4 if len(labels) * _LABEL_HEIGHT <= height else 0,
        rasterized=values.size > style.RASTERISE_ABOVE,
    )
    for row, mode in np.argwhere(values < -_SIGN_FROM * limit) if len(labels) * _SIGN_HEIGHT <= height else ():
        axes.text(
            mode + 0.5,
            row + 0.47,
            "−",
            ha="center",
            va="center",
            fontsize=style.points(7),
            color=_ink(values[row, mode], limit),
        )
    every = range(0, values.shape[1], _step(values.shape[1], 12))
    axes.set_xticks([mode + 0.5 for mode in every], labels=[str(mode) for mode in every])
    rows = range(0, len(labels), _step(len(labels), height / _LABEL_HEIGHT))
    axes.set_yticks([row + 0.5 for row in rows], labels=[labels[row] for row in rows])
    axes.tick_params(labelsize=style.points(8), length=2)
    axes.set(xlabel=mode_label(ds), ylabel="class", ylim=(len(labels), 0))
    axes.spines[:].set_visible(False)


def _inches(axes: Axes) -> tuple[float, float]:
    """Return the approximate width and height of ``axes``, before their figure is laid out."""
    return axes.bbox.width / axes.figure.dpi, axes.bbox.height / axes.figure.dpi


def _step(count: int, most: float) -> int:
    """Return the distance between labels if up to ``most`` of them are legible: 1 for all, or a multiple of 5."""
    return 1 if count <= most else 5 * math.ceil(count / (5 * max(most, 10)))


def _ink(value: float, limit: float) -> str:
    """Return a text colour that is readable on the colour of ``value``."""
    return "white" if abs(value) > 0.6 * limit else style.INK


def _name_modes(axes: Axes, eigenvalues: NDArray[np.float64], cancelled: NDArray[np.bool_] | None = None) -> None:
    """Write each eigenvalue above its mode, with a star where the classes cancel."""
    above = axes.secondary_xaxis("top")
    stars = np.zeros(eigenvalues.shape, bool) if cancelled is None else cancelled & np.isfinite(eigenvalues)
    step = _step(eigenvalues.size, _inches(axes)[0] / _EIGENVALUE_WIDTH)
    named = [mode for mode in range(0, eigenvalues.size, step) if np.isfinite(eigenvalues[mode])]
    texts = [_short(eigenvalues[mode]) + ("*" if stars[mode] else "") for mode in named]
    above.set_xticks(np.array(named) + 0.5, labels=texts, rotation=90)
    above.tick_params(labelsize=style.points(6.5), length=2)
    above.set_xlabel("eigenvalue (nat)" + ("; *: the classes cancel" if stars.any() else ""), fontsize=style.points(8))
    above.spines[:].set_visible(False)


def _short(value: float) -> str:
    """Return ``value`` with two digits: 2.5, 0.024, 3.1e−5."""
    number, _, exponent = f"{value:#.2g}".partition("e")
    digits = number.removesuffix(".")
    return (f"{digits}e{int(exponent)}" if exponent else digits).replace("-", "−")


def _draw_colour_bar(axes: Axes | Iterable[Axes], label: str, values: NDArray[np.float64]) -> None:
    """Draw the colour bar of the maps in ``axes``."""
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
    bar.ax.tick_params(labelsize=style.points(8))
    bar.outline.set_visible(False)
