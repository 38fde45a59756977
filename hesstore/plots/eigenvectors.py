"""Eigenvectors compared between grid points: overlaps of spans, and tracks along λ."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from matplotlib.collections import LineCollection

from hesstore.analysis import overlap_map, track
from hesstore.analysis.attributes import other_axis
from hesstore.analysis.selection import complete, evenly_spaced, matrix_name, require_variables
from hesstore.config.l2_grid import axis_symbol
from hesstore.errors import AnalysisError
from hesstore.plots import style
from hesstore.plots.lost_classes import mark_lost_classes
from hesstore.plots.run_data import class_names, default_k, lost_at, run_name, with_gaps
from hesstore.store.schema import axis_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

MAX_POINTS = 151
"""Maximum number of grid points in an overlap map: every third one of the 451 of the published grid."""


@style.in_style
def overlap(
    ds: xr.Dataset, run: int = 0, k: int | None = None, progress: Callable[[int, int], None] | None = None
) -> Figure:
    """Draw the overlap of the spans of the first k eigenvectors at all pairs of grid points.

    Grid points that are not complete are grey. Of more than 151 grid points, evenly spaced ones are drawn, and the
    heading says how many: the time grows with the square of their number, and more cells are hardly visible.
    :func:`hesstore.analysis.overlap_map` computes all of them.

    Parameters
    ----------
    ds : Dataset, path or URL
        A store.
    run : int
        Run ID.
    k : int, optional
        Number of eigenvectors of each span; by default classes − 1, the number that stand out, or all modes if there
        are fewer.
    progress : callable, optional
        Called with (pairs done, all pairs).
    ax : Axes, optional
        Axes to draw in, instead of a new figure; several panels take its place.

    Raises
    ------
    AnalysisError
        If the run does not exist, has fewer than two complete grid points, or k is out of range.
    """
    figure = style.new_figure(6.2, 5.2)
    axes = figure.subplots()
    draw_overlap(axes, ds, run, k, progress)
    axes.set_aspect("equal")
    room = mark_lost_classes(axes, class_names(ds), lost_at(ds, run))
    style.write_heading(axes, run_name(ds, run) + overlap_note(ds, run), room)
    return figure


def draw_overlap(
    axes: Axes, ds: xr.Dataset, run: int, k: int | None, progress: Callable[[int, int], None] | None
) -> None:
    """Draw the axes of :func:`overlap` and their colour bar."""
    axis = axis_of(ds)
    _require_vectors(ds)
    k = default_k(ds) if k is None else k
    ds = ds.isel({axis: _drawn_points(ds, run)})
    overlaps = overlap_map(ds, k, run, progress)
    _require_two_points(overlaps, run)
    chance = float(overlaps["chance"])
    overlaps = with_gaps(overlaps, ds)
    overlaps = overlaps.reindex({other_axis(axis): overlaps[axis].values})
    sides = _edges(overlaps[axis].values)
    values = np.ma.masked_invalid(overlaps["overlap"].values)
    colours = colormaps[style.SEQUENTIAL].with_extremes(bad=style.MISSING)
    mesh = axes.pcolormesh(sides, sides, values, cmap=colours, vmin=0, vmax=1, rasterized=True)
    axes.set(xlabel=style.grid_label(ds), ylabel=f"other {axis_symbol(axis)}")
    axes.tick_params(labelsize=style.points(8))
    label = f"overlap of the spans of the\nfirst {k} eigenvectors (chance {chance:.1g})"
    bar = axes.figure.colorbar(mesh, ax=axes, label=label, pad=0.02, fraction=0.046)
    bar.ax.tick_params(labelsize=style.points(8))


def overlap_note(ds: xr.Dataset, run: int) -> str:
    """Return a note for the heading of an overlap map that does not have all grid points; otherwise nothing."""
    shown, all_points = _drawn_points(ds, run).size, _span(ds, run).size
    return f";  {shown} of {all_points} grid points" if shown < all_points else ""


def _span(ds: xr.Dataset, run: int) -> NDArray[np.intp]:
    """Return the positions along λ from the first to the last complete grid point of ``run``."""
    axis = axis_of(ds)
    shown, values = complete(ds[["status"]], run)[axis].values, ds[axis].values
    return np.flatnonzero((values >= shown[0]) & (values <= shown[-1]))


def _drawn_points(ds: xr.Dataset, run: int) -> NDArray[np.intp]:
    positions = _span(ds, run)
    return positions[evenly_spaced(positions.size, MAX_POINTS)]


def _edges(centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the edges (n + 1,) of cells around ``centres``: midpoints, and their mirror images at both ends."""
    midpoints = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - midpoints[0]], midpoints, [2 * centres[-1] - midpoints[-1]]])


