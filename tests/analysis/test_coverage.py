"""How often intervals contain the true value, in simulations; a nominal 95 % interval must do so in 90 to 99 %."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
import pytest

from hesstore.analysis.rank_intervals import rank_correlation
from hesstore.analysis.run_means import mean_over_runs
from tests.support.series import TRENDS, pairs, true_rank_correlation


class Coverage(NamedTuple):
    """The share of series that have an interval, and the share of these intervals that contain the true value."""

    known: float
    covered: float


def coverage(repeats: int, count: int, phi: float, rho: float, trend: str) -> Coverage:
    a, b = pairs(np.random.default_rng(1), repeats, count, phi, rho, trend)
    found = np.array([rank_correlation(*pair) for pair in zip(a, b, strict=True)])
    truth = true_rank_correlation(count, rho, trend)
    known = np.isfinite(found[:, 1])
    assert (np.isfinite(found[:, 2]) == known).all()
    inside = (found[known, 1] <= truth) & (truth <= found[known, 2])
    return Coverage(float(known.mean()), float(inside.mean()) if known.any() else np.nan)


@pytest.mark.parametrize(
    ("count", "phi", "rho", "trend"),
    [(67, 0.0, 0.0, "none"), (67, 0.5, 0.8, "none"), (331, 0.8, 0.0, "none"), (67, 0.5, 0.0, "weak")],
)
def test_rank_correlations(count: int, phi: float, rho: float, trend: str) -> None:
    found = coverage(300, count, phi, rho, trend)
    assert found.known > 0.6
    assert 0.9 <= found.covered <= 0.99


@pytest.mark.parametrize(("count", "phi"), [(4, 0.0), (7, 0.0), (19, 0.0), (40, 0.95)])
def test_too_few_grid_points_have_no_interval(count: int, phi: float) -> None:
    """Four blocks of five autocorrelation times do not fit in them, or hardly ever seem to."""
    assert coverage(200, count, phi, 0.5, "none").known < 0.05


@pytest.mark.parametrize(
    "trend", [pytest.param(trend, marks=pytest.mark.slow if trend == "none" else pytest.mark.bench) for trend in TRENDS]
)
def test_rank_correlations_everywhere(trend: str) -> None:
    """Strong trends make intervals wider than necessary, never too narrow; so does choosing series that have one."""
    cells = itertools.product((4, 8, 16, 24, 32, 48, 67, 128, 400), (0, 0.5, 0.8, 0.9, 0.95), (0, 0.8))
    for count, phi, rho in cells:
        found = coverage(300, count, phi, rho, trend)
        if found.known >= 0.25:
            most = 0.99 if trend == "none" and found.known > 0.5 else 1
            assert 0.9 <= found.covered <= most, (count, phi, rho, found)
        assert (1 - found.covered) * found.known < 0.1 or not found.known, (count, phi, rho, found)


@pytest.mark.parametrize("count", [2, 3, 5, 20])
@pytest.mark.parametrize("draw", ["standard_normal", "random"])
def test_means_over_runs(count: int, draw: str) -> None:
    """Exact for Gaussian values; a uniform distribution is as good."""
    values = getattr(np.random.default_rng(7), draw)((2000, count))
    found = np.array([mean_over_runs(row) for row in values])
    truth = 0.0 if draw == "standard_normal" else 0.5
    inside = (found[:, 1] <= truth) & (truth <= found[:, 2])
    assert 0.9 <= inside.mean() <= 0.975
    np.testing.assert_array_equal(found[:, 3], count)


def test_runs_without_an_interval() -> None:
    """One run, and equal values, say nothing about the spread of others."""
    nan = np.nan
    assert np.isnan(mean_over_runs(np.array([nan, nan]))[:3]).all()
    for values, count in (([0.3], 1), ([0.3, nan], 1), ([0.3, 0.3], 2)):
        found = mean_over_runs(np.array(values))
        assert (found.mean, found.num_runs) == (0.3, count)
        assert np.isnan([found.low, found.high]).all()
    low, high = mean_over_runs(np.array([1.0, nan, 3.0]))[1:3]
    assert (low, high) == pytest.approx((2 - 12.706, 2 + 12.706), abs=1e-3)  # t of one degree of freedom
