"""Sudden changes of a series along λ, measured against the trend and the scatter on both sides of them.

A fall of the loss by 0.1 is sudden where neighbouring grid points differ by 0.005, and nothing where they differ by
0.1. So a change counts in units of the local scatter, it must stand out from the trends on *both* sides, and it must
last: the levels on both sides differ, not only the two grid points.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

THRESHOLD = 6.0
"""The strength above which a change counts.

In simulations of noise without any change, a series has a strength above it in less than 5 % of cases; the tests
contain them.
"""
WIDTHS = (1, 2, 3)
"""The numbers of gaps between grid points over which a change may extend."""
SIDE = 12
"""The number of gaps on each side from which trend and scatter are estimated."""
LEVEL = 3
"""The number of grid points on each side whose median is the level."""
MIN_DIFFERENCES = 4
"""The smallest number of differences on each side from which a scatter is estimated."""
MIN_POINTS = 2 * (MIN_DIFFERENCES + 1)
"""The number of grid points below which no change can be found."""

_KEPT = 0.75
"""The share of the smallest deviations whose mean is the scatter."""
_NORMAL = 0.515
"""The mean of the smallest three quarters of \\|z\\| for normal z: E[\\|z\\| given \\|z\\| < 1.15]."""
_OUTER = 0.8
"""The scatter is at least this share of the third largest deviation over one gap, which is 1.26 σ for normal noise.

