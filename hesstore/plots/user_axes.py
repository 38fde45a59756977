"""Axes of the user's in which a figure is drawn, instead of a new figure."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from hesstore.errors import AnalysisError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TARGET: ContextVar[Axes | None] = ContextVar("target", default=None)
"""The axes in which the current figure is to be drawn, instead of a new figure."""


def given_axes() -> Axes | None:
    """Return the axes in which the user wants the current figure, or None for a figure of its own."""
    return TARGET.get()


class PlaceOfAxes:
    """What a function that draws a figure receives instead of one: the place of the user's axes in their figure."""

    def __init__(self, axes: Axes) -> None:
        self._axes = axes

    def subplots(self, rows: int = 1, columns: int = 1, **options: Any) -> Any:
        """Return the axes themselves, or several axes in their place.

        Raises
        ------
        AnalysisError
            If several axes are needed and the place is not a cell of a grid.
        """
        if rows == columns == 1:
            return self._axes
        cell = self._axes.get_subplotspec()
        if cell is None:
            raise AnalysisError("this figure has several panels: give an ax that plt.subplots made")
        part = self._axes.figure.add_subfigure(cell)
        self._axes.remove()
        self._part = part
        return part.subplots(rows, columns, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__.get("_part") or self._axes.figure, name)
