"""The distance between the values that two stores have of one variable at one grid point."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hesstore.analysis.subspaces import one_minus_overlap
from hesstore.comparison.verified_reader import is_unset
from hesstore.store.schema import BY_NAME

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hesstore.comparison.verified_reader import PointValues

    Array = NDArray[Any]

_GAP = 0.05
"""Neighbouring eigenvalues belong to one cluster if they differ by at most this fraction of the larger one."""


class Distance(NamedTuple):
    """The distance between two arrays.

    Attributes
    ----------
    differs : bool
        Whether any value differs.
    absolute : float or None
        The largest difference of two values.
    relative : float or None
        The largest difference over the largest magnitude; see the functions.
    """

    differs: bool
    absolute: float | None = None
    relative: float | None = None


SAME = Distance(differs=False, absolute=0.0, relative=0.0)


def distance_of(name: str, values: tuple[PointValues, PointValues], imports: tuple[int, ...]) -> tuple[Distance, bool]:
    """Return the distance of a variable that both stores have, and whether an import lacks some of its values.

    Only the modes that both stores have are compared. Values that an import lacks are left out, because its files did
    not contain them. In all other cases a number in only one of the stores is a difference.

    Parameters
    ----------
    name : str
        The variable.
    values : tuple of mapping
        The values of both stores at the grid point.
    imports : tuple of int
        The stores (0 or 1) that were imported from files.
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
        return eigenvector_distance(a, b, *(each["eigenvalues"][: len(a)] for each in values)), has_gaps
    return number_distance(a, b) if a.dtype.kind == "f" else label_distance(a, b), has_gaps


def label_distance(a: Array, b: Array) -> Distance:
    """The distance of counts, flags or texts: whether any of them differs."""
    return Distance(differs=bool(np.any(a != b)))


def number_distance(a: Array, b: Array) -> Distance:
    """The largest difference, and that difference over the largest magnitude in either array.

    Both are NaN if only one of the arrays has a number at some position, and infinite if only one of them is infinite
    there, as a bound on further eigenvalues can be.

    Examples
    --------
    >>> number_distance(np.array([1.0, 4.0]), np.array([1.0, 3.0]))
    Distance(differs=True, absolute=1.0, relative=0.25)
    """
    first, second = (np.asarray(each, np.float64) for each in (a, b))
    other = ~((first == second) | (np.isnan(first) & np.isnan(second)))
    if not other.any():
        return SAME
    absolute = float(np.abs(first[other] - second[other]).max())  # NaN wins
    largest = float(np.nanmax(np.abs([first, second])))
    return Distance(differs=True, absolute=absolute, relative=absolute / largest if largest < np.inf else absolute)


def eigenvector_distance(a: Array, b: Array, eigenvalues_a: Array, eigenvalues_b: Array) -> Distance:
    """The distance of eigenvectors (k, P): 1 − overlap of the spans up to the last gap between the eigenvalues.

    Within a cluster of eigenvalues the single vectors are arbitrary, and so is a span that ends within a cluster.
    Therefore both spans end at a gap: at the earlier one of the last gaps in both stores.
    """
    if np.array_equal(a, b, equal_nan=True):
        return Distance(differs=False, relative=0.0)
    count = min(_before_gap(eigenvalues_a), _before_gap(eigenvalues_b))
    return Distance(differs=True, relative=one_minus_overlap(a[:count], b[:count]))


def _before_gap(eigenvalues: Array) -> int:
    """Number of eigenvalues before the last gap; all finite ones if there is no gap."""
    found = np.asarray(eigenvalues, np.float64)
    found = found[np.isfinite(found)]
    gaps = np.abs(np.diff(found)) > _GAP * np.maximum(np.abs(found[1:]), np.abs(found[:-1]))
    return int(np.flatnonzero(gaps)[-1]) + 1 if gaps.any() else found.size
