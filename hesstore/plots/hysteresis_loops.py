"""The way up and the way down along λ."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from matplotlib.patches import Patch

from hesstore.analysis import hysteresis as hysteresis_of
from hesstore.errors import AnalysisError
from hesstore.plots import style
from hesstore.plots.plot_data import both_named, labels_of, named, runs_of_seed, skill_of, without_parameters

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from numpy.typing import NDArray


@style.styled
def hysteresis(ds: xr.Dataset, run: int = 0, split: str = "test") -> Figure:
    """The way up and the way down of each class, one small picture a class, with the area between them shaded.

    Curves are the skill of the class, its accuracy less the share of other rows taken for it
    (:func:`hesstore.analysis.class_skill`); the number is ∫ |s_up − s_down| dλ
    (:func:`hesstore.analysis.hysteresis`) for the seed of the run.

    Parameters
    ----------
    ds : Dataset
        A store.
    run : int
        Run ID; either of the seed's two runs.
    split : str
        ``"train"`` or ``"test"``.

    Raises
    ------
    AnalysisError
        If the seed has no run in one of the directions, or no λ is complete in both.
    """
    runs = runs_of_seed(ds, run)
    if len(runs) < 2:
        raise AnalysisError(
            f"the seed of {named(ds, run)} has no complete λ in the other direction: sweep with --direction both"
        )
    small = without_parameters(ds).sel(run=list(runs.values()))
    areas = hysteresis_of(small, split=split)["area"].values[0]
    ways = {name: skill_of(ds, each, split) for name, each in runs.items()}
    return _small_multiples(labels_of(ds), ways, areas, f"{split} split, {both_named(ds, run)}")


def _small_multiples(
    labels: list[str], ways: dict[str, xr.DataArray], areas: NDArray[np.float64], title: str
) -> Figure:
    columns = min(5, len(labels))
    rows = -(-len(labels) // columns)
    figure = style.sheet(1.75 * columns + 0.6, 1.55 * rows + 0.95)
    lowest = min(float(np.nanmin(way.values)) for way in ways.values()) - 0.03
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for index, axes in enumerate(panels.flat):
        if index >= len(labels):
            axes.set_visible(False)
            continue
        style.bare(axes).set_ylim(lowest, 1.03)
        _draw_loop(axes, {name: way.isel(label=index) for name, way in ways.items()}, index)
        style.heading(axes, f"{labels[index]}:  {areas[index]:.2g}")
    figure.supxlabel("L2 strength λ", fontsize=9)
    figure.supylabel("skill of the class", fontsize=9)
    figure.legend(handles=_handles(), title=title, loc="outside upper left", alignment="left", ncols=3)
    return figure


def _draw_loop(axes: Axes, ways: dict[str, xr.DataArray], index: int) -> None:
    colour = style.class_colour(index)
    up, down = xr.align(ways["up"].dropna("l2"), ways["down"].dropna("l2"))  # as the area is taken
    axes.fill_between(up["l2"].values, up.values, down.values, color=colour, alpha=0.25, linewidth=0, label="_area")
    for name, way in ways.items():
        axes.plot(way["l2"].values, way.values, color=colour, linestyle=style.DASHES[name], linewidth=1.3, label=name)


def _handles() -> list[Line2D | Patch]:
    """For the whole figure."""
    return [
        style.handle("λ up", color=style.INK),
        style.handle("λ down", color=style.INK, linestyle=style.DASHES["down"]),
        Patch(color=style.INK, alpha=0.2, linewidth=0, label="class: area between them, ∫ |Δ skill| dλ"),
    ]
