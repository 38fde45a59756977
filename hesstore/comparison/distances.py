"""How far the values of one variable at one λ are apart in two stores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hesstore.analysis.subspaces import span_distance
from hesstore.comparison.verified_reader import is_unset
from hesstore.store.schema import BY_NAME

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hesstore.comparison.verified_reader import At

    Array = NDArray[Any]

_GAP = 0.05
"""Eigenvalues that differ by less than this share of the larger are taken for a cluster."""


class Distance(NamedTuple):
    """Whether any value differs, by how much at the most, and that over the largest magnitude; see the functions."""

    differs: bool
    absolute: float | None = None
    relative: float | None = None


SAME = Distance(differs=False, absolute=0.0, relative=0.0)


def of_variable(name: str, values: tuple[At, At], imports: tuple[int, ...]) -> tuple[Distance, bool]:
    """Of a variable that both have, as many modes as both have; and whether one of the ``imports`` lacks any values.

    What such a one lacks is left out: its files had none. Elsewhere a number against none is a difference.
    """
    a, b = (each[name] for each in values)
    if "mode" in BY_NAME[name].dims:
        k = min(len(a), len(b))
        a, b = a[:k], b[:k]
    has_gaps = False
    for side in imports:
        if is_unset(name, values[side]):
            return SAME, not is_unset(name, values[1 - side])
        if a.dtype.kind == "f":
            own, other = (b, a) if side else (a, b)
            gap = np.isnan(own) & ~np.isnan(other)
            a, b = np.where(gap, np.nan, a), np.where(gap, np.nan, b)
            has_gaps |= bool(gap.any())
    if name == "eigenvectors":
        return of_vectors(a, b, *(each["eigenvalues"][: len(a)] for each in values)), has_gaps
    return of_numbers(a, b) if a.dtype.kind == "f" else of_labels(a, b), has_gaps


def of_labels(a: Array, b: Array) -> Distance:
    """Of counts, flags and texts: whether any differs."""
    return Distance(differs=bool(np.any(a != b)))


def of_numbers(a: Array, b: Array) -> Distance:
    """The largest difference, and over the largest magnitude in either; NaN where a number stands against none.

    Examples
    --------
    >>> of_numbers(np.array([1.0, 4.0]), np.array([1.0, 3.0]))
    Distance(differs=True, absolute=1.0, relative=0.25)
    """
    first, second = (np.asarray(each, np.float64) for each in (a, b))
    other = ~((first == second) | (np.isnan(first) & np.isnan(second)))
    if not other.any():
        return SAME
    absolute = float(np.abs(first[other] - second[other]).max())  # NaN wins
    return Distance(differs=True, absolute=absolute, relative=absolute / float(np.nanmax(np.abs([first, second]))))


def of_vectors(a: Array, b: Array, eigenvalues_a: Array, eigenvalues_b: Array) -> Distance:
    """Of eigenvectors (k, P): 1 − overlap of the spans, up to the last gap that the eigenvalues of both have.

    Within a cluster of eigenvalues single vectors are arbitrary, and a span that ends within one is too.
    """
    if np.array_equal(a, b, equal_nan=True):
        return Distance(differs=False, relative=0.0)
    count = min(_before_gap(eigenvalues_a), _before_gap(eigenvalues_b))
    return Distance(differs=True, relative=span_distance(a[:count], b[:count]))


def _before_gap(eigenvalues: Array) -> int:
    """How many come before the last gap; all that were found if there is none."""
    found = np.asarray(eigenvalues, np.float64)
    found = found[np.isfinite(found)]
    gaps = np.abs(np.diff(found)) > _GAP * np.maximum(np.abs(found[1:]), np.abs(found[:-1]))
    return int(np.flatnonzero(gaps)[-1]) + 1 if gaps.any() else found.size
