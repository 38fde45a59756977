"""The search for transitions: sudden changes of several quantities in each run, and their agreement over runs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hesstore.analysis.change_points import LEVEL, MIN_POINTS, Change, find_changes, strength_near

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_WEAK = 0.5
"""The share of the threshold above which a change counts as evidence for one in another run."""


@dataclass(frozen=True)
class Series:
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
class Search:
    """The quantities of one run that have finite values, by name."""

    run: int
    seed: int
    direction: str
    series: dict[str, Series]

    def passes(self, name: str, level: float) -> bool:
        """Whether the run passes this value of a quantity, so that a transition there could be found."""
        series = self.series.get(name)
        if series is None or series.l2.size < MIN_POINTS:
            return False
        return bool(series.values.min() <= level <= series.values.max())


@dataclass(frozen=True)
class Transition:
    """A sudden change of a run, between two λ, and the quantity in which it is strongest."""

    search: Search
    name: str
    change: Change
    strengths: dict[str, float]

    @property
    def l2_from(self) -> float:
        """The λ before it."""
        return float(self.search.series[self.name].l2[self.change.first])

    @property
    def l2_to(self) -> float:
        """The λ after it."""
        return float(self.search.series[self.name].l2[self.change.last])

    @property
    def middle(self) -> float:
        """The midpoint of these."""
        return (self.l2_from + self.l2_to) / 2

    @property
    def level(self) -> float:
        """The value of the strongest quantity in the middle of the change."""
        return sum(self.search.series[self.name].level(self.l2_from, self.l2_to)) / 2

    def passes(self, other: Transition) -> bool:
        """Whether this change passes the value in the middle of ``other``."""
        series = self.search.series.get(other.name)
        if series is None:
            return False
        ends = series.level(self.l2_from, self.l2_to)
        return min(ends) <= other.level <= max(ends)


class Found(NamedTuple):
    """A transition, and those in runs of the same direction that agree with it, one per run, itself first."""

    transition: Transition
    peers: tuple[Transition, ...]
    runs_searched: int

    @property
    def strength(self) -> float:
        """The strength in the run alone."""
        return abs(self.transition.change.strength)

    @property
    def combined_strength(self) -> float:
        """The sum of the strengths over the runs that agree, divided by √(runs searched)."""
        strengths = [abs(peer.change.strength) for peer in self.peers]
        return sum(strengths) / math.sqrt(max(self.runs_searched, len(strengths)))


def find_transitions(searches: Sequence[Search], threshold: float) -> list[Found]:
    """Return the transitions whose strength, or combined strength, is above the threshold, run by run."""
    changes = [change for search in searches for change in _find(search, threshold)]
    found = [_agreement(each, changes, searches) for each in changes]
    return [each for each in found if max(each.strength, each.combined_strength) > threshold]


def hysteresis(one: Transition, found: Sequence[Found]) -> float:
    """Return the λ of a transition in the run up minus that in the run down of its seed; NaN if it is in one only."""
    for each, *_ in found:
        is_partner = each.search.seed == one.search.seed and each.search.direction != one.search.direction
        if is_partner and each.passes(one):
            return one.middle - each.middle if one.search.direction == "up" else each.middle - one.middle
    return math.nan


def _agreement(one: Transition, changes: Sequence[Transition], searches: Sequence[Search]) -> Found:
    others = [search for search in searches if search.direction == one.search.direction and search is not one.search]
    peers = [_peer(one, [each for each in changes if each.search is search]) for search in others]
    searched = 1 + sum(search.passes(one.name, one.level) for search in others)
    return Found(one, (one, *(peer for peer in peers if peer is not None)), searched)


def _peer(one: Transition, changes: Sequence[Transition]) -> Transition | None:
    """Return the strongest of the changes of another run that pass the level of ``one`` in the same direction."""
    same = [each for each in changes if each.passes(one) and each.strengths.get(one.name, 0) * one.change.strength > 0]
    return max(same, key=lambda each: abs(each.change.strength), default=None)


def _find(search: Search, threshold: float) -> list[Transition]:
    """Return the changes of a run, weak ones too; the strongest absorb those near them, also of other quantities."""
    changes = [
        (name, change)
        for name, series in search.series.items()
        for limit in (threshold, _WEAK * threshold)  # weak changes must not widen strong ones
        for change in find_changes(series.l2, series.values, limit)
    ]
    found: list[tuple[int, Transition]] = []
    taken: list[tuple[int, int]] = []
    for name, change in sorted(changes, key=lambda each: -abs(each[1].strength)):
        positions = search.series[name].positions
        first, last = int(positions[change.first]), int(positions[change.last])
        if all(first - end >= LEVEL or start - last >= LEVEL for start, end in taken):
            taken.append((first, last))
            strengths = {other: _strength(series, first, last) for other, series in search.series.items()}
            found.append((first, Transition(search, name, change, {**strengths, name: change.strength})))
    return [transition for _, transition in sorted(found, key=lambda each: each[0])]


def _strength(series: Series, first: int, last: int) -> float:
    """Return the largest strength of a quantity near the grid points first to last."""
    start = int(np.searchsorted(series.positions, first))
    return strength_near(series.l2, series.values, start, start + last - first)
