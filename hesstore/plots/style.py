"""The style of all figures: colours, markers, fonts, axes and legends.

The colours are Petroff's ten, which people with any colour vision can distinguish (arXiv 2107.02270). For print
without colour, each class also has its own marker, colour maps are ordered by lightness, and negative cells of
diverging maps show a minus sign.
"""

from __future__ import annotations

import inspect
from contextvars import ContextVar
from functools import wraps
from io import BytesIO
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import xarray as xr
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hesstore.analysis.selection import evenly_spaced
from hesstore.errors import AnalysisError
from hesstore.store import open as open_store
from hesstore.store.schema import axis_attrs, axis_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.legend import Legend
    from numpy.typing import ArrayLike, NDArray

    from hesstore.store.places.location import Location

COLOURS = (
    "#3f90da",
    "#ffa90e",
    "#bd1f01",
    "#94a4a2",
    "#832db6",
    "#a96b59",
    "#e76300",
    "#b9ac70",
    "#717581",
    "#92dadd",
)
MARKERS = ("o", "s", "^", "v", "D", "P", "X", "<", ">", "*")
DASHES: dict[str, Any] = {"up": "-", "down": (0, (3, 1.5))}
"""Line styles of the two directions along λ."""
INK = "0.15"
"""Colour of text, and of lines that belong to no class."""
SEQUENTIAL = "cividis"
DIVERGING = "PuOr"
MISSING = "0.8"
"""Colour of cells without a value."""

DENSE_GRID = 40
"""Number of grid points above which lines have markers only at some of them."""
RASTERISE_ABOVE = 2000
"""Number of points, lines or cells above which a vector file holds them as an image."""

_NOTEBOOK_DPI = 100
"""Resolution of a figure in a notebook."""

_LEGEND_ROWS = 15
"""Maximum number of entries in a column of a legend."""
_LEGEND_COLUMNS = 2
"""Maximum number of columns of a legend: of more lines, only some evenly spaced ones are named."""

_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "axes.linewidth": 0.7,
    "legend.fontsize": 8,
    "legend.title_fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.1,
}


class Drawing(Protocol):
    """A function that draws a figure of a store; its signature shows its further options."""

    def __call__(self, ds: xr.Dataset | Location, *args: Any, ax: Axes | None = None, **options: Any) -> Figure:
        """Draw the figure, or draw it in the place of ``ax``."""


def in_style(draw: Callable[..., Figure]) -> Drawing:
    """Decorate a function so that it draws its figure in this style, whatever the user's settings are.

    The store may also be a path or URL. With ``ax``, the figure is drawn there: one panel into ``ax`` itself, several
    panels in its place in the figure. The function then returns the figure that ``ax`` belongs to.
    """

    @wraps(draw)
    def draw_in_style(ds: xr.Dataset | Location, *args: Any, ax: Axes | None = None, **options: Any) -> Figure:
        whole = None if ax is None else ax.figure
        opened = ds if isinstance(ds, xr.Dataset) else open_store(ds)
        before = _target.set(ax)
        try:
            with rc_context(_STYLE):
                figure = draw(opened, *args, **options)
        finally:
            _target.reset(before)
        return figure if whole is None else cast("Figure", whole)

    signature = inspect.signature(draw)
    axes = inspect.Parameter("ax", inspect.Parameter.KEYWORD_ONLY, default=None)
    draw_in_style.__signature__ = signature.replace(parameters=[*signature.parameters.values(), axes])  # type: ignore[attr-defined]
    return draw_in_style


_target: ContextVar[Axes | None] = ContextVar("target", default=None)
"""The axes in which the current figure is to be drawn, instead of a new figure."""


def given_axes() -> Axes | None:
    """Return the axes in which the user wants the current figure, or None for a figure of its own."""
    return _target.get()


class _PlaceOfAxes:
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


