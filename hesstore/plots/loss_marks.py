"""Marks at the λ where classes are lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hesstore.plots.style import INK, class_colour, class_marker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

_CHARACTER = 0.013
"""Width of one, as a share of the axes."""
_LEADER = 0.035
"""Height of the lines that lead to the names, as a share of the axes."""
_HEIGHT = 15.0
"""Of lines and names, points."""


def mark_losses(axes: Axes, labels: list[str], lost: NDArray[np.float64]) -> float:
    """Write above ``axes`` each class, with a line to the λ where it is lost; returns the height of that, points.

    Parameters
    ----------
    axes : Axes
        Their abscissa is λ; its limits stay as they are.
    labels, lost
        (C,) the classes and their λ; NaN for those that are not lost.
    """
    left, right = axes.get_xlim()
    axes.set_xlim(left, right)
    places = (lost - left) / (right - left)
    for index, middle in _spread(labels, places).items():
        axes.plot(
            [places[index], middle],
            [1, 1 + _LEADER],
            color=class_colour(index),
            linewidth=1.3,
            transform=axes.transAxes,
            clip_on=False,
            label=f"_lost {labels[index]}",
        )
        axes.text(middle, 1.005 + _LEADER, labels[index], ha="center", fontsize=7, color=INK, transform=axes.transAxes)
    return _HEIGHT if np.isfinite(lost).any() else 0.0


def _spread(labels: list[str], places: NDArray[np.float64]) -> dict[int, float]:
    """Where names go, by class from left to right: near their places, but apart."""
    clusters: list[list[int]] = []
    for index in np.argsort(places, kind="stable")[: int(np.isfinite(places).sum())]:
        clusters.append([int(index)])
        while len(clusters) > 1 and _meet(labels, places, clusters[-2], clusters[-1]):
            last = clusters.pop()
            clusters[-1] += last
    return {index: middle for members in clusters for index, middle in _row(labels, places, members)}


def _meet(labels: list[str], places: NDArray[np.float64], a: list[int], b: list[int]) -> bool:
    return bool(places[b].mean() - places[a].mean() < _width(labels, a + b) / 2)


def _row(labels: list[str], places: NDArray[np.float64], members: list[int]) -> Iterator[tuple[int, float]]:
    """Names side by side around the mean of their places."""
    end = float(places[members].mean()) - _width(labels, members) / 2
    for index in members:
        width = _width(labels, [index])
        yield index, end + width / 2
        end += width


def _width(labels: list[str], members: list[int]) -> float:
    return _CHARACTER * sum(len(labels[index]) + 1 for index in members)


def draw_onsets(axes: Axes, labels: list[str], onsets: dict[str, NDArray[np.float64]]) -> None:
    """A row a class: the λ at which it is lost on the way up (filled) and on the way down (open), joined."""
    left, right = axes.get_xlim()
    for row, label in enumerate(labels):
        colour = class_colour(row)
        found = [values[row] for values in onsets.values()]
        meet = len(found) > 1 and abs(found[0] - found[1]) < 0.015 * (right - left)
        heights = [row - 0.2, row + 0.2] if meet else [float(row)] * len(found)
        axes.plot(found, heights, color=colour, linewidth=0.9, label=f"_joined {label}")
        for direction, value, height in zip(onsets, found, heights, strict=True):
            face = "white" if direction == "down" else colour
            marker: dict[str, Any] = {"marker": class_marker(row), "markersize": 4.5, "markerfacecolor": face}
            axes.plot([value], [height], color=colour, label=f"_{direction} {label}", **marker)
    axes.set(yticks=range(len(labels)), yticklabels=labels, ylim=(len(labels) - 0.4, -0.6))
    axes.tick_params(axis="y", labelsize=7)
