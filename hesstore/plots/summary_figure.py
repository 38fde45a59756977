"""One figure with the most informative plots of a run."""

from __future__ import annotations

from functools import partial
from textwrap import fill
from typing import TYPE_CHECKING, Any, NamedTuple

from hesstore.errors import AnalysisError
from hesstore.plots import style
from hesstore.plots.accuracies import draw_accuracies, median_note
from hesstore.plots.class_maps import draw_classes, draw_response
from hesstore.plots.eigenvectors import draw_overlap, overlap_note
from hesstore.plots.gradients import draw_shares
from hesstore.plots.lost_classes import mark_lost_classes
from hesstore.plots.run_data import class_names, complete_point, default_l2, lost_at, point_name, run_name
from hesstore.plots.spectra import draw_spectrum

if TYPE_CHECKING:
    from collections.abc import Callable

    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class _Panel(NamedTuple):
    """A plot of the summary.

    Attributes
    ----------
    name : str
        Its name, for the note on plots that are left out.
    needs : tuple of str
        The variables that it draws.
    draw : callable
        Draws the axes.
    heading : str
        The text above them.
    """

    name: str
    needs: tuple[str, ...]
    draw: Callable[[Axes], None]
    heading: str


@style.in_style
def summary(
    ds: xr.Dataset,
    run: int = 0,
    l2: float | None = None,
    k: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Figure:
    """Draw a summary of a run: up to six plots on one page.

    Against λ: the skill of the classes, the eigenvalues, the shares of gradient and weights in the top space. At one
    grid point: the share of each class in the curvature of each mode, the response of each class to a step along each
    mode. For all pairs of grid points: the overlap of the top spaces. Plots whose variables the store lacks are left
    out, and a note names them; if a variable has no values for a plot, a sentence in its place says so.

    Parameters
    ----------
    ds : Dataset, path or URL
        A store.
    run : int
        Run ID.
    l2 : float, optional
        λ of the complete grid point of the maps; by default the last one before the first class is lost.
    k : int, optional
        Number of eigenvectors of the spans in the overlap map; by default classes − 1.
    progress : callable, optional
        Called with (pairs done, all pairs) of the overlap map.
    ax : Axes, optional
        Axes to draw in, instead of a new figure; several panels take its place.

    Raises
    ------
    AnalysisError
        If the run or grid point does not exist or is not complete.
    """
    where = default_l2(ds, run) if l2 is None else l2
    complete_point(ds, run, where)
    columns, missing = [], []
    for panels in (_along_l2(ds, run), _maps(ds, run, where, k, progress)):
        columns.append([panel for panel in panels if {*panel.needs} <= {*ds}])
        missing += [panel.name for panel in panels if not {*panel.needs} <= {*ds}]
    return _draw_columns(ds, run, [column for column in columns if column], missing)


def _along_l2(ds: xr.Dataset, run: int) -> list[_Panel]:
    direction = str(ds["direction"].sel(run=run).values)
    skill = partial(draw_accuracies, ds=ds, run=run, direction=direction, split="test", skill=True)
    shares = partial(draw_shares, ds=ds, run=run, split="train")
    name = run_name(ds, run)
    return [
        _Panel("skill", ("confusion",), skill, name + median_note(ds)),
        _Panel("eigenvalues", ("eigenvalues",), partial(draw_spectrum, ds=ds, run=run, shift=False), name),
        _Panel("shares in the top space", ("gradient_share", "weights_share"), shares, name),
    ]


def _maps(
    ds: xr.Dataset, run: int, l2: float, k: int | None, progress: Callable[[int, int], None] | None
) -> list[_Panel]:
    curvature = ("class_curvature", "class_slope", "eigenvalues")
    classes = partial(draw_classes, ds=ds, run=run, l2=l2, split="train")
    response = partial(draw_response, ds=ds, run=run, l2=l2)
    overlap = partial(draw_overlap, ds=ds, run=run, k=k, progress=progress)
    name = run_name(ds, run)
    point = point_name(ds, run, l2)
    return [
        _Panel("curvature by class", curvature, classes, point),
        _Panel("responses of the classes", (*curvature, "class_response"), response, point),
        _Panel("overlap of the top spans", ("eigenvectors", "eigenvalues"), overlap, name + overlap_note(ds, run)),
    ]


def _draw_columns(ds: xr.Dataset, run: int, columns: list[list[_Panel]], missing: list[str]) -> Figure:
    """Draw the plots of one or two columns, lettered from a."""
    most = max(map(len, columns))
    height = (0.2 if missing else 0) + (3.6 if most == 1 else 3.0 * most)
    figure = style.new_figure(6.3 * len(columns), height, least=80 * len(columns))
    parts: Any = figure.subfigures(1, len(columns), width_ratios=(1.1, 1)[: len(columns)], squeeze=False)[0]
    letters = iter("abcdef")
    for part, panels in zip(parts, columns, strict=True):
        share = "col" if panels[0].needs == ("confusion",) else "none"
        for axes, panel in zip(part.subplots(len(panels), 1, sharex=share, squeeze=False)[:, 0], panels, strict=True):
            _draw_or_explain(axes, panel.draw)
            room = mark_lost_classes(axes, class_names(ds), lost_at(ds, run)) if panel.name == "skill" else 0.0
            style.write_heading(axes, panel.heading, room)
            if share == "col" and panel is not panels[-1]:
                axes.set_xlabel("")
            _write_letter(axes, next(letters))
    if missing:
        note = fill(f"Not in the store, and left out: {', '.join(missing)}.", 60 * len(columns))
        figure.supxlabel(note, fontsize=style.points(8), color=style.INK)
    return figure


def _write_letter(axes: Axes, letter: str) -> None:
    axes.annotate(
        letter,
        (0, 1),
        (-34, 6),
        xycoords="axes fraction",
        textcoords="offset points",
        weight="bold",
        fontsize=style.points(11),
    )


def _draw_or_explain(axes: Axes, draw: Callable[[Axes], None]) -> None:
    """Draw, or write why it cannot be drawn."""
    try:
        draw(axes)
    except AnalysisError as error:
        axes.clear()
        axes.set_axis_off()
        axes.text(0.5, 0.5, fill(str(error), 48), ha="center", va="center", color=style.INK, transform=axes.transAxes)