A series that is constant but for a few spikes has no other scatter. Two deviations may be those of another change.
"""
_TREND = 0.25
"""The scatter is at least this share of what the trend changes over the same distance."""
_ROUNDING = 1e-6
"""The scatter is at least this share of the largest magnitude: smaller changes are rounding errors of float32."""


class Change(NamedTuple):
    """A sudden change between the grid points ``first`` and ``last``; its strength is positive for a rise."""

    first: int
    last: int
    strength: float


def find_changes(x: Floats, y: Floats, threshold: float = THRESHOLD) -> list[Change]:
    """Return the sudden changes of a series y (n,) at the grid points x (n,), ascending along x.

    Among changes that overlap, only the strongest counts; those in the same direction with fewer than :data:`LEVEL`
    gaps between them are one change, because there is no level between them.
    """
    changes: list[Change] = []
    for each in sorted(_candidates(x, y), key=lambda change: -abs(change.strength)):
        if abs(each.strength) <= threshold:
            break
        if all(each.first >= other.last or each.last <= other.first for other in changes):
            changes.append(each)
    return _join(sorted(changes))


def strength_near(x: Floats, y: Floats, first: int, last: int) -> float:
    """Return the largest strength of a change with fewer than :data:`LEVEL` gaps to the grid points first to last."""
    near = [each.strength for each in _candidates(x, y) if each.last > first - LEVEL and each.first < last + LEVEL]
    return max(near, key=abs, default=0.0)


def _candidates(x: Floats, y: Floats) -> list[Change]:
    """Return all changes with a strength."""
    if x.size < MIN_POINTS:
        return []
    candidates = []
    for width in WIDTHS:
        strengths = change_strengths(x, y, width)
        candidates += [Change(int(at), int(at) + width, float(strengths[at])) for at in np.flatnonzero(strengths)]
    return candidates


def _join(changes: list[Change]) -> list[Change]:
    """Join neighbours in the same direction that have no level between them."""
    joined: list[Change] = []
    for each in changes:
        before = joined[-1] if joined else None
        if before is None or each.first - before.last >= LEVEL or (before.strength > 0) != (each.strength > 0):
            joined.append(each)
        else:
            joined[-1] = Change(before.first, each.last, max(before.strength, each.strength, key=abs))
    return joined


def change_strengths(x: Floats, y: Floats, width: int) -> Floats:
    """Return the strengths (…, n − width) of the changes from each grid point to the one ``width`` gaps later.

    Parameters
    ----------
    x : ndarray
        (n,) ascending.
    y : ndarray
        (…, n) finite.
    width : int
        Number of gaps.

    Returns
    -------
    ndarray
        The change divided by the scatter, positive for a rise; 0 where the change is not larger than the trends, and
        where there are too few grid points on one side.

    Notes
    -----
    D is the difference of the two grid points, J that of the levels on both sides, extended to them along the trends.
    A rise is min(D, J) minus the larger one of the two trends over the same distance, if this is positive; a fall is
    the reverse. The scatter is the larger one of those on both sides.
    """
    before = _before(x, y, width)
    after = _reversed(_before(-x[::-1], y[..., ::-1], width))
    first, last = slice(None, x.size - width), slice(width, None)
    distance = x[last] - x[first]
    trends = np.stack([before.slope[..., first], after.slope[..., last]]) * distance
    changes = np.stack([y[..., last] - y[..., first], after.level[..., last] - before.level[..., first]])
    rise, fall = changes.min(0) - trends.max(0), changes.max(0) - trends.min(0)
    change = np.where(rise > 0, rise, np.where(fall < 0, fall, 0.0))
    smallest = np.maximum(_ROUNDING * np.abs(y).max(-1, keepdims=True), np.finfo(np.float64).tiny)
    scatters = (before.scatter[..., first], after.scatter[..., last], _TREND * np.abs(trends).max(0), smallest)
    strengths: Floats = change / np.maximum.reduce(np.broadcast_arrays(*scatters))
    return np.nan_to_num(strengths, nan=0.0)


class _Side(NamedTuple):
    """Slope, level and scatter of the grid points on one side of each one, (…, n); NaN where they are too few."""

    slope: Floats
    level: Floats
    scatter: Floats


def _before(x: Floats, y: Floats, width: int) -> _Side:
    """Return what precedes each grid point, itself included."""
    steps, rises = _windows(np.diff(x), SIDE), _windows(np.diff(y), SIDE)
    slope = _slope(steps, rises)
    distances, differences = (sliding_window_view(each, width, -1).sum(-1) for each in (steps, rises))
    deviations = np.sort(np.abs(differences - slope[..., None] * distances), axis=-1)  # NaN at the end
    count = np.isfinite(deviations).sum(-1, keepdims=True)
    kept = np.ceil(_KEPT * count)
    inside = np.where(np.arange(deviations.shape[-1]) < kept, deviations, 0.0)
    scatter = inside.sum(-1) / np.maximum(kept[..., 0], 1) / _NORMAL
    scatter = np.maximum(scatter, _OUTER * _third_largest(np.abs(rises - slope[..., None] * steps)))
    scatter = np.where(count[..., 0] >= MIN_DIFFERENCES, scatter, np.nan)
    points = _windows(y[..., 1:], LEVEL, y[..., :1]) - slope[..., None] * (_windows(x[1:], LEVEL, x[:1]) - x[:, None])
    return _Side(slope, np.median(points, axis=-1), scatter)


def _third_largest(values: Floats) -> Floats:
    """Return the third largest value along the last axis; NaN counts as 0."""
    largest: Floats = np.partition(np.nan_to_num(values), -3, axis=-1)[..., -3]
    return largest


def _reversed(side: _Side) -> _Side:
    """Return the side of a mirrored series at the grid points of the series itself."""
    return _Side(-side.slope[..., ::-1], side.level[..., ::-1], side.scatter[..., ::-1])


def _windows(values: Floats, size: int, start: Floats | None = None) -> Floats:
    """Return the ``size`` values up to each one of ``start`` and ``values``, (…, n, size); NaN where there are fewer.

    Without ``start``, the first of them precedes all values.
    """
    missing = size if start is None else size - 1
    padding = np.full((*values.shape[:-1], missing), np.nan)
    parts = [padding, values] if start is None else [padding, start, values]
    return sliding_window_view(np.concatenate(parts, -1), size, -1)


def _slope(steps: Floats, rises: Floats) -> Floats:
    """Return the slope b that minimises Σ |rise − b·step| (…, n): the median of rise/step with weights ``steps``."""
    slopes = rises / steps
    order = np.argsort(slopes, axis=-1)  # NaN at the end
    slopes = np.take_along_axis(slopes, order, -1)
    weights = np.take_along_axis(np.broadcast_to(np.nan_to_num(steps), slopes.shape), order, -1)
    sums = weights.cumsum(-1)
    half = sums[..., -1:] / 2
    ends = ((sums >= half * (1 - 1e-12)).argmax(-1), (sums > half * (1 + 1e-12)).argmax(-1))
    low, high = (np.take_along_axis(slopes, end[..., None], -1)[..., 0] for end in ends)
    median: Floats = (low + high) / 2
    return median
