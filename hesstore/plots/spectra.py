"""Eigenvalues against λ, and the spectral density at single grid points."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from matplotlib import colormaps

from hesstore.analysis.selection import (
    complete_variables,
    evenly_spaced,
    growing_advice,
    l2_position,
    matrix_name,
    penalty_shift,
)
from hesstore.config.l2_grid import axis_symbol, value_text
from hesstore.errors import AnalysisError
from hesstore.plots import style
from hesstore.plots.lost_classes import mark_lost_classes
from hesstore.plots.run_data import class_names, lost_at, run_name, stationarity_note
from hesstore.plots.transition_marks import mark_transitions
from hesstore.store.schema import DENSITY_SCALE, LOWEST, axis_of

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

_MAX_CURVES = 5
"""Maximum number of grid points whose densities are drawn in one figure."""
_WIDTHS = (3.2, 2.5, 1.9, 1.3, 0.8)
"""Widths of the curves: where several coincide, each is seen next to those drawn after it."""
_LOWEST = 1e-9
"""The lowest density that is drawn, as a share of the largest: below it are only the tails of single Gaussians."""


@style.in_style
def spectrum(ds: xr.Dataset, run: int = 0, *, shift: bool = False) -> Figure:
    """Draw the magnitudes of the stored eigenvalues against λ on a logarithmic axis; negative ones are open squares.

    The line is the curvature of the penalty, 2cλ: where an open symbol lies above it, the objective has a direction of
    negative curvature. Triangles are the smallest eigenvalue, if the store has ``lowest_eigenvalues``. The names above
    the axes mark the λ at which classes are lost. Grey bands are transitions. The heading names the range of the
    stationarity (``stationarity``): where it is not close to 0, training has ended before a stationary point, and the
    signs of eigenvalues do not tell minima from saddles.

    Parameters
    ----------
    ds : Dataset, path or URL
        A store.
    run : int
        Run ID.
    shift : bool
        Draw the eigenvalues of the objective's Hessian, μ + 2cλ, instead of those of the mean training loss, μ.
    ax : Axes, optional
        Axes to draw in, instead of a new figure; several panels take its place.

    Raises
    ------
    AnalysisError
        If the run does not exist or has no complete grid point.
    """
    figure = style.new_figure(7.2, 4.4)
    axes = figure.subplots()
    draw_spectrum(axes, ds, run, shift=shift)
    room = mark_lost_classes(axes, class_names(ds), lost_at(ds, run))
    style.write_heading(axes, run_name(ds, run) + stationarity_note(ds, run), room)
    return figure


def draw_spectrum(axes: Axes, ds: xr.Dataset, run: int, *, shift: bool) -> None:
    """Draw the axes of :func:`spectrum`."""
    axis = axis_of(ds)
    lowest = [LOWEST.eigenvalues] if LOWEST.eigenvalues in ds else []
    part = complete_variables(ds, run, "eigenvalues", *lowest).load()
    l2, penalty = part[axis].values, penalty_shift(part).values
    raised = penalty[:, None] if shift else np.zeros((len(l2), 1))
    values = part["eigenvalues"].transpose(axis, "mode").values + raised
    _draw_signs(axes, np.broadcast_to(l2[:, None], values.shape), values, _ALL)
    if lowest:
        smallest = (part[LOWEST.eigenvalues].transpose(axis, "lowest").values + raised)[:, 0]
        _draw_signs(axes, l2, smallest, _SMALLEST)
    if (penalty > 0).any():
        axes.plot(l2, np.where(penalty > 0, penalty, np.nan), color=style.INK, linestyle="--", label="penalty, 2cλ")
    style.set_up_grid_axes(axes, ds)
    name = "objective" if shift else "mean training loss"
    axes.set(ylabel=f"|eigenvalue| of the {matrix_name(ds)}\nof the {name} (nat)", yscale="log")
    style.draw_legend(axes)
    mark_transitions(axes, ds, run)


class _Symbol(NamedTuple):
    """How eigenvalues of one sign are drawn; negative ones are open."""

    label: str
    marker: str
    colour: str


_ALL = _Symbol("positive", "o", style.COLOURS[0]), _Symbol("negative", "s", style.COLOURS[2])
_SMALLEST = (
    _Symbol("smallest, positive", "^", style.COLOURS[1]),
    _Symbol("smallest, negative", "v", style.COLOURS[1]),
)


def _draw_signs(
    axes: Axes, l2: NDArray[np.float64], values: NDArray[np.float64], symbols: tuple[_Symbol, _Symbol]
) -> None:
    size = 13 if len(l2) <= style.DENSE_GRID else 6 if len(l2) <= 150 else 2.5
    for chosen, symbol, is_open in ((values > 0, symbols[0], False), (values < 0, symbols[1], True)):
        if chosen.any():
            axes.scatter(
                l2[chosen],
                np.abs(values[chosen]),
                s=size,
                marker=symbol.marker,
                facecolors="none" if is_open else symbol.colour,
                edgecolors=symbol.colour,
                linewidths=0.6,
                label=symbol.label,
                rasterized=bool(chosen.sum() > style.RASTERISE_ABOVE),
            )


@style.in_style
def density(ds: xr.Dataset, run: int = 0, l2: float | None = None) -> Figure:
    """Draw the spectral density of the Hessian of the mean training loss.

    The horizontal axis is linear near 0 and logarithmic beyond.

    Parameters
    ----------
    ds : Dataset, path or URL
        A store.
    run : int
        Run ID.
    l2 : float, optional
        λ of one grid point, whose stored eigenvalues are drawn as ticks at the lower edge; by default up to five grid
        points that have a density.
    ax : Axes, optional
        Axes to draw in, instead of a new figure; several panels take its place.

    Raises
    ------
    AnalysisError
        If the run or grid point does not exist, is not complete, or has no density.
    """
    axis = axis_of(ds)
    part = complete_variables(ds, run, "density", "eigenvalues").load()
    has_density = np.isfinite(part["density"].transpose(axis, "mu").values).all(1)
    if l2 is None:
        candidates = np.flatnonzero(has_density)
        chosen = candidates[evenly_spaced(candidates.size, _MAX_CURVES)]
    else:
        chosen = np.array([l2_position(part[axis].values, l2, run, axis)])
    if not has_density[chosen].any():
        where = f"run {run}" if l2 is None else f"{value_text(axis, l2)} of run {run}"
        raise AnalysisError(f"{where} has no spectral density: record it with {growing_advice(part, '--density')}")
    return _draw_densities(part.isel({axis: chosen}), run_name(ds, run))


def _draw_densities(part: xr.Dataset, title: str) -> Figure:
    axis = axis_of(part)
    figure = style.new_figure(7.2, 4.2)
    axes = style.set_up_axes(figure.subplots())
    values = part["density"].transpose(axis, "mu").values
    mu, floor = part["mu"].values, _LOWEST * values.max()
    colours = colormaps[style.SEQUENTIAL](np.linspace(0, 0.85, len(values)))
    for index, (row, l2) in enumerate(zip(values, part[axis].values, strict=True)):
        shown = np.where(row > floor, row, np.nan)
        axes.plot(mu, shown, color=colours[index], linewidth=_WIDTHS[-len(values) :][index], label=f"{l2:g}")
    if len(values) == 1:
        _draw_ticks(axes, part["eigenvalues"].values[0])
    visible = np.flatnonzero((values > floor).any(0))
    first, last = max(visible[0] - 6, 0), min(visible[-1] + 6, mu.size - 1)
    axes.set_xscale("symlog", linthresh=DENSITY_SCALE)
    axes.set(xlim=(mu[first], mu[last]), yscale="log", ylim=(floor, None))
    matrix = matrix_name(part)
    axes.set(xlabel=f"eigenvalue μ of the {matrix} of the mean training loss (nat)", ylabel="spectral density (nat⁻¹)")
    style.write_heading(axes, title)
    style.draw_legend(axes, axis_symbol(axis))
    return figure


def _draw_ticks(axes: Axes, eigenvalues: NDArray[np.float64]) -> None:
    known = eigenvalues[np.isfinite(eigenvalues)]
    axes.plot(
        known,
        np.full(known.shape, 0.015),
        "|",
        color=style.COLOURS[2],
        markersize=7,
        transform=axes.get_xaxis_transform(),
        label="stored\neigenvalues",
    )
