"""Spearman's rank correlation of two series along λ, with an interval that accounts for neighbours that are alike."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray

LEVEL = 0.95
"""The nominal coverage of all intervals of the analyses."""

MIN_BLOCKS = 4
MAX_BLOCKS = 12
_BLOCK_LENGTH = 5
"""The length of a block, in autocorrelation times of the series; found by simulation."""

_MIN_POINTS = 3
"""With fewer grid points a rank correlation is always ±1 or NaN."""
_PERFECT = 1 - 1e-12
"""A correlation of larger magnitude is ±1 to rounding."""

_Series = NDArray[np.float64]


class RankCorrelation(NamedTuple):
    """Spearman's ρ and the ends of its 95 % interval; NaN where it cannot be had."""

    rho: float
    low: float
    high: float


def rank_correlation(a: _Series, b: _Series) -> RankCorrelation:
    """Return Spearman's ρ of two series (n,) along λ and its interval; pairs that are not finite are left out.

    The interval is for the ρ of all pairs of infinitely many runs that differ only in their noise. It is a block
    jackknife of artanh ρ (Künsch, Ann. Stat. 17, 1989): with ρ₋ⱼ the correlation without block j of K, the
    pseudo-values are pⱼ = K artanh ρ − (K − 1) artanh ρ₋ⱼ. The squared standard error is the mean of (pⱼ₊₁ − pⱼ)²/2K,
    which a trend from block to block inflates less than their variance (von Neumann, Ann. Math. Stat. 12, 1941), and
    has 2(K − 1)²/(3K − 4) degrees of freedom.
    """
    is_known = np.isfinite(a) & np.isfinite(b)
    a, b = _ranks(a[is_known]), _ranks(b[is_known])
    rho = _correlation(a, b) if a.size >= _MIN_POINTS else math.nan
    count = num_blocks(a, b)
    if math.isnan(rho) or not count:
        return RankCorrelation(rho, math.nan, math.nan)
    z = math.atanh(rho) if abs(rho) < _PERFECT else math.nan
    without = np.array([_correlation(*_without(a, b, block)) for block in np.array_split(np.arange(a.size), count)])
    if math.isnan(z) or not (np.abs(without) < _PERFECT).all():  # also where a correlation is NaN
        return RankCorrelation(rho, math.nan, math.nan)
    pseudo_values = count * z - (count - 1) * np.arctanh(without)
    error = math.sqrt(float(np.square(np.diff(pseudo_values)).mean()) / (2 * count))
    freedom = 2 * (count - 1) ** 2 / (3 * count - 4)
    reach = error * float(scipy.special.stdtrit(freedom, (1 + LEVEL) / 2)) if error else math.nan
    return RankCorrelation(rho, math.tanh(z - reach), math.tanh(z + reach))


def num_blocks(a: _Series, b: _Series) -> int:
    """Return the number of blocks for two series of ranks (n,), at most :data:`MAX_BLOCKS`; 0 for too few blocks.

    A block is five autocorrelation times long, τ = (1 + φ²)/(1 − φ²), with φ the larger persistence of both series.
    """
    if a.size < MIN_BLOCKS * _BLOCK_LENGTH:
        return 0
    phi = max(_persistence(a), _persistence(b))
    length = math.inf if phi >= 1 else math.ceil(_BLOCK_LENGTH * (1 + phi**2) / (1 - phi**2))
    count = min(int(a.size / length), MAX_BLOCKS)
    return count if count >= MIN_BLOCKS else 0


def _persistence(ranks: _Series) -> float:
    """Return φ of a first-order autoregressive series, from 0 to 1: the larger one of two estimates.

    One is the autocorrelation of the deviations from a straight line, corrected for its bias; the other is the ratio of
    the mean squared differences over two steps and over one step, which is 1 + φ, minus 1: it is hardly changed by slow
    trends. Where a trend cannot be distinguished from persistent noise, one of both is close to 1.
    """
    count = ranks.size
    steps = np.arange(count) - (count - 1) / 2
    deviations = ranks - ranks.mean()
    deviations = deviations - steps * (steps @ deviations) / (steps @ steps)
    total = float(deviations @ deviations)
    single = float(np.square(np.diff(ranks)).mean())
    if not single or total <= 1e-12 * count**3:  # constant, or a straight line
        return 1.0
    lag = float(deviations[1:] @ deviations[:-1]) / total
    unbiased = lag + (1 + 4 * lag) / count  # Marriott & Pope, Biometrika 41, 1954
    ratio = float(np.square(ranks[2:] - ranks[:-2]).mean()) / single - 1
    return min(max(unbiased, ratio, 0.0), 1.0)


def _without(a: _Series, b: _Series, block: NDArray[np.intp]) -> tuple[_Series, _Series]:
    return _ranks(np.delete(a, block)), _ranks(np.delete(b, block))


def _correlation(a: _Series, b: _Series) -> float:
    """Return the correlation of two series of ranks (n,); NaN if one is constant."""
    a, b = a - a.mean(), b - b.mean()
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / scale if scale else math.nan


def _ranks(values: _Series) -> _Series:
    """Return the ranks (n,); equal values have the mean of their ranks."""
    _, level, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    ranks: _Series = (last - (counts - 1) / 2)[level]
    return ranks