@style.in_style
def tracks(
    ds: xr.Dataset, run: int = 0, k: int | None = None, progress: Callable[[int, int], None] | None = None
) -> Figure:
    """Draw the eigenvalues against λ, joined along the tracks of their eigenvectors.

    The larger the squared overlap of a link, the darker and wider it is. The axis shows magnitudes; negative
    eigenvalues have open squares. The names above the axes mark the λ at which classes are lost.

    Parameters
    ----------
    ds, run, k, progress
        See :func:`hesstore.analysis.track`.
    ax : Axes, optional
        Axes to draw in, instead of a new figure; several panels take its place.

    Raises
    ------
    AnalysisError
        If the run does not exist, has fewer than two complete grid points, or k is out of range.
    """
    _require_vectors(ds)
    found = track(ds, run, k, progress)
    _require_two_points(found, run)
    figure = style.new_figure(7.2, 4.6)
    axes = style.set_up_grid_axes(figure.subplots(), ds)
    _draw_links(axes, found)
    axes.set(ylabel=f"|eigenvalue| of the {matrix_name(ds)}\nof the mean training loss (nat)", yscale="log")
    room = mark_lost_classes(axes, class_names(ds), lost_at(ds, run))
    has_negative = bool((found["eigenvalue"].values < 0).any())
    style.write_heading(axes, run_name(ds, run) + (";  □ negative" if has_negative else ""), room)
    return figure


def _draw_links(axes: Axes, found: xr.Dataset) -> None:
    axis = axis_of(found)
    values = found["eigenvalue"].transpose(axis, "track").values
    confidence = found["confidence"].transpose(axis, "track").values[1:].ravel()
    x = np.broadcast_to(found[axis].values[:, None], values.shape)
    points = np.stack([x, np.abs(values)], axis=-1)
    segments = np.stack([points[:-1], points[1:]], axis=2).reshape(-1, 2, 2)
    is_link = np.isfinite(confidence) & np.isfinite(segments).all((1, 2))
    order = np.argsort(confidence[is_link], kind="stable")  # draws links of large overlap on top
    overlaps = confidence[is_link][order]
    links = LineCollection(
        segments[is_link][order].tolist(),
        array=overlaps,
        cmap=style.link_colours(),
        linewidths=(0.3 + overlaps) * (1.5 if values.size <= style.RASTERISE_ABOVE else 0.8),
        rasterized=bool(is_link.sum() > style.RASTERISE_ABOVE),
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
        markersize=3 if len(values) <= style.DENSE_GRID else 1.6,
        markeredgewidth=0.5,
        rasterized=bool(negative.sum() > style.RASTERISE_ABOVE),
        label="negative",
    )
    axes.autoscale_view()
    bar = axes.figure.colorbar(links, ax=axes, label="squared overlap of the link", pad=0.015, fraction=0.05)
    bar.ax.tick_params(labelsize=style.points(8))


def _require_vectors(ds: xr.Dataset) -> None:
    require_variables(ds, "eigenvectors", "eigenvalues", "status")


def _require_two_points(result: xr.Dataset, run: int) -> None:
    if result.sizes[axis_of(result)] < 2:
        raise AnalysisError(
            f"run {run} has only one complete grid point, but this figure needs two: run the sweep further"
        )
