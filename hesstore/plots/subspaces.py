"""Eigenvectors at one λ against those at others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap

from hesstore.analysis import overlap_map, track
from hesstore.analysis.selection import require_variables
from hesstore.errors import AnalysisError
from hesstore.plots import style
from hesstore.plots.loss_marks import mark_losses
from hesstore.plots.plot_data import labels_of, losses, named, outliers, with_gaps

if TYPE_CHECKING:
    from collections.abc import Callable

    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray


@style.styled
def overlap(
    ds: xr.Dataset, run: int = 0, k: int | None = None, progress: Callable[[int, int], None] | None = None
) -> Figure:
    """Overlap of the spans of the first k eigenvectors at all pairs of λ; λ that are not complete are grey.

    Parameters
    ----------
    ds : Dataset
        A store.
    run : int
        Run ID.
    k : int, optional
        Eigenvectors of each span; by default classes − 1, the ones that stand out, or as many as there are.
    progress : callable, optional
        Is told (pairs done, all pairs).

    Raises
    ------
    AnalysisError
        If the run is not there, fewer than two λ of it are complete, or k is out of range.
    """
    figure = style.sheet(6.2, 5.2)
    axes = figure.subplots()
    draw_overlap(axes, ds, run, k, progress)
    axes.set_aspect("equal")
    room = mark_losses(axes, labels_of(ds), losses(ds, run))
    style.heading(axes, named(ds, run), room)
    return figure


def draw_overlap(
    axes: Axes, ds: xr.Dataset, run: int, k: int | None, progress: Callable[[int, int], None] | None
) -> None:
    """The axes of :func:`overlap`, with their colour bar."""
    _require_vectors(ds)
    k = outliers(ds, k)
    found = overlap_map(ds, k, run, progress)
    _require_two(found, run)
    whole = with_gaps(found, ds)
    whole = whole.reindex(l2_other=whole["l2"].values)
    sides = _edges(whole["l2"].values)
    values = np.ma.masked_invalid(whole["overlap"].values)
    colours = colormaps[style.SEQUENTIAL].with_extremes(bad=style.MISSING)
    mesh = axes.pcolormesh(sides, sides, values, cmap=colours, vmin=0, vmax=1, rasterized=True)
    axes.set(xlabel="L2 strength λ", ylabel="other λ")
    axes.tick_params(labelsize=8)
    chance = float(found["chance"])
    label = f"overlap of the spans of the\nfirst {k} eigenvectors (chance {chance:.1g})"
    bar = axes.figure.colorbar(mesh, ax=axes, label=label, pad=0.02, fraction=0.046)
    bar.ax.tick_params(labelsize=8)


def _edges(centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n + 1,) of the cells around ``centres``: midpoints, and as far beyond the ends."""
    middles = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - middles[0]], middles, [2 * centres[-1] - middles[-1]]])


@style.styled
def tracks(
    ds: xr.Dataset, run: int = 0, k: int | None = None, progress: Callable[[int, int], None] | None = None
) -> Figure:
    """Eigenvalues joined along the tracks of their eigenvectors; a link is as strong as the squared overlap there.

    Magnitudes, with open marks at negative ones. Digits above are the classes, at the λ where they are lost.

    Parameters
    ----------
    ds : Dataset
        A store.
    run : int
        Run ID.
    k : int, optional
        Number of tracks; by default all modes.
    progress : callable, optional
        Is told (λ done, all λ).

    Raises
    ------
    AnalysisError
        If the run is not there, fewer than two λ of it are complete, or k is out of range.
    """
    _require_vectors(ds)
    found = track(ds, run, k, progress)
    _require_two(found, run)
    figure = style.sheet(7.2, 4.6)
    axes = style.along_l2(figure.subplots())
    _draw_links(axes, found)
    axes.set(ylabel="|eigenvalue| of the Hessian\nof the mean training loss (nat)", yscale="log")
    room = mark_losses(axes, labels_of(ds), losses(ds, run))
    has_negative = bool((found["eigenvalue"].values < 0).any())
    style.heading(axes, named(ds, run) + (";  □ negative" if has_negative else ""), room)
    return figure


def _draw_links(axes: Axes, found: xr.Dataset) -> None:
    values = found["eigenvalue"].transpose("l2", "track").values
    confidence = found["confidence"].transpose("l2", "track").values[1:].ravel()
    x = np.broadcast_to(found["l2"].values[:, None], values.shape)
    points = np.stack([x, np.abs(values)], axis=-1)
    segments = np.stack([points[:-1], points[1:]], axis=2).reshape(-1, 2, 2)
    there = np.isfinite(confidence) & np.isfinite(segments).all((1, 2))
    order = np.argsort(confidence[there], kind="stable")  # strong links on top
    strength = confidence[there][order]
    links = LineCollection(
        segments[there][order].tolist(),
        array=strength,
        cmap=_ink_map(),
        linewidths=(0.3 + strength) * (1.5 if values.size <= style.MANY else 0.8),
        rasterized=bool(there.sum() > style.MANY),
    )
    links.set_clim(0, 1)
    axes.add_collection(links)
    negative = values < 0
    axes.plot(
        x[negative],
        -values[negative],
        "s",
        color=style.COLOURS[2],
        markerfacecolor="none",
        markersize=3 if len(values) <= style.DENSE else 1.6,
        markeredgewidth=0.5,
        rasterized=bool(negative.sum() > style.MANY),
        label="negative",
    )
    axes.autoscale_view()
    bar = axes.figure.colorbar(links, ax=axes, label="squared overlap of the link", pad=0.015, fraction=0.05)
    bar.ax.tick_params(labelsize=8)


def _ink_map() -> ListedColormap:
    """Pale for weak links, dark for strong ones, on white paper."""
    return ListedColormap(colormaps[style.SEQUENTIAL](np.linspace(0.93, 0.0, 256)))


def _require_vectors(ds: xr.Dataset) -> None:
    require_variables(ds, "eigenvectors", "eigenvalues", "status")


def _require_two(found: xr.Dataset, run: int) -> None:
    if found.sizes["l2"] < 2:
        raise AnalysisError(f"one λ alone of run {run} is complete: two are needed; run the sweep further")
