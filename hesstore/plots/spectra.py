"""Eigenvalues against λ, and their density."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps

from hesstore.analysis.selection import complete_variables, l2_position
from hesstore.errors import AnalysisError
from hesstore.plots import style
from hesstore.plots.loss_marks import mark_losses
from hesstore.plots.plot_data import labels_of, losses, named
from hesstore.store.schema import DENSITY_SCALE

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

_CURVES = 5
"""λ whose density is drawn."""
_DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
_LOWEST = 1e-9
"""Of the largest density: below, the Gaussians of single nodes fall off to nothing."""


@style.styled
def spectrum(ds: xr.Dataset, run: int = 0, *, shift: bool = False) -> Figure:
    """Magnitude of the stored eigenvalues against λ on a logarithmic axis; negative ones are open.

    The line is the curvature of the penalty, 2cλ: the objective has a direction of negative curvature where an open
    mark lies above it. Digits above are the classes, at the λ where they are lost.

    Parameters
    ----------
    ds : Dataset
        A store.
    run : int
        Run ID.
    shift : bool
        Draw the eigenvalues of the objective's Hessian, μ + 2cλ, instead of those of the mean training loss, μ.

    Raises
    ------
    AnalysisError
        If the run is not there, or no λ of it is complete.
    """
    figure = style.sheet(7.2, 4.4)
    axes = figure.subplots()
    draw_spectrum(axes, ds, run, shift=shift)
    room = mark_losses(axes, labels_of(ds), losses(ds, run))
    style.heading(axes, named(ds, run), room)
    return figure


def draw_spectrum(axes: Axes, ds: xr.Dataset, run: int, *, shift: bool) -> None:
    """The axes of :func:`spectrum`."""
    part = complete_variables(ds, run, "eigenvalues").load()
    l2, penalty = part["l2"].values, 2 * _penalty_scale(ds) * part["l2"].values
    values = part["eigenvalues"].transpose("l2", "mode").values + (penalty[:, None] if shift else 0)
    _draw_signs(axes, np.broadcast_to(l2[:, None], values.shape), values)
    axes.plot(l2, np.where(penalty > 0, penalty, np.nan), color=style.INK, linestyle="--", label="penalty, 2cλ")
    style.along_l2(axes)
    name = "objective" if shift else "mean training loss"
    axes.set(ylabel=f"|eigenvalue| of the Hessian\nof the {name} (nat)", yscale="log")
    style.beside(axes)


def _draw_signs(axes: Axes, l2: NDArray[np.float64], values: NDArray[np.float64]) -> None:
    size = 13 if len(l2) <= style.DENSE else 6 if len(l2) <= 150 else 2.5
    for chosen, face, edge, marker, label in (
        (values > 0, style.COLOURS[0], style.COLOURS[0], "o", "positive"),
        (values < 0, "none", style.COLOURS[2], "s", "negative"),
    ):
        if chosen.any():
            axes.scatter(
                l2[chosen],
                np.abs(values[chosen]),
                s=size,
                marker=marker,
                facecolors=face,
                edgecolors=edge,
                linewidths=0.6,
                label=label,
                rasterized=bool(chosen.sum() > style.MANY),
            )


def _penalty_scale(ds: xr.Dataset) -> float:
    if "penalty_scale" not in ds.attrs:
        raise AnalysisError("the Dataset has no attribute penalty_scale: pass a whole store")
    return float(ds.attrs["penalty_scale"])


@style.styled
def density(ds: xr.Dataset, run: int = 0, l2: float | None = None) -> Figure:
    """Spectral density of the Hessian of the mean training loss; abscissa linear near 0, logarithmic beyond.

    Parameters
    ----------
    ds : Dataset
        A store.
    run : int
        Run ID.
    l2 : float, optional
        One λ, with its stored eigenvalues as ticks below; by default five of those that have a density.

    Raises
    ------
    AnalysisError
        If the run or the λ is not there or not complete, or has no density.
    """
    part = complete_variables(ds, run, "density", "eigenvalues").load()
    there = np.isfinite(part["density"].transpose("l2", "mu").values).all(1)
    if l2 is not None:
        chosen = [l2_position(part["l2"].values, l2, run)]
        there = there[chosen]
    else:
        found = np.flatnonzero(there)
        chosen = sorted(set(found[np.linspace(0, found.size - 1, _CURVES).round().astype(int)])) if found.size else []
    if not there.any():
        raise AnalysisError(
            "the store has no spectral density there: sweep with --density; with --density --grow a store gets it"
        )
    return _densities(part.isel(l2=chosen), named(ds, run))


def _densities(part: xr.Dataset, title: str) -> Figure:
    figure = style.sheet(7.2, 4.2)
    axes = style.bare(figure.subplots())
    values = part["density"].transpose("l2", "mu").values
    mu, floor = part["mu"].values, _LOWEST * values.max()
    colours = colormaps[style.SEQUENTIAL](np.linspace(0, 0.85, len(values)))
    for index, (row, strength) in enumerate(zip(values, part["l2"].values, strict=True)):
        shown = np.where(row > floor, row, np.nan)
        axes.plot(mu, shown, color=colours[index], linestyle=_DASHES[index % len(_DASHES)], label=f"{strength:g}")
    if len(values) == 1:
        _rug(axes, part["eigenvalues"].values[0])
    inside = np.flatnonzero((values > floor).any(0))
    first, last = max(inside[0] - 6, 0), min(inside[-1] + 6, mu.size - 1)
    axes.set_xscale("symlog", linthresh=DENSITY_SCALE)
    axes.set(xlim=(mu[first], mu[last]), yscale="log", ylim=(floor, None))
    axes.set(xlabel="eigenvalue μ of the Hessian of the mean training loss (nat)", ylabel="spectral density (nat⁻¹)")
    style.heading(axes, title)
    style.beside(axes, "λ")
    return figure


def _rug(axes: Axes, eigenvalues: NDArray[np.float64]) -> None:
    found = eigenvalues[np.isfinite(eigenvalues)]
    axes.plot(
        found,
        np.full(found.shape, 0.015),
        "|",
        color=style.COLOURS[2],
        markersize=7,
        transform=axes.get_xaxis_transform(),
        label="stored\neigenvalues",
    )
