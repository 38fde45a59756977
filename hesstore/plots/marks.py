"""Marks at the λ where classes are lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hesstore.plots.style import INK, class_colour, class_marker

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

_CHARACTER = 0.013
"""Width of one, as a share of the axes."""
_HEIGHT = 11.0
"""Of the marks, points."""


def mark_losses(axes: Axes, labels: list[str], lost: NDArray[np.float64]) -> float:
    """Write above ``axes`` each class at the λ where it is lost; returns the height of that, points.

    Classes whose names would meet are written together, in the order in which they are lost; each has its own tick.

    Parameters
    ----------
    axes : Axes
        Their abscissa is λ, and has its limits.
    labels, lost
        (C,) the classes and their λ; NaN for those that are not lost.
    """
    left, right = axes.get_xlim()
    places = (lost - left) / (right - left)
    for index in np.flatnonzero(np.isfinite(lost)):
        _tick(axes, lost[index], class_colour(int(index)))
    for members in _clusters(labels, places):
        text = " ".join(labels[index] for index in members)
        half = min(_CHARACTER * len(text) / 2, 0.5)
        axes.annotate(
            text,
            (float(np.clip(_middle(places, members), half, 1 - half)), 1),
            (0, 5),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="center",
            fontsize=7,
            color=INK,
            annotation_clip=False,
        )
    return _HEIGHT if np.isfinite(lost).any() else 0.0


def _clusters(labels: list[str], places: NDArray[np.float64]) -> list[list[int]]:
    """Classes whose names would overlap, from left to right."""
    clusters: list[list[int]] = []
    for index in np.argsort(places, kind="stable")[: int(np.isfinite(places).sum())]:
        clusters.append([int(index)])
        while len(clusters) > 1 and _meet(labels, places, clusters[-2], clusters[-1]):
            last = clusters.pop()
            clusters[-1] += last
    return clusters


def _meet(labels: list[str], places: NDArray[np.float64], a: list[int], b: list[int]) -> bool:
    characters = sum(len(labels[index]) + 1 for index in (*a, *b))
    return _middle(places, b) - _middle(places, a) < _CHARACTER * characters / 2


def _middle(places: NDArray[np.float64], members: list[int]) -> float:
    return float(places[members].mean())


def _tick(axes: Axes, value: float, colour: str) -> None:
    """A short line up from the axes."""
    above: dict[str, Any] = {"xycoords": axes.get_xaxis_transform(), "textcoords": "offset points"}
    stroke = {"arrowstyle": "-", "color": colour, "linewidth": 1.6, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", (value, 1), (0, 4), arrowprops=stroke, annotation_clip=False, **above)


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
