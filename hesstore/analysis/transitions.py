"""Transitions: where along λ a network changes suddenly, run by run, and how far runs agree on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from hesstore.analysis.attributes import variable, with_attributes
from hesstore.analysis.change_points import LEVEL, MIN_POINTS, THRESHOLD, Change, find_changes, strength_near
from hesstore.analysis.eigenvectors import eigenvector_reader
from hesstore.analysis.series import run_series
from hesstore.analysis.subspaces import one_minus_overlap
from hesstore.errors import AnalysisError
from hesstore.store.schema import AXIS, Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

QUANTITIES = ("loss", "weights_norm")
"""The quantities in which transitions are searched by default: every store has them, and they have little noise."""
OVERLAP = "overlap"
"""The quantity that is computed from the eigenvectors."""
LOGARITHMIC = ("weights_norm", "gradient_norm", "class_gradient_norm")
"""Quantities whose logarithm is searched: norms range over orders of magnitude along λ."""


def transitions(
    ds: xr.Dataset, quantities: str | Sequence[str] = QUANTITIES, split: str = "train", threshold: float = THRESHOLD
) -> xr.Dataset:
    """Find the transitions of each run: sudden rises and falls of some quantities along λ.

    Parameters
    ----------
    ds : Dataset
        A store.
    quantities : str or sequence of str
        Variables with the dimensions run and l2 (and split), such as ``loss``, ``accuracy``, ``weights_norm``,
        ``trace``; of norms, the logarithm is searched. ``overlap`` is the path that the span of the first C − 1
        eigenvectors covers along λ: the sum of √(1 − overlap) of neighbouring grid points (C classes). It reads the
        eigenvectors, which takes a while. A quantity without finite values in a run is not searched there.
    split : str
        ``"train"`` or ``"test"``, for quantities with the dimension split.
    threshold : float
        Smallest strength of a transition; above 0. See the notes.

    Returns
    -------
    Dataset
        One entry per ``transition``, in the order of runs and of λ; none if there are no transitions. ``run``,
        ``seed`` and ``run_direction`` say where; ``l2_from`` and ``l2_to`` are the grid points between which it
        lies: neighbours, or up to three gaps apart, or the ends of several steps. ``strength`` is the largest of the
        ``strengths`` (transition, quantity), which are positive for a rise as λ increases; ``quantity_name`` is the
        quantity that has it, and ``change`` is ``"rise"`` or ``"fall"``.

        ``runs_found`` of ``runs_searched`` runs in the same direction have this transition: runs are searched if they
        pass the value in the middle of the change, and have it if one of their transitions passes it;
        ``runs_from`` and ``runs_to`` are the smallest l2_from and the largest l2_to of those. ``hysteresis`` is the
        λ of the transition in the run up minus that in the run down of the same seed, matched in the same way; NaN if
        the other run has no such transition.

    Raises
    ------
    AnalysisError
        If the store has no complete grid point or lacks a quantity, or an argument is out of range.

    Notes
    -----
    Only complete grid points at which the quantity is finite are used; with fewer than ten of them, and within the
    first or last four gaps of the grid, no transition can be found. The grid may be irregular. Changes with fewer than
    three gaps between them are one transition, also those of several quantities; it has the λ of the strongest.

    A change over one to three gaps counts as sudden if it stands out from the trends on both sides and lasts. D is the
    difference of its two grid points, and J that of the medians of three grid points on each side, extended along the
    trends. Trends are medians of the slopes of the 12 gaps on each side, weighted by their lengths. A rise is
    min(D, J) minus the larger trend; a fall is the reverse. Its strength is its size over the scatter of the 12 gaps:
    the mean of the smallest three quarters of the deviations from the trend, scaled to σ for normal noise, the larger
    one of both sides. The scatter is at least a quarter of the trend and 0.8 of the third largest deviation, so that
    smooth curves and constant series with single spikes have no transitions.

    This resembles the difference of one-sided kernel estimates (Müller, Ann. Stat. 20, 1992), with medians because
    a training can fail at one grid point. With the default threshold, fewer than 5 % of series of noise without a
    change have a transition: normal, heavy-tailed (Student's t with 2 degrees of freedom) or autocorrelated normal
    (up to 0.9) noise, about constants and smooth trends, on 10 to 1000 grid points. An autocorrelated series whose
    innovations are heavy-tailed does jump, so its jumps are found.
    """
    names = (quantities,) if isinstance(quantities, str) else tuple(dict.fromkeys(quantities))
    if not names:
        raise AnalysisError("no quantity is given: choose some, such as loss and weights_norm")
    if not threshold > 0:
        raise AnalysisError(f"threshold is {threshold:g}: it must be above 0")
    searches = _searches(ds, names, split)
    found = [transition for search in searches for transition in _find(search, threshold)]
    return _as_dataset(ds, names, found, searches)


@dataclass(frozen=True)
class _Series:
    """A quantity of a run: values (m,) at the λ (m,), which are the entries ``positions`` of the grid."""

    positions: NDArray[np.intp]
    l2: NDArray[np.float64]
    values: NDArray[np.float64]

    def level(self, l2_from: float, l2_to: float) -> tuple[float, float]:
        """Return the values at the last grid point up to ``l2_from`` and at the first one from ``l2_to``."""
        first = max(int(np.searchsorted(self.l2, l2_from, "right")) - 1, 0)
        last = min(int(np.searchsorted(self.l2, l2_to)), self.l2.size - 1)
        return float(self.values[first]), float(self.values[last])


@dataclass(frozen=True)
class _Search:
    """The quantities of one run that have finite values, by name."""

    run: int
    seed: int
    direction: str
    series: dict[str, _Series]

    def passes(self, name: str, level: float) -> bool:
        """Whether the run passes this value of a quantity, so that a transition there could be found."""
        series = self.series.get(name)
        if series is None or series.l2.size < MIN_POINTS:
            return False
        return bool(series.values.min() <= level <= series.values.max())


@dataclass(frozen=True)
class _Transition:
    """A sudden change of a run, between two λ, and the quantity in which it is strongest."""

    search: _Search
    name: str
    change: Change
    strengths: dict[str, float]

    @property
    def l2_from(self) -> float:
        return float(self.search.series[self.name].l2[self.change.first])

    @property
    def l2_to(self) -> float:
        return float(self.search.series[self.name].l2[self.change.last])

    @property
    def middle(self) -> float:
        return (self.l2_from + self.l2_to) / 2

    @property
    def level(self) -> float:
        """The value of the strongest quantity in the middle of the change."""
        return sum(self.search.series[self.name].level(self.l2_from, self.l2_to)) / 2

    def passes(self, other: _Transition) -> bool:
        """Whether this change passes the value in the middle of ``other``."""
        series = self.search.series.get(other.name)
        if series is None:
            return False
        ends = series.level(self.l2_from, self.l2_to)
        return min(ends) <= other.level <= max(ends)


def _find(search: _Search, threshold: float) -> list[_Transition]:
    """Return the transitions of a run: the changes of all quantities, of which the strongest absorb those near them."""
    changes = [
        (name, change)
        for name, series in search.series.items()
        for change in find_changes(series.l2, series.values, threshold)
    ]
    found: list[tuple[int, _Transition]] = []
    taken: list[tuple[int, int]] = []
    for name, change in sorted(changes, key=lambda each: -abs(each[1].strength)):
        positions = search.series[name].positions
        first, last = int(positions[change.first]), int(positions[change.last])
        if all(first - end >= LEVEL or start - last >= LEVEL for start, end in taken):
            taken.append((first, last))
            strengths = {other: _strength(series, first, last) for other, series in search.series.items()}
            found.append((first, _Transition(search, name, change, {**strengths, name: change.strength})))
    return [transition for _, transition in sorted(found, key=lambda each: each[0])]


def _strength(series: _Series, first: int, last: int) -> float:
    """Return the largest strength of a quantity near the grid points first to last."""
    start = int(np.searchsorted(series.positions, first))
    return strength_near(series.l2, series.values, start, start + last - first)


# -- series along λ ---------------------------------------------------------------------------------------


def _searches(ds: xr.Dataset, names: Sequence[str], split: str) -> list[_Search]:
    values = {name: _values(ds, name, split) for name in names}
    searches = []
    for at, run in enumerate(ds["run"].values):
        used = np.flatnonzero(np.isfinite([values[name][at] for name in names]).any(0))
        series = {}
        for name in names:
            chosen = np.flatnonzero(np.isfinite(values[name][at, used]))
            if chosen.size:
                series[name] = _Series(chosen, ds[AXIS].values[used[chosen]], values[name][at, used[chosen]])
        searches.append(_Search(int(run), int(ds["seed"].values[at]), str(ds["direction"].values[at]), series))
    return searches


def _values(ds: xr.Dataset, name: str, split: str) -> NDArray[np.float64]:
    """Return a quantity (run, l2) as it is searched."""
    if name == OVERLAP:
        return _paths(ds)
    values = run_series(ds, name, split)
    if values.ndim > 2:
        dims = ", ".join(map(str, values.dims[2:]))
        raise AnalysisError(f"{name} has the further dimension {dims}: choose a quantity with one value per grid point")
    if name not in LOGARITHMIC:
        return values.values
    positive = np.where(values.values > 0, values.values, np.nan)
    return np.log(positive)


def _paths(ds: xr.Dataset) -> NDArray[np.float64]:
    """Return the path of the span of the first C − 1 eigenvectors (run, l2), 0 at the first complete grid point."""
    paths = np.full((ds.sizes["run"], ds.sizes[AXIS]), np.nan)
    status = ds["status"].transpose("run", AXIS).values
    for at, run in enumerate(ds["run"].values):
        if not (status[at] == Status.COMPLETE).any():
            continue
        reader = eigenvector_reader(ds, int(run))
        k = min(max(ds.sizes["label"] - 1, 1), reader.num_modes)
        before, length = reader.read(0, k), 0.0
        for index, position in enumerate(reader.positions):
            vectors = reader.read(index, k)
            length += float(np.sqrt(one_minus_overlap(before, vectors)))
            paths[at, position], before = length, vectors
    return paths


# -- the table --------------------------------------------------------------------------------------------


def _as_dataset(
    ds: xr.Dataset, names: Sequence[str], found: Sequence[_Transition], searches: Sequence[_Search]
) -> xr.Dataset:
    peers = [_agreeing(each, found) for each in found]
    searched = [
        sum(search.direction == each.search.direction and search.passes(each.name, each.level) for search in searches)
        for each in found
    ]
    strengths = np.array([[each.strengths.get(name, np.nan) for name in names] for each in found])
    strengths = strengths.reshape(-1, len(names))
    units = ds[AXIS].attrs.get("units")
    numbers = {
        "l2_from": ([each.l2_from for each in found], "λ before the transition", units),
        "l2_to": ([each.l2_to for each in found], "λ after the transition", units),
        "strength": ([abs(each.change.strength) for each in found], "change over scatter, largest quantity", None),
        "runs_from": ([min(peer.l2_from for peer in group) for group in peers], "smallest λ before, over runs", units),
        "runs_to": ([max(peer.l2_to for peer in group) for group in peers], "largest λ after, over runs", units),
        "hysteresis": ([_hysteresis(each, found) for each in found], "λ in the run up minus in the run down", units),
    }
    counts = {
        "runs_found": ([len({peer.search.run for peer in group}) for group in peers], "runs with the transition"),
        "runs_searched": (searched, "runs that pass its level"),
    }
    texts = {
        "quantity_name": ([each.name for each in found], "quantity with the largest strength"),
        "change": (["rise" if each.change.strength > 0 else "fall" for each in found], "direction of the change"),
    }
    coords: dict[str, Any] = {
        "transition": np.arange(len(found)),
        "run": ("transition", np.array([each.search.run for each in found], np.int64)),
        "seed": ("transition", np.array([each.search.seed for each in found], np.int64)),
        "run_direction": ("transition", np.array([each.search.direction for each in found], object)),
        "quantity": list(names),
    }
    one = ("transition",)
    variables = {
        **{
            name: variable(one, np.array(values, np.float64), text, unit)
            for name, (values, text, unit) in numbers.items()
        },
        "strengths": variable(("transition", "quantity"), strengths, "change over scatter, positive for a rise"),
        **{name: variable(one, np.array(values, np.int64), text) for name, (values, text) in counts.items()},
        **{name: variable(one, np.array(values, object), text) for name, (values, text) in texts.items()},
    }
    return with_attributes(xr.Dataset(variables, coords=coords))


def _agreeing(one: _Transition, found: Iterable[_Transition]) -> list[_Transition]:
    """Return the transitions of runs in the same direction that pass the level of ``one``, itself included."""
    return [each for each in found if each.search.direction == one.search.direction and _matches(each, one)]


def _hysteresis(one: _Transition, found: Iterable[_Transition]) -> float:
    for each in found:
        is_partner = each.search.seed == one.search.seed and each.search.direction != one.search.direction
        if is_partner and _matches(each, one):
            return one.middle - each.middle if one.search.direction == "up" else each.middle - one.middle
    return np.nan


def _matches(one: _Transition, other: _Transition) -> bool:
    return one is other or (one.search is not other.search and one.passes(other))
