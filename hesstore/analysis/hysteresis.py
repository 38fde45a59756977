"""Hysteresis: the difference between the way up and the way down along λ."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import xarray as xr

from hesstore.analysis.attributes import variable, with_attributes
from hesstore.analysis.class_quantities import SKILL, chance, class_values, require_margin
from hesstore.analysis.lost_classes import LOST_BEFORE, MARGIN, NEVER_LOST, NO_VALUES, Loss, loss_of
from hesstore.errors import AnalysisError
from hesstore.store.schema import axis_of

if TYPE_CHECKING:
    from numpy.typing import NDArray


def hysteresis(ds: xr.Dataset, split: str = "test", margin: float = MARGIN, quantity: str = SKILL) -> xr.Dataset:
    """Measure how much the way up and the way down along λ differ, for each class and each seed with both directions.

    Parameters
    ----------
    ds : Dataset
        A store.
    split : str
        ``"train"`` or ``"test"``.
    margin : float
        A class is known where the quantity exceeds the chance level by more than this; see :func:`lost_classes`.
    quantity : str
        ``class_skill`` or ``class_accuracy``; see :func:`lost_classes`.

    Returns
    -------
    Dataset
        All variables have the dimensions (seed, label) and use the grid points that are complete in both runs. With
        the values a of the quantity, ``area`` = ∫ |a_up − a_down| dλ and ``signed_area`` = ∫ (a_up − a_down) dλ, both
        by the trapezoidal rule and NaN for fewer than two grid points; ``width``, the λ at which the class is lost
        (:func:`lost_classes`) in the run up minus that in the run down. If a class is never lost, or lost before the
        first λ, the last or first λ takes its place, and ``width_bound`` is ``"at least"`` or ``"at most"``; it is
        empty elsewhere. The width is NaN if nothing is known about it.

    Raises
    ------
    AnalysisError
        If no seed has runs in both directions, if these runs have no complete grid point in common, or if an argument
        is out of range.
    """
    values = class_values(ds, quantity, split)
    require_margin(margin)
    pairs = _pairs(ds)
    l2, threshold = ds[axis_of(ds)].values, chance(ds, quantity) + margin
    series = values.values
    loops = [_loop(l2, series[up], series[down], threshold) for up, down in pairs.values()]
    if not any(loop.num_points for loop in loops):
        raise AnalysisError("no seed has a grid point that is complete in both directions: run the sweep further")
    fields = {name: np.array([getattr(loop, name) for loop in loops]) for name in _NAMES}
    fields["width_bound"] = fields["width_bound"].astype(object)
    return with_attributes(
        xr.Dataset(
            {name: variable(("seed", "label"), fields[name], text) for name, text in _NAMES.items()},
            coords={"seed": list(pairs), "label": ds["label"].variable},
        )
    )


_NAMES = {
    "area": "area between the way up and the way down",
    "signed_area": "signed area, way up minus way down",
    "width": "λ of the loss on the way up minus that on the way down",
    "width_bound": "whether the width is a bound",
}


class _Loop(NamedTuple):
    """The number of grid points that both runs of a seed have; area, signed area and width of each class."""

    num_points: int
    area: NDArray[np.float64]
    signed_area: NDArray[np.float64]
    width: list[float]
    width_bound: list[str]


def _pairs(ds: xr.Dataset) -> dict[int, tuple[int, int]]:
    """Return the positions of the runs up and down, by seed."""
    runs = zip(ds["seed"].values.tolist(), ds["direction"].values.tolist(), strict=True)
    at = {run: position for position, run in enumerate(runs)}
    seeds = sorted({seed for seed, _ in at})
    pairs = {seed: (at[seed, "up"], at[seed, "down"]) for seed in seeds if {(seed, "up"), (seed, "down")} <= set(at)}
    if not pairs:
        raise AnalysisError("no seed has a run in both directions: sweep with --direction both")
    return pairs


def _loop(l2: NDArray[np.float64], up: NDArray[np.float64], down: NDArray[np.float64], threshold: float) -> _Loop:
    in_both = (np.isfinite(up) & np.isfinite(down)).any(1)  # a class without rows is NaN at every grid point
    l2, up, down = l2[in_both], up[in_both], down[in_both]
    widths = [_width(l2, *(loss_of(l2, each, threshold) for each in pair)) for pair in zip(up.T, down.T, strict=True)]
    width, bound = [each[0] for each in widths], [each[1] for each in widths]
    if l2.size < 2:
        no_area = np.full(len(width), np.nan)
        return _Loop(l2.size, no_area, no_area, width, bound)
    return _Loop(l2.size, _integral(np.abs(up - down), l2), _integral(up - down, l2), width, bound)


def _width(l2: NDArray[np.float64], up: Loss, down: Loss) -> tuple[float, str]:
    """Return the width and whether it is a bound."""
    at_least = up.censored == NEVER_LOST or down.censored == LOST_BEFORE
    at_most = up.censored == LOST_BEFORE or down.censored == NEVER_LOST
    if NO_VALUES in (up.censored, down.censored) or (at_least and at_most):
        return np.nan, ""
    ends = {NEVER_LOST: l2[-1], LOST_BEFORE: l2[0]}
    places = [ends.get(loss.censored, loss.lost_l2) for loss in (up, down)]
    return float(places[0] - places[1]), "at least" if at_least else "at most" if at_most else ""


def _integral(heights: NDArray[np.float64], l2: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ∫ dλ of (n, classes) by the trapezoidal rule, whose NumPy function is named differently before 2.0."""
    total: NDArray[np.float64] = np.diff(l2) @ (heights[1:] + heights[:-1]) / 2
    return total
