"""The style of all figures: colours, markers, fonts, axes and legends.

The colours are Petroff's ten, which people with any colour vision can distinguish (arXiv 2107.02270). For print
without colour, each class also has its own marker, colour maps are ordered by lightness, and negative cells of
diverging maps show a minus sign.
"""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

import numpy as np
import xarray as xr
from matplotlib import colormaps, rc_context
from matplotlib.collections import Collection, PathCollection
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from hesstore.analysis.selection import evenly_spaced, loss_unit
from hesstore.errors import AnalysisError
from hesstore.plots.user_axes import TARGET, PlaceOfAxes, given_axes
from hesstore.store import open as open_store
from hesstore.store.reading import check_dataset
from hesstore.store.schema import axis_attrs, axis_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
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

_MIN_HEIGHT = 0.65
"""Lower limit of the factor of heights in a narrow figure, whose texts and legends need their height."""

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


MM_PER_INCH = 25.4
TEXT_WIDTH = 183.0
"""Width of a figure for a paper, in mm: two columns of most journals. One column has about 89 mm."""


class _Look(NamedTuple):
    """The size of figures and of their texts.

    Attributes
    ----------
    width : float or None
        The width of every figure in inches; None for the width that suits the figure on a screen.
    text : float
        Factor of the sizes of texts.
    dpi : float
        Resolution of images, and of those parts of vector files that are images.
    """

    width: float | None
    text: float
    dpi: float


_SCREEN = _Look(width=None, text=1.0, dpi=150)
_look: ContextVar[_Look] = ContextVar("look", default=_SCREEN)


@contextmanager
def paper(width: float = TEXT_WIDTH) -> Iterator[None]:
    """Draw figures for a paper: with a width in mm, and texts of 5 to 7 points.

    ::

        with plots.paper(89):
            figure = plots.spectrum(ds)
        plots.save(figure, Path("spectrum.pdf"))

    Parameters
    ----------
    width : float
        Width of each figure in mm, from 60 to 400; 183 by default, two columns of most journals. The height follows
        from the proportions of the figure.

    Raises
    ------
    AnalysisError
        If the width is out of range.
    """
    if not 60 <= width <= 400:
        raise AnalysisError(f"a figure of {width:g} mm: choose a width from 60 to 400 mm")
    token = _look.set(_Look(width / MM_PER_INCH, text=7 / 9, dpi=600))
    try:
        yield
    finally:
        _look.reset(token)


def points(size: float) -> float:
    """Return the size of a text that has ``size`` points on a screen."""
    return size * _look.get().text


def in_style(draw: Callable[..., Figure]) -> Drawing:
    """Decorate a function so that it draws its figure in this style, whatever the user's settings are.

    The store may also be a path or URL. It is compared with its digests first, unless it was before. With ``ax``, the
    figure is drawn there: one panel into ``ax`` itself, several panels in its place in the figure. The function then
    returns the figure that ``ax`` belongs to.
    """

    @wraps(draw)
    def draw_in_style(ds: xr.Dataset | Location, *args: Any, ax: Axes | None = None, **options: Any) -> Figure:
        whole = None if ax is None else ax.figure
        opened = check_dataset(ds) if isinstance(ds, xr.Dataset) else open_store(ds, check=True)
        sizes = {name: points(value) for name, value in _STYLE.items() if name.endswith("size")}
        before = TARGET.set(ax)
        try:
            with rc_context({**_STYLE, **sizes}):
                figure = draw(opened, *args, **options)
        finally:
            TARGET.reset(before)
        if loss_unit(opened) is None:
            _name_squared_error(figure)
        if whole is not None:
            return cast("Figure", whole)
        if _look.get().text != 1:
            _scale_lines(figure, _look.get().text)
        return figure

    signature = inspect.signature(draw)
    axes = inspect.Parameter("ax", inspect.Parameter.KEYWORD_ONLY, default=None)
    draw_in_style.__signature__ = signature.replace(parameters=[*signature.parameters.values(), axes])  # type: ignore[attr-defined]
    return draw_in_style


def _name_squared_error(figure: Figure) -> None:
    """Change labels, which are those for the cross-entropy, to those for the squared error, a pure number."""
    for text in figure.findobj(Text):
        label = text.get_text()
        if not label.startswith("entropy of"):
            for words, others in ((" (nat)", ""), (" (nat⁻¹)", ""), ("cross-entropy", "squared error")):
                label = label.replace(words, others)
            text.set_text(label)


def _scale_lines(figure: Figure, factor: float) -> None:
    """Scale the widths of lines and the sizes of markers as those of texts."""
    for line in figure.findobj(Line2D):
        line.set_linewidth(line.get_linewidth() * factor)
        line.set_markersize(line.get_markersize() * factor)
    for collection in figure.findobj(Collection):
        collection.set_linewidth((np.atleast_1d(collection.get_linewidth()) * factor).tolist())
        if isinstance(collection, PathCollection):
            collection.set_sizes(collection.get_sizes() * factor**2)


class NotebookFigure(Figure):
    """A figure that a notebook displays, whether or not pyplot has been imported there."""

    file_dpi = _SCREEN.dpi
    """Resolution of the file that :func:`save` writes."""

    def _repr_png_(self) -> bytes:
        png = BytesIO()
        self.savefig(png, format="png", dpi=_NOTEBOOK_DPI)
        return png.getvalue()


def new_figure(width: float, height: float, least: float = 0.0) -> Figure:
    """Return an empty figure, or the place of the axes that the user gave.

    Sizes are in inches, and those of a figure for a paper follow from its width.

    Raises
    ------
    AnalysisError
        If the width of figures for a paper is below ``least``, in mm, which this figure needs.
    """
    if (axes := given_axes()) is not None:
        return cast("Figure", PlaceOfAxes(axes))
    look = _look.get()
    if look.width is not None and look.width * MM_PER_INCH < least - 1e-6:
        raise AnalysisError(
            f"this figure does not fit into {look.width * MM_PER_INCH:g} mm: choose a width of at least {least:g} mm"
        )
    factor = 1.0 if look.width is None else look.width / width
    figure = NotebookFigure(figsize=(width * factor, height * max(factor, _MIN_HEIGHT)), layout="constrained")
    figure.file_dpi = look.dpi
    return figure


def set_up_axes(axes: Axes) -> Axes:
    """Give ``axes`` a frame on two sides, small tick labels and a faint grid; return them."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(which="both", labelsize=points(8))
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
    axes.set_title(text, loc="left", fontsize=points(9), color=INK, pad=6 + room)


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


def link_colours() -> ListedColormap:
    """Return a colour map that is pale for small overlaps and dark for large ones, without greys."""
    return ListedColormap(colormaps["YlGnBu"](np.linspace(0.18, 1.0, 256)))


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
        figure.savefig(path, dpi=getattr(figure, "file_dpi", _SCREEN.dpi), metadata=undated.get(path.suffix.lower()))
