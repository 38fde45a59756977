"""Accuracies or skills of the classes against λ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from hesstore.config.l2_grid import axis_symbol
from hesstore.plots import style
from hesstore.plots.lost_classes import draw_lost_classes
from hesstore.plots.run_data import class_names, run_losses, run_name, run_series, runs_of_seed, skill_series
from hesstore.plots.running_median import median_window, running_median
from hesstore.plots.transition_marks import mark_transitions
from hesstore.plots.user_axes import given_axes
from hesstore.store.schema import axis_of

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D


@style.in_style
def accuracy(ds: xr.Dataset, run: int = 0, split: str = "test", *, skill: bool = False) -> Figure:
    """Draw the accuracy of each class against λ, and the λ at which each class is lost.

    On a grid of more than 40 points, the lines are running medians, with the values of the grid points faint behind
    them, because those of noisy classes would hide each other.

    If the seed also has a run in the other direction, that run has its own axes. The way up is solid with filled
    markers, the way down dashed with open markers. Grey bands are transitions (:func:`hesstore.analysis.transitions`).
    The lowest axes show where each class is lost, with its 95 % interval (:func:`hesstore.analysis.lost_classes`);
    an interval without a marker belongs to a class that is never lost, or lost before the first grid point. With
    ``ax``, only the accuracies of this run are drawn.

    Parameters
    ----------
    ds : Dataset, path or URL
        A store.
    run : int
        Run ID.
    split : str
        ``"train"`` or ``"test"``.
    skill : bool
        Draw the skill of each class (:func:`hesstore.analysis.class_skill`) instead of its accuracy. A network that
        predicts the same class for every row has accuracy 1 for that class, but skill 0 for all classes.
    ax : Axes, optional
        Axes to draw in, instead of a new figure; several panels take its place.

    Raises
    ------
    AnalysisError
        If the run does not exist or has no complete grid point.
    """
    runs = runs_of_seed(ds, run)
    if (only := given_axes()) is not None:
        draw_accuracies(only, ds, run, str(ds["direction"].sel(run=run).values), split, skill=skill)
        style.write_heading(only, f"{split} split, {run_name(ds, run)}")
        return cast("Figure", only.figure)
    rows = 0.4 + 0.13 * ds.sizes["label"]
    figure = style.new_figure(7.2, 0.3 + 3.4 * len(runs) + rows)
    *panels, lowest = figure.subplots(1 + len(runs), 1, sharex=True, height_ratios=(*[3.4] * len(runs), rows))
    for axes, (direction, each) in zip(panels, runs.items(), strict=True):
        draw_accuracies(axes, ds, each, direction, split, skill=skill)
        axes.set_xlabel("")
        style.write_heading(axes, f"{split} split, {run_name(ds, each)}{median_note(ds)}")
    losses = {direction: run_losses(ds, each, split) for direction, each in runs.items()}
    known = {name: loss for name, loss in losses.items() if loss is not None}
    draw_lost_classes(style.set_up_grid_axes(lowest, ds), class_names(ds), known, axis_of(ds))
    lowest.set_ylabel("class")
    if len(runs) > 1:
        style.draw_legend(lowest, None, [_direction_handle(direction) for direction in runs])
    style.write_heading(lowest, f"{axis_symbol(axis_of(ds))} at which the class is lost, and its 95 % interval")
    return figure


def draw_accuracies(axes: Axes, ds: xr.Dataset, run: int, direction: str, split: str, *, skill: bool) -> None:
    """Draw the axes of :func:`accuracy` for one run."""
    style.set_up_grid_axes(axes, ds)
    if skill:
        _draw_classes(axes, skill_series(ds, run, split), direction)
    else:
        part = run_series(ds, run, "class_accuracy", "accuracy").sel(split=split)
        _draw_classes(axes, part["class_accuracy"], direction)
        _draw_overall(axes, part["accuracy"], direction)
    chance = 0 if skill else 1 / ds.sizes["label"]
    axes.axhline(chance, color=style.INK, linewidth=0.8, linestyle=":", label="_chance", zorder=1)
    if skill:
        axes.set(ylabel=f"{split} skill of the class:\nhit rate − false-alarm rate", ylim=(None, 1.03))
    else:
        axes.set(ylabel=f"{split} accuracy of the class", ylim=(-0.03, 1.03))
    style.draw_legend(axes, "class", _handles(axes))
    mark_transitions(axes, ds, run)


def median_note(ds: xr.Dataset) -> str:
    """Return a note for the heading that names the window of the running medians; empty on a coarse grid."""
    window = median_window(ds.sizes[axis_of(ds)])
    return f";  lines: running medians of {window} grid points" if window > 1 else ""


def _draw_classes(axes: Axes, curves: xr.DataArray, direction: str) -> None:
    is_up, l2 = direction == "up", curves[axis_of(curves)].values
    labels = [str(label) for label in curves["label"].values]
    window = median_window(l2.size)
    for index, label in enumerate(labels):
        colour, values = style.class_colour(index), curves.isel(label=index).values
        if window > 1:
            axes.plot(l2, values, ".", color=colour, alpha=0.35, markersize=3, markeredgewidth=0, label=f"_all {label}")
            values = running_median(values, window)
        axes.plot(
            l2,
            values,
            color=colour,
            linestyle=style.DASHES[direction],
            linewidth=(1.1 if is_up else 0.9) + (0.4 if window > 1 else 0),
            marker=style.class_marker(index),
            markersize=4,
            markevery=style.marker_positions(values, (index + (0 if is_up else 0.5)) / len(labels)),
            markerfacecolor=colour if is_up else "white",
            markeredgewidth=0.8,
            label=label,
        )


def _draw_overall(axes: Axes, values: xr.DataArray, direction: str) -> None:
    axes.plot(
        values[axis_of(values)].values,
        running_median(values.values, median_window(values.size)),
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
        style.legend_handle(str(line.get_label()), color=line.get_color(), marker=line.get_marker(), markersize=4)
        for line in lines
    ]
    if any(line.get_label() == "_all" for line in axes.get_lines()):
        handles.append(style.legend_handle("all", color="0.35", linewidth=4, alpha=0.3))
    return [*handles, style.legend_handle("chance", color=style.INK, linewidth=0.8, linestyle=":")]


def _direction_handle(direction: str) -> Line2D:
    """Return the legend entry of a direction in the axes of lost classes."""
    face = style.INK if direction == "up" else "white"
    marker: dict[str, Any] = {"marker": "o", "markersize": 4, "markerfacecolor": face}
    return style.legend_handle(f"λ {direction}", color=style.INK, linestyle="none", **marker)
