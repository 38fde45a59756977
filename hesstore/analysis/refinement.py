"""A finer grid of λ where the networks of a store change suddenly: evenly, or by bisection."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hesstore.analysis.change_points import THRESHOLD
from hesstore.analysis.transitions import LOGARITHMIC, QUANTITIES, searched_series, transitions
from hesstore.config.l2_grid import AXIS, L2_DECIMALS
from hesstore.errors import AnalysisError
from hesstore.store.schema import axis_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    import xarray as xr
    from numpy.typing import NDArray

NARROWEST = 2 * 10.0**-L2_DECIMALS
"""The smallest width to which a bracket can be bisected, because λ is rounded."""

_TYPICAL = 0.999
"""The share of the typical gap below which a grid point counts as one that was added by refinement."""


def refined_l2(ds: xr.Dataset, points: int, threshold: float = THRESHOLD) -> tuple[float, ...]:
    """Return the grid of ``ds`` with ``points`` more values in each gap within a transition of one of the runs.

    Raises
    ------
    AnalysisError
        If an argument is out of range, or the store has no complete grid point.
    """
    if points < 1:
        raise AnalysisError(f"points is {points}: it must be at least 1")
    l2 = _l2_of(ds)
    found = transitions(ds, threshold=threshold)
    grid = set(l2.tolist())
    for first, last in zip(found["l2_from"].values, found["l2_to"].values, strict=True):
        inside = l2[(l2 >= first) & (l2 <= last)]
        for low, high in itertools.pairwise(inside.tolist()):
            grid |= set(np.linspace(low, high, points + 2)[1:-1].round(L2_DECIMALS).tolist())
    return tuple(sorted(grid))


@dataclass(frozen=True)
class Bracket:
    """Two neighbouring grid points of a run between which a quantity jumps.

    Attributes
    ----------
    run : int
        ID of the run.
    direction : str
        Its direction, ``"up"`` or ``"down"``.
    quantity : str
        The quantity that jumps.
    l2_from, l2_to : float
        λ of the two grid points.
    value_from, value_to : float
        The quantity there.
    """

    run: int
    direction: str
    quantity: str
    l2_from: float
    l2_to: float
    value_from: float
    value_to: float

    @property
    def width(self) -> float:
        """The distance of the two λ."""
        return self.l2_to - self.l2_from

    @property
    def l2_before(self) -> float:
        """λ of the grid point that the run visits first."""
        return self.l2_from if self.direction == "up" else self.l2_to

    @property
    def middle(self) -> float:
        """λ half-way between them, as a grid has it."""
        return round((self.l2_from + self.l2_to) / 2, L2_DECIMALS)


def strongest_brackets(
    ds: xr.Dataset,
    count: int | None = None,
    *,
    runs: Collection[int] = (),
    quantities: Sequence[str] = QUANTITIES,
    threshold: float = THRESHOLD,
) -> list[Bracket]:
    """Return a bracket for each of the ``count`` strongest transitions of each run (all: None), by run and λ.

    Transitions are searched on the typical grid: grid points that are closer to their neighbours than the others are
    left out, so that points which an earlier bisection added do not change which transitions are found. The quantity
    is the one with the largest strength.

    Raises
    ------
    AnalysisError
        If an argument is out of range, a run does not exist, or the store has no complete grid point.
    """
    if count is not None and count < 1:
        raise AnalysisError(f"count is {count}: it must be at least 1, or None for all transitions")
    chosen = _of_runs(ds, runs)
    coarse = ds.isel({AXIS: typical_positions(_l2_of(ds))})  # of all runs, which combine their strengths
    found = transitions(coarse, quantities, threshold=threshold)
    strength = np.maximum(found["strength"].values, found["combined_strength"].values)
    brackets = []
    for run in chosen["run"].values:
        of_run = np.flatnonzero(found["run"].values == run)
        for index in sorted(of_run[np.argsort(-strength[of_run], kind="stable")][:count]):
            at = found.isel(transition=index)
            ends = float(at["l2_from"]), float(at["l2_to"])
            brackets += _bisect(chosen, int(run), str(at["quantity_name"].values), *ends)
    return brackets


def brackets_at(
    ds: xr.Dataset, l2: Iterable[float], *, runs: Collection[int] = (), quantity: str = QUANTITIES[0]
) -> list[Bracket]:
    """Return the bracket in the typical gap around each of ``l2``, for each run.

    Raises
    ------
    AnalysisError
        If a value lies outside the grid, or a run does not exist or has no complete grid points around it.
    """
    grid, chosen = _l2_of(ds), _of_runs(ds, runs)
    typical = grid[typical_positions(grid)]
    brackets = []
    for value, run in itertools.product(l2, chosen["run"].values):
        if not typical[0] <= value <= typical[-1]:
            raise AnalysisError(
                f"λ = {value:g} is outside the grid: choose a value from {typical[0]:g} to {typical[-1]:g}"
            )
        last = min(max(int(np.searchsorted(typical, value)), 1), typical.size - 1)
        found = _bisect(chosen, int(run), quantity, float(typical[last - 1]), float(typical[last]))
        if not found:
            raise AnalysisError(
                f"run {run} has no complete grid points on both sides of λ = {value:g}: complete the sweep first"
            )
        brackets += found
    return brackets


def _l2_of(ds: xr.Dataset) -> NDArray[np.float64]:
    """Return the grid of λ."""
    axis = axis_of(ds)
    if axis != AXIS:
        raise AnalysisError(
            f"the store has checkpoints along {axis}, between which no network can be trained: add other checkpoints "
            "with `hesstore analyse --grow`"
        )
    l2: NDArray[np.float64] = ds[AXIS].values
    return l2


def typical_positions(l2: NDArray[np.float64]) -> list[int]:
    """Return the positions of grid points that are at least a typical gap apart, the first one among them.

    Half of the range of λ lies in gaps that are at least as wide as the typical one.
    """
    gaps = np.sort(np.diff(l2))
    if not gaps.size:
        return [0]
    typical = gaps[np.searchsorted(np.cumsum(gaps), gaps.sum() / 2)]
    kept = [0]
    for position in range(1, l2.size):
        if l2[position] - l2[kept[-1]] >= _TYPICAL * typical:
            kept.append(position)
    return kept


def _of_runs(ds: xr.Dataset, runs: Collection[int]) -> xr.Dataset:
    """Return the Dataset of some runs; of all, if none is named."""
    known = ds["run"].values.tolist()
    for run in runs:
        if run not in known:
            raise AnalysisError(f"run {run} does not exist: the runs are {', '.join(map(str, known))}")
    return ds.sel(run=[run for run in known if run in runs]) if runs else ds


def _bisect(ds: xr.Dataset, run: int, quantity: str, l2_from: float, l2_to: float) -> list[Bracket]:
    """Follow the larger jump of a quantity through the grid points between two, and return where that ends.

    The result depends on the values of the store alone, so that an interrupted bisection continues where it was. It is
    empty if the quantity is missing on one of the sides.
    """
    of_run = ds.sel(run=[run])
    series = searched_series(of_run, quantity)
    inside = (series.l2 >= l2_from) & (series.l2 <= l2_to)
    l2, values = series.l2[inside], series.values[inside]
    if l2.size < 2:
        return []
    low, high = 0, l2.size - 1
    while high - low > 1:
        middle = low + 1 + int(np.abs(l2[low + 1 : high] - (l2[low] + l2[high]) / 2).argmin())
        if abs(values[middle] - values[low]) >= abs(values[high] - values[middle]):
            high = middle
        else:
            low = middle
    ends = [low, high]
    shown = np.exp(values[ends]) if quantity in LOGARITHMIC else values[ends]
    return [Bracket(run, str(of_run["direction"].values[0]), quantity, *l2[ends].tolist(), *shown.tolist())]
