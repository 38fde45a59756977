"""Accuracies of the classes against λ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hesstore.plots import style
from hesstore.plots.loss_marks import draw_onsets
from hesstore.plots.plot_data import MARGIN, labels_of, losses, named, runs_of_seed, series_of, skill_of

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D


@style.styled
def accuracy(ds: xr.Dataset, run: int = 0, split: str = "test", *, skill: bool = False) -> Figure:
    """Accuracy of each class against λ, with the λ at which each is lost.

    If the seed of the run has a run in the other direction, that has axes of its own: up solid with filled markers,
    down dashed with open ones. Below, for each class, the highest λ at which its skill is above 0.1
    (:func:`hesstore.analysis.transitions`), unless that is the last complete λ.

    Parameters
    ----------
    ds : Dataset
        A store.
    run : int
        Run ID.
    split : str
        ``"train"`` or ``"test"``.
    skill : bool
        Draw the skill of each class (:func:`hesstore.analysis.class_skill`) instead: a network that gives one answer to
        everything has accuracy 1 for that class, but skill 0 for all.

    Raises
    ------
    AnalysisError
        If the run is not there, or no λ of it is complete.
    """
    runs = runs_of_seed(ds, run)
    rows = 0.4 + 0.13 * ds.sizes["label"]
    figure = style.sheet(7.2, 0.3 + 3.4 * len(runs) + rows)
    *ways, lower = figure.subplots(1 + len(runs), 1, sharex=True, height_ratios=(*[3.4] * len(runs), rows))
    for axes, (direction, each) in zip(ways, runs.items(), strict=True):
        draw_accuracies(axes, ds, each, direction, split, skill=skill)
        axes.set_xlabel("")
        style.heading(axes, f"{split} split, {named(ds, each)}")
    found = {name: losses(ds, each, split) for name, each in runs.items()}
    draw_onsets(style.along_l2(lower), labels_of(ds), found)
    lower.set_ylabel("class")
    if len(runs) > 1:
        style.beside(lower, None, [_way(name) for name in runs])
    style.heading(lower, f"class lost: last λ at which its skill is above {MARGIN:g}")
    return figure


def draw_accuracies(axes: Axes, ds: xr.Dataset, run: int, direction: str, split: str, *, skill: bool) -> None:
    """What :func:`accuracy` has of one run."""
    style.along_l2(axes)
    if skill:
        _draw_classes(axes, skill_of(ds, run, split), direction)
    else:
        part = series_of(ds, run, "class_accuracy", "accuracy").sel(split=split)
        _draw_classes(axes, part["class_accuracy"], direction)
        _draw_all(axes, part["accuracy"], direction)
    chance = 0 if skill else 1 / ds.sizes["label"]
    axes.axhline(chance, color=style.INK, linewidth=0.8, linestyle=":", label="_chance", zorder=1)
    if skill:
        axes.set(ylabel=f"{split} skill: accuracy − share\nof other rows taken for the class", ylim=(None, 1.03))
    else:
        axes.set(ylabel=f"{split} accuracy of the class", ylim=(-0.03, 1.03))
    style.beside(axes, "class", _handles(axes))


def _draw_classes(axes: Axes, curves: xr.DataArray, direction: str) -> None:
    up, l2 = direction == "up", curves["l2"].values
    labels = [str(label) for label in curves["label"].values]
    for index, label in enumerate(labels):
        values = curves.isel(label=index).values
        axes.plot(
            l2,
            values,
            color=style.class_colour(index),
            linestyle=style.DASHES[direction],
            linewidth=1.1 if up else 0.9,
            marker=style.class_marker(index),
            markersize=4,
            markevery=style.marked(values, (index + (0 if up else 0.5)) / len(labels)),
            markerfacecolor=style.class_colour(index) if up else "white",
            markeredgewidth=0.8,
            label=label,
        )


def _draw_all(axes: Axes, values: xr.DataArray, direction: str) -> None:
    axes.plot(
        values["l2"].values,
        values.values,
        color="0.35",
        linewidth=4,
        alpha=0.3,
        linestyle=style.DASHES[direction],
        label="_all",
        zorder=1.5,
    )


def _handles(axes: Axes) -> list[Line2D]:
    lines = [line for line in axes.get_lines() if not str(line.get_label()).startswith("_")]
    handles = [
        style.handle(str(line.get_label()), color=line.get_color(), marker=line.get_marker(), markersize=4)
        for line in lines
    ]
    if any(line.get_label() == "_all" for line in axes.get_lines()):
        handles.append(style.handle("all", color="0.35", linewidth=4, alpha=0.3))
    return [*handles, style.handle("chance", color=style.INK, linewidth=0.8, linestyle=":")]


def _way(direction: str) -> Line2D:
    """For the legend of what is lost where."""
    face = style.INK if direction == "up" else "white"
    how: dict[str, Any] = {"marker": "o", "markersize": 4, "markerfacecolor": face}
    return style.handle(f"λ {direction}", color=style.INK, linestyle="none", **how)
