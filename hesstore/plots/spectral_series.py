"""Series along λ that summarise the spectrum: alignment, spectral measures, and the index of the objective."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from hesstore import analysis
from hesstore.plots import style
from hesstore.plots.run_data import class_names, run_name, run_series, stationarity_label, with_gaps
from hesstore.store.schema import axis_of

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray


@style.in_style
def alignment(
    ds: xr.Dataset, run: int = 0, split: str = "train", k: int | None = None, logits: xr.Dataset | None = None
) -> Figure:
    """Draw how far the span of the first k eigenvectors contains the gradients of the classes, against λ.

    The upper axes show the share of each class gradient's squared norm within the span
    (:func:`hesstore.analysis.alignment`); for a random vector it is k/P on average. The lower axes show the mean
    squared cosine of the principal angles between the span and that of all class gradients.

    Parameters
    ----------
    ds : Dataset, path or URL
        A store.
    run : int
        Run ID.
    split : str
        ``"train"`` or ``"test"``: the rows of the gradients.
    k : int, optional
        Number of eigenvectors; by default classes − 1, or all modes if there are fewer.
    logits : Dataset, optional
        The result of :func:`hesstore.network_geometry` for the same run, whose overlap with the gradients of the mean
        logits is drawn as well.
    ax : Axes, optional
        Axes to draw in, instead of a new figure; several panels take its place.

    Raises
    ------
    AnalysisError
        If the run does not exist or has no complete grid point, the store lacks the variables, or k is out of range.
    """
    found = with_gaps(analysis.alignment(ds, run, split, k), ds)
    figure = style.new_figure(7.2, 6.0)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    labels = class_names(ds)
    for index, label in enumerate(labels):
        values = found["share"].isel(label=index).values
        look: dict[str, Any] = {"color": style.class_colour(index), "marker": style.class_marker(index)}
        _draw_series(style.set_up_grid_axes(upper, ds), found, values, index / len(labels), label=label, **look)
    upper.axhline(float(found["chance"]), color=style.INK, linestyle=":", label="chance")
    k = ds.sizes["label"] - 1 if k is None else k
    upper.set(ylabel=f"share of the {split} gradient of the\nclass in the first {k} eigenvectors", ylim=(-0.03, 1.03))
    upper.set_xlabel("")
    style.draw_legend(upper, "class")
    style.set_up_grid_axes(lower, ds)
    _draw_series(lower, found, found["overlap"].values, label="gradients", color=style.COLOURS[0], marker="o")
    if logits is not None:
        look = {"color": style.COLOURS[4], "marker": "s", "linestyle": "--"}
        _draw_series(lower, logits, logits["overlap"].values, label="mean logits", **look)
    lower.set(ylabel="overlap with the span\nof all classes", ylim=(-0.03, 1.03))
    style.draw_legend(lower, "span of")
    style.write_heading(upper, f"{run_name(ds, run)}, {split} split")
    return figure


@style.in_style
def measures(ds: xr.Dataset, run: int = 0, radius: float = 0.01) -> Figure:
    """Draw single numbers that summarise the stored eigenvalues, against λ.

    From above: the effective dimension Σ μ/(μ + 2cλ) of the stored eigenvalues, a lower bound; their spectral entropy,
    with ln k, its largest value; the ratio of eigenvalue number C − 1 to the next one for C classes
    (:func:`hesstore.analysis.spectral_measures`); and the rise of the training loss after a step of the length
    ρ‖θ‖ along a stored eigenvector, by the quadratic model (:func:`hesstore.analysis.sharpness`).

    Parameters
    ----------
    ds : Dataset, path or URL
        A store.
    run : int
        Run ID.
    radius : float
        ρ, above 0.
    ax : Axes, optional
        Axes to draw in, instead of a new figure; several panels take its place.

    Raises
    ------
    AnalysisError
        If the run does not exist or has no complete grid point, the store lacks the variables, or ρ is out of range.
    """
    found = with_gaps(analysis.spectral_measures(ds, run), ds)
    sharp = with_gaps(analysis.sharpness(ds, run, radius), ds)
    modes, classes = ds.sizes["mode"], ds.sizes["label"]
    figure = style.new_figure(7.2, 8.0)
    panels = figure.subplots(4, 1, sharex=True)
    for axes, part, name, text, colour in (
        (panels[0], found, "effective_dimension", f"effective dimension\nof {modes} eigenvalues", style.COLOURS[0]),
        (panels[1], found, "spectral_entropy", f"entropy of {modes}\neigenvalues (nat)", style.COLOURS[4]),
        (panels[2], found, "outlier_gap", f"|μ| of number {classes - 1}\nover number {classes}", style.COLOURS[2]),
        (panels[3], sharp, "sharpness", f"modelled rise of the loss\nat {radius:g} ‖θ‖ (nat)", style.INK),
    ):
        _draw_series(style.set_up_grid_axes(axes, ds), part, part[name].values, color=colour, marker="o")
        axes.set(ylabel=text)
        if axes is not panels[3]:
            axes.set_xlabel("")
    panels[1].axhline(np.log(modes), color=style.INK, linestyle=":")
    for axes, series in ((panels[2], found["outlier_gap"]), (panels[3], sharp["sharpness"])):
        if (series > 0).any():
            axes.set_yscale("log")
    style.write_heading(panels[0], run_name(ds, run))
    return figure


@style.in_style
def index(ds: xr.Dataset, run: int = 0) -> Figure:
    """Draw whether training ended at minima of the objective: its smallest eigenvalue, index and stationarity.

    The upper axes show the smallest eigenvalue μ + 2cλ of the objective's Hessian, the middle axes the number of
    negative ones (:func:`hesstore.analysis.objective_index`). An open triangle means that there may be more: a larger
    ``--lowest`` would show them. The lower axes show the stationarity, which is 0 at a stationary point: only there is
    the index that of a minimum or a saddle.

    Parameters
    ----------
    ds : Dataset, path or URL
        A store that was recorded with ``--lowest`` N of at least 1.
    run : int
        Run ID.
    ax : Axes, optional
        Axes to draw in, instead of a new figure; several panels take its place.

    Raises
    ------
    AnalysisError
        If the run does not exist or has no complete grid point, or the store lacks the lowest eigenvalues.
    """
    found = with_gaps(analysis.objective_index(ds, run), ds)
    figure = style.new_figure(7.2, 6.0)
    upper, middle, lower = figure.subplots(3, 1, sharex=True, height_ratios=(3, 2, 2))
    _draw_series(
        style.set_up_grid_axes(upper, ds),
        found,
        found["smallest_eigenvalue"].values,
        color=style.COLOURS[0],
        marker="o",
    )
    upper.axhline(0, color=style.INK, linewidth=0.8)
    upper.set(ylabel="smallest eigenvalue of the\nobjective's Hessian (nat)", xlabel="")
    _draw_index(style.set_up_grid_axes(middle, ds), found)
    part = run_series(ds, run, "stationarity")
    _draw_series(style.set_up_grid_axes(lower, ds), part, part["stationarity"].values, color=style.INK, marker="o")
    lower.set(ylabel=stationarity_label(ds), ylim=(0, None))
    style.write_heading(upper, run_name(ds, run))
    return figure


def _draw_index(axes: Axes, found: xr.Dataset) -> None:
    l2, count = found[axis_of(found)].values, found["index"].values
    is_complete = found["index_complete"].values == 1  # NaN in a gap
    for chosen, label, marker, face in (
        (is_complete, "all", "o", style.COLOURS[2]),
        (~is_complete & np.isfinite(count), "at least", "^", "none"),
    ):
        if chosen.any():
            look: dict[str, Any] = {"color": style.COLOURS[2], "markerfacecolor": face, "markersize": 5}
            axes.plot(l2[chosen], count[chosen], marker, label=label, **look)
    axes.set(ylabel="negative eigenvalues of\nthe objective's Hessian", xlabel="", ylim=(-0.4, None))
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    if axes.get_legend_handles_labels()[0]:
        style.draw_legend(axes)


def _draw_series(axes: Axes, part: xr.Dataset, values: NDArray[np.float64], offset: float = 0.0, **look: Any) -> None:
    """Draw ``values`` along the λ of ``part``."""
    axes.plot(
        part[axis_of(part)].values, values, markersize=4, markevery=style.marker_positions(values, offset), **look
    )
