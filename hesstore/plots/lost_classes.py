"""Marks at the λ where classes are lost: names above the axes, or one row per class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hesstore.analysis.lost_classes import NO_VALUES
from hesstore.plots.style import INK, class_colour, class_marker, points

if TYPE_CHECKING:
    from collections.abc import Iterator

    import xarray as xr
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

_CHARACTER = 0.0725
"""Width of a character on a screen, in inches."""
_FOOT = 0.004
"""Distance of the feet of lines that would fall on one spot, as a share of the axes."""
_LEADER = 0.035
"""Height of the lines that lead to the names, as a share of the axes."""
_HEIGHT = 15.0
"""Height of lines and names together, in points."""


def mark_lost_classes(axes: Axes, labels: list[str], l2: NDArray[np.float64]) -> float:
    """Write the name of each class above ``axes``, with a line to the λ where it is lost; return their height.

    Parameters
    ----------
    axes : Axes
        Axes along λ; their limits do not change.
    labels, l2
        (C,) names of the classes, and the λ at which they are lost; NaN for classes that are not lost.

    Returns
    -------
    float
        The height of the marks in points.
    """
    left, right = axes.get_xlim()
    axes.set_xlim(left, right)
    places = (l2 - left) / (right - left)
    feet = _spread(np.full(len(labels), _FOOT), places)
    for index, middle in _spread(_widths(axes, labels), places).items():
        axes.plot(
            [feet[index], middle],
            [1, 1 + _LEADER],
            color=class_colour(index),
            linewidth=1.3,
            transform=axes.transAxes,
            clip_on=False,
            label=f"_lost {labels[index]}",
        )
        axes.text(
            middle, 1.005 + _LEADER, labels[index], ha="center", fontsize=points(7), color=INK, transform=axes.transAxes
        )
    return _HEIGHT if np.isfinite(l2).any() else 0.0


def _widths(axes: Axes, labels: list[str]) -> NDArray[np.float64]:
    """Return the widths of names, with a space each, as shares of the axes before the figure is laid out."""
    character = points(_CHARACTER) * axes.figure.dpi / axes.bbox.width
    return np.array([character * (len(label) + 1) for label in labels])


def _spread(widths: NDArray[np.float64], places: NDArray[np.float64]) -> dict[int, float]:
    """Return the middle of each thing by class, from left to right: near its place, but without overlaps."""
    clusters: list[list[int]] = []
    for index in np.argsort(places, kind="stable")[: int(np.isfinite(places).sum())]:
        clusters.append([int(index)])
        while len(clusters) > 1 and _touch(widths, places, clusters[-2], clusters[-1]):
            last = clusters.pop()
            clusters[-1] += last
    return {index: middle for members in clusters for index, middle in _row(widths, places, members)}


def _touch(widths: NDArray[np.float64], places: NDArray[np.float64], a: list[int], b: list[int]) -> bool:
    return bool(places[b].mean() - places[a].mean() < widths[a + b].sum() / 2)


def _row(widths: NDArray[np.float64], places: NDArray[np.float64], members: list[int]) -> Iterator[tuple[int, float]]:
    """Yield the middles of things that stand side by side, centred at the mean of their places."""
    end = float(places[members].mean() - widths[members].sum() / 2)
    for index in members:
        yield index, end + float(widths[index]) / 2
        end += float(widths[index])


def draw_lost_classes(axes: Axes, labels: list[str], losses: dict[str, xr.Dataset], axis: str) -> None:
    """Draw one row per class with the value of ``axis`` at which it is lost in each direction, up filled and down open.

    The two are joined. Lines through the markers are the intervals (:func:`hesstore.analysis.lost_classes`); open ones
    reach the edge.
    """
    left, right = axes.get_xlim()
    for row, label in enumerate(labels):
        colour = class_colour(row)
        rows = {direction: loss.isel(label=row) for direction, loss in losses.items()}
        places = [float(loss[f"lost_{axis}"]) for loss in rows.values()]
        overlap = len(places) > 1 and not abs(places[0] - places[1]) >= 0.015 * (right - left)
        heights = [row - 0.2, row + 0.2] if overlap else [float(row)] * len(places)
        axes.plot(places, heights, color=colour, linewidth=0.9, linestyle=":", label=f"_joined {label}")
        for (direction, loss), place, height in zip(rows.items(), places, heights, strict=True):
            ends = (float(loss["low"]), float(loss["high"]))
            if str(loss["censored"].values) != NO_VALUES:
                low, high = (end if np.isfinite(end) else edge for end, edge in zip(ends, (left, right), strict=True))
                axes.plot(
                    [low, high], [height] * 2, color=colour, linewidth=0.9, label=f"_interval {direction} {label}"
                )
            face = "white" if direction == "down" else colour
            marker: dict[str, Any] = {"marker": class_marker(row), "markersize": 4.5, "markerfacecolor": face}
            axes.plot([place], [height], color=colour, label=f"_{direction} {label}", **marker)
    axes.set(xlim=(left, right), yticks=range(len(labels)), yticklabels=labels, ylim=(len(labels) - 0.4, -0.6))
    axes.tick_params(axis="y", labelsize=points(7))