class NotebookFigure(Figure):
    """A figure that a notebook displays, whether or not pyplot has been imported there."""

    def _repr_png_(self) -> bytes:
        png = BytesIO()
        self.savefig(png, format="png", dpi=_NOTEBOOK_DPI)
        return png.getvalue()


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, or the place of the axes that the user gave; sizes are in inches."""
    if (axes := given_axes()) is not None:
        return cast("Figure", _PlaceOfAxes(axes))
    return NotebookFigure(figsize=(width, height), layout="constrained")


def set_up_axes(axes: Axes) -> Axes:
    """Give ``axes`` a frame on two sides, small tick labels and a faint grid; return them."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(which="both", labelsize=8)
    axes.grid(visible=True, color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    return axes


def grid_label(data: xr.Dataset | xr.DataArray) -> str:
    """Return the label of an axis along the grid of ``data``, such as ``L2 regularisation strength λ``."""
    return str(axis_attrs(axis_of(data))["long_name"])


def set_up_grid_axes(axes: Axes, data: xr.Dataset | xr.DataArray) -> Axes:
    """Call :func:`set_up_axes` for ``axes`` whose horizontal axis is the grid of ``data``; return them."""
    set_up_axes(axes).set_xlabel(grid_label(data))
    axes.margins(x=0.015)
    return axes


def write_heading(axes: Axes, text: str, room: float = 0.0) -> None:
    """Write a line of text above ``axes`` on the left, with ``room`` (in points) below it."""
    axes.set_title(text, loc="left", fontsize=9, color=INK, pad=6 + room)


def draw_legend(axes: Axes, title: str | None = None, handles: list[Line2D] | None = None) -> Legend:
    """Draw a legend to the right of ``axes``, where it hides nothing; by default with all labelled lines.

    Of more than 30 lines, only some that are evenly spaced are named, and the title says so.
    """
    shown = axes.get_legend_handles_labels()[0] if handles is None else handles
    chosen = evenly_spaced(len(shown), _LEGEND_ROWS * _LEGEND_COLUMNS)
    if chosen.size < len(shown):
        title = f"{title or ''} ({chosen.size} of {len(shown)})".strip()
        shown = [shown[index] for index in chosen]
    return axes.legend(
        handles=shown,
        title=title,
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        alignment="left",
        handlelength=2.6,
        ncols=-(-len(shown) // _LEGEND_ROWS),
    )


def class_colour(index: int) -> str:
    """Return the colour of the class at that position; colours repeat after ten classes."""
    return COLOURS[index % len(COLOURS)]


def class_marker(index: int) -> str:
    """Return the marker of the class at that position; with its colour it is unique for up to 100 classes."""
    return MARKERS[(index + index // len(COLOURS)) % len(MARKERS)]


def legend_handle(label: str, **style: Any) -> Line2D:
    """Return a line for a legend."""
    return Line2D([], [], label=label, **style)


def marker_positions(values: ArrayLike, offset: float = 0.0) -> list[int]:
    """Return the indices of the points of a line that have a marker.

    All points have one on a coarse grid. On a dense grid about 20 points have one, and isolated points, which have no
    line.

    Parameters
    ----------
    values : array
        (n,); NaN where the line has a gap.
    offset : float
        A shift from 0 to 1 of the distance between markers, which keeps those of neighbouring lines apart.
    """
    is_known = np.isfinite(np.asarray(values, dtype=np.float64))
    positions: NDArray[np.intp] = np.flatnonzero(is_known)
    if positions.size > DENSE_GRID:
        step = positions.size // 20
        neighbours = np.pad(is_known, 1)
        isolated = np.flatnonzero(is_known & ~neighbours[:-2] & ~neighbours[2:])
        positions = np.union1d(positions[int(offset * step) :: step], isolated)
    return [int(index) for index in positions]


def save(figure: Figure, path: Path) -> None:
    """Write ``figure`` to ``path`` (.png, .svg or .pdf); the same figure gives the same bytes."""
    undated: dict[str, dict[str, Any]] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    with rc_context({"svg.hashsalt": "hesstore", "pdf.fonttype": 42}):
        figure.savefig(path, dpi=150, metadata=undated.get(path.suffix.lower()))
