"""The style of all figures: colours, markers, fonts, axes and legends.

The colours are Petroff's ten, which people with any colour vision can distinguish (arXiv 2107.02270). For print
without colour, each class also has its own marker, colour maps are ordered by lightness, and negative cells of
diverging maps show a minus sign.
"""

from __future__ import annotations

from functools import wraps
from io import BytesIO
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hesstore.analysis.selection import evenly_spaced
from hesstore.store.schema import axis_attrs, axis_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.legend import Legend
    from numpy.typing import ArrayLike, NDArray

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

_P = ParamSpec("_P")


def in_style(draw: Callable[_P, Figure]) -> Callable[_P, Figure]:
    """Decorate a function so that it draws its figure in this style, whatever the user's settings are."""

    @wraps(draw)
    def draw_in_style(*args: _P.args, **kwargs: _P.kwargs) -> Figure:
        with rc_context(_STYLE):
            return draw(*args, **kwargs)

    return draw_in_style


class NotebookFigure(Figure):
    """A figure that a notebook displays, whether or not pyplot has been imported there."""

    def _repr_png_(self) -> bytes:
        png = BytesIO()
        self.savefig(png, format="png", dpi=_NOTEBOOK_DPI)
        return png.getvalue()


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure; sizes are in inches."""
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
