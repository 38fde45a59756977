"""What all pictures look like.

Colours are Petroff's ten, chosen to be told apart by people with any colour vision (arXiv 2107.02270). For print
without colour, each class has a marker of its own as well, maps are ordered by lightness, and negative cells of
diverging maps carry a minus sign.
"""

from __future__ import annotations

from functools import wraps
from io import BytesIO
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

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
"""Of the two ways along λ."""
INK = "0.15"
"""Of text and lines that belong to no class."""
SEQUENTIAL = "cividis"
DIVERGING = "PuOr"
MISSING = "0.8"
"""Of cells without a value."""

DENSE = 40
"""λ above which a line carries a marker at some of them alone."""
MANY = 2000
"""Points, lines or cells above which a vector file holds them as an image."""

_SHOWN_DPI = 100
"""Of a picture in a notebook."""

_IN_COLUMN = 15
"""Entries in a column of a legend."""

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


def styled(picture: Callable[_P, Figure]) -> Callable[_P, Figure]:
    """``picture``, drawn in this style whatever the user's settings are."""

    @wraps(picture)
    def drawn(*args: _P.args, **kwargs: _P.kwargs) -> Figure:
        with rc_context(_STYLE):
            return picture(*args, **kwargs)

    return drawn


class Sheet(Figure):
    """A figure that a notebook shows, whether or not pyplot has been imported there."""

    def _repr_png_(self) -> bytes:
        png = BytesIO()
        self.savefig(png, format="png", dpi=_SHOWN_DPI)
        return png.getvalue()


def sheet(width: float, height: float) -> Figure:
    """An empty figure, inches."""
    return Sheet(figsize=(width, height), layout="constrained")


def bare(axes: Axes) -> Axes:
    """``axes`` with a frame on two sides, small numbers and a faint grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(which="both", labelsize=8)
    axes.grid(visible=True, color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    return axes


def along_l2(axes: Axes) -> Axes:
    """:func:`bare` axes whose abscissa is λ."""
    bare(axes).set_xlabel("L2 strength λ")
    axes.margins(x=0.015)
    return axes


def heading(axes: Axes, text: str, room: float = 0.0) -> None:
    """A line above ``axes`` on the left, with ``room`` in points below it."""
    axes.set_title(text, loc="left", fontsize=9, color=INK, pad=6 + room)


def beside(axes: Axes, title: str | None = None, handles: list[Line2D] | None = None) -> Legend:
    """A legend right of ``axes``, where it hides nothing."""
    chosen = axes.get_legend_handles_labels()[0] if handles is None else handles
    return axes.legend(
        handles=chosen,
        title=title,
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        alignment="left",
        handlelength=2.6,
        ncols=-(-len(chosen) // _IN_COLUMN),
    )


def class_colour(index: int) -> str:
    """The colour of the class at that position; beyond ten they come again."""
    return COLOURS[index % len(COLOURS)]


def class_marker(index: int) -> str:
    """Its marker, which with the colour is unique up to 100 classes."""
    return MARKERS[(index + index // len(COLOURS)) % len(MARKERS)]


def handle(label: str, **style: Any) -> Line2D:
    """A line for a legend."""
    return Line2D([], [], label=label, **style)


def marked(values: ArrayLike, place: float = 0.0) -> list[int]:
    """Which points of a line carry a marker: all if there are few, else about one in n/20 and lone ones.

    Parameters
    ----------
    values : array
        (n,); NaN where the line has a gap.
    place : float
        From 0 to 1: how far the markers are shifted, so that those of neighbouring lines do not meet.
    """
    there = np.isfinite(np.asarray(values, dtype=np.float64))
    found: NDArray[np.intp] = np.flatnonzero(there)
    if found.size > DENSE:
        step = found.size // 20
        neighbours = np.pad(there, 1)
        alone = np.flatnonzero(there & ~neighbours[:-2] & ~neighbours[2:])
        found = np.union1d(found[int(place * step) :: step], alone)
    return [int(index) for index in found]


def save(figure: Figure, path: Path) -> None:
    """Write ``figure`` to ``path`` (.png, .svg or .pdf); the same figure gives the same bytes."""
    undated: dict[str, dict[str, Any]] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    with rc_context({"svg.hashsalt": "hesstore", "pdf.fonttype": 42}):
        figure.savefig(path, dpi=150, metadata=undated.get(path.suffix.lower()))
