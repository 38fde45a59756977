"""Clusters of eigenvalues against λ, joined where their spans continue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.collections import LineCollection

from hesstore import analysis
from hesstore.analysis.selection import matrix_name
from hesstore.errors import AnalysisError
from hesstore.plots import style
from hesstore.plots.run_data import run_name
from hesstore.store.schema import axis_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_Link = tuple[tuple[tuple[float, float], tuple[float, float]], float]
"""The ends of a link, and its overlap."""


@style.in_style
def clusters(
    ds: xr.Dataset, run: int = 0, k: int | None = None, progress: Callable[[int, int], None] | None = None
) -> Figure:
    """Draw clusters of nearly equal eigenvalues against λ, joined where the spans of their eigenvectors continue.

    A bar reaches from the smallest to the largest magnitude of a cluster; its width grows with the number of modes. The
    larger the overlap of a cluster with the last one of its track, the darker is the line between them. Unlike single
    eigenvectors (``tracks``), spans of clusters are determined also where eigenvalues are nearly equal.

    Parameters
    ----------
    ds, run, k, progress
        See :func:`hesstore.analysis.clusters`.
    ax : Axes, optional
        Axes to draw in, instead of a new figure; several panels take its place.

    Raises
    ------
    AnalysisError
        If the run does not exist, has fewer than two complete grid points, or k is out of range.
    """
    found = analysis.clusters(ds, run, k, progress=progress)
    if found.sizes[axis_of(ds)] < 2:
        raise AnalysisError(
            f"run {run} has only one complete grid point, but this figure needs two: run the sweep further"
        )
    figure = style.new_figure(7.2, 4.6)
    axes = style.set_up_grid_axes(figure.subplots(), ds)
    _draw_links(axes, list(_links(found)))
    _draw_bars(axes, found)
    axes.autoscale_view()
    axes.set(ylabel=f"|eigenvalue| of the {matrix_name(ds)}\nof the mean training loss (nat)", yscale="log")
    style.write_heading(axes, run_name(ds, run))
    return figure


def _groups(found: xr.Dataset) -> Iterator[tuple[int, float, float, float, int, float]]:
    """Yield the track, λ, the smallest and the largest magnitude, the size and the overlap of each cluster."""
    axis = axis_of(found)
    for at, l2 in enumerate(found[axis].values):
        row = found.isel({axis: at})
        tracks = row["track"].values
        for number in np.unique(tracks[tracks >= 0]):
            members = tracks == number
            magnitudes = np.abs(row["eigenvalue"].values[members])
            overlap = float(row["overlap"].values[members][0])
            yield int(number), float(l2), float(magnitudes.min()), float(magnitudes.max()), int(members.sum()), overlap


def _links(found: xr.Dataset) -> Iterator[_Link]:
    """Yield the links between the clusters of each track, at the geometric means of their ends."""
    last: dict[int, tuple[float, float]] = {}
    for number, l2, low, high, _, overlap in _groups(found):
        here = (l2, float(np.sqrt(low * high)))
        if np.isfinite(overlap) and number in last:
            yield (last[number], here), overlap
        last[number] = here


def _draw_links(axes: Axes, links: list[_Link]) -> None:
    ordered = sorted(links, key=lambda link: link[1])  # draws links of large overlap on top
    lines = LineCollection(
        [link[0] for link in ordered],
        array=np.array([link[1] for link in ordered]),
        cmap=style.link_colours(),
        rasterized=len(ordered) > style.RASTERISE_ABOVE,
    )
    lines.set_clim(0, 1)
    axes.add_collection(lines)
    label = "overlap with the last span of the track"
    bar = axes.figure.colorbar(lines, ax=axes, label=label, pad=0.015, fraction=0.05)
    bar.ax.tick_params(labelsize=style.points(8))


def _draw_bars(axes: Axes, found: xr.Dataset) -> None:
    groups = list(_groups(found))
    bars = LineCollection(
        [((l2, low), (l2, high * (1 + 1e-3))) for _, l2, low, high, _, _ in groups],
        colors=style.COLOURS[0],
        linewidths=[3 + min(size, 10) / 3 for *_, size, _ in groups],
        capstyle="round",
        rasterized=len(groups) > style.RASTERISE_ABOVE,
    )
    axes.add_collection(bars)
