from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from hesstore.analysis.change_points import MIN_POINTS, THRESHOLD, WIDTHS, change_strengths, find_changes

Floats = NDArray[np.float64]


def gaps(y: Floats, x: Floats | None = None) -> list[tuple[int, int]]:
    at = np.arange(y.size, dtype=np.float64) if x is None else x
    return [(change.first, change.last) for change in find_changes(at, y)]


def has_change(x: Floats, y: Floats) -> NDArray[np.bool_]:
    """Whether each series (…, n) has a change."""
    alarms: NDArray[np.bool_] = np.stack([np.abs(change_strengths(x, y, width)).max(-1) for width in WIDTHS]).max(0)
    return alarms > THRESHOLD


def step(count: int, at: int) -> Floats:
    return np.where(np.arange(count) > at, 1.0, 0.0)


# -- the definition ---------------------------------------------------------------------------------------


def weighted_median(values: Floats, weights: Floats) -> float:
    """Return the middle of the b that minimise Σ w|v − b|, which are two of the values or one."""
    costs = np.array([np.sum(weights * np.abs(values - b)) for b in values])
    best = values[np.isclose(costs, costs.min(), rtol=1e-12)]
    return float((best.min() + best.max()) / 2)


def one_side(x: Floats, y: Floats, width: int) -> tuple[float, float, float]:
    """Return slope, level and scatter up to the last grid point."""
    x, y = x[-13:], y[-13:]
    h, d = np.diff(x), np.diff(y)
    slope = weighted_median(d / h, h)
    level = float(np.median([y[-k] - slope * (x[-k] - x[-1]) for k in (1, 2, 3)]))
    over = sorted(abs(y[j + width] - y[j] - slope * (x[j + width] - x[j])) for j in range(len(x) - width))
    lowest = over[: int(np.ceil(0.75 * len(over)))]
    third = sorted(np.abs(d - slope * h))[-3]
    return slope, level, max(float(np.mean(lowest)) / 0.515, 0.8 * float(third))


def strength(x: Floats, y: Floats, first: int, width: int) -> float:
    last = first + width
    left = one_side(x[: first + 1], y[: first + 1], width)
    slope, level, scatter = one_side(-x[last:][::-1], y[last:][::-1], width)
    trends = [left[0] * (x[last] - x[first]), -slope * (x[last] - x[first])]
    sizes = [y[last] - y[first], level - left[1]]
    noise = max(left[2], scatter, 0.25 * max(map(abs, trends)), 1e-6 * float(np.abs(y).max()))
    if min(sizes) > max(trends):
        return float((min(sizes) - max(trends)) / noise)
    return float(min(max(sizes) - min(trends), 0.0) / noise)


@pytest.mark.parametrize("width", WIDTHS)
def test_strengths_are_those_of_the_definition(width: int) -> None:
    rng = np.random.default_rng(width)
    x = np.sort(rng.uniform(0, 1, 40))
    y = np.where(np.arange(40) > 22, 3.0, 0.0) + 2 * x + 0.2 * rng.standard_normal(40)
    found = change_strengths(x, y, width)
    has_sides = range(3 + width, 40 - 3 - 2 * width)
    expected = [strength(x, y, first, width) for first in has_sides]
    np.testing.assert_allclose(found[has_sides], expected, rtol=1e-9)
    assert not found[: has_sides.start].any()
    assert not found[has_sides.stop :].any()


# -- what is a change -------------------------------------------------------------------------------------


def test_steps_without_noise() -> None:
    line = np.linspace(0, 3, 30)
    assert gaps(step(30, 12)) == [(12, 13)]
    assert gaps(line - step(30, 12)) == [(12, 13)]
    (change,) = find_changes(np.arange(30.0), line - step(30, 12))
    assert change.strength < -THRESHOLD
    assert np.isfinite(change.strength)


def test_a_change_over_several_gaps_is_one() -> None:
    ramp = np.interp(np.arange(40), [0, 18, 21, 40], [0, 0, 1, 1])
    assert gaps(ramp) == [(18, 21)]
    noise = 0.01 * np.random.default_rng(0).standard_normal(40)
    assert gaps(noise + step(40, 18) + 0.5 * step(40, 19) + 0.2 * step(40, 21)) == [(18, 22)]
    assert gaps(step(40, 14) - step(40, 20)) == [(14, 15), (20, 21)]
    assert gaps(step(40, 14) + step(40, 17)) == [(14, 18)]
    assert gaps(step(40, 14) + step(40, 18)) == [(14, 15), (18, 19)]


def test_gaps_of_the_grid_are_no_changes() -> None:
    x = np.concatenate([np.linspace(0, 1, 20), np.linspace(6, 7, 20)])
    assert not gaps(3 * x, x)
    assert gaps(3 * x + 60 * (x > 3), x) == [(19, 20)]


@pytest.mark.parametrize("count", [12, 30, 331])
def test_smooth_curves_have_no_change(count: int) -> None:
    x = np.linspace(0, 1, count)
    for y in (-np.log(x + 0.003), x**2, np.exp(-5 * x), np.sin(6 * x), 1 / (1 + np.exp((x - 0.5) / 0.15)), 0 * x):
        assert not gaps(y, x)


def test_single_outliers_are_no_changes() -> None:
    y = 0.01 * np.random.default_rng(0).standard_normal(60)
    y[[10, 30, 31, 45]] = 1, -2, 3, 1
    assert not gaps(y)
    spikes = np.zeros(60)
    spikes[[10, 14, 16, 30, 45]] = 1
    assert not gaps(spikes)


def test_too_few_grid_points_have_no_change() -> None:
    assert not gaps(step(MIN_POINTS - 1, 4))
    assert gaps(step(MIN_POINTS, 4)) == [(4, 5)]
    assert not gaps(step(MIN_POINTS, 3))


# -- false alarms -----------------------------------------------------------------------------------------


def autoregressive(noise: Floats, rho: float) -> Floats:
    values = np.zeros_like(noise)
    for at in range(1, noise.shape[1]):
        values[:, at] = rho * values[:, at - 1] + noise[:, at]
    return values[:, noise.shape[1] // 3 :]


def noises(count: int, series: int) -> Iterator[tuple[str, Floats]]:
    rng = np.random.default_rng(count)
    shape = (series, count)
    normal = rng.standard_normal(shape)
    x = np.linspace(0, 1, count)
    yield "normal", normal
    yield "Student's t, 2", rng.standard_t(2, shape)
    for rho in (-0.5, 0.5, 0.9):
        yield f"autocorrelated {rho}", autoregressive(rng.standard_normal((series, count * 3 // 2)), rho)[:, :count]
    yield "growing", normal * np.exp(3 * x)
    yield "counts", rng.binomial(1000, 0.1, shape) / 1000
    yield "answers of a constant predictor", rng.choice(np.array([0.098, 0.1028, 0.1135]), shape)
    yield "path of steps", (2 + 0.4 * rng.standard_normal(shape)).cumsum(1)
    for scale in (0.01, 0.3):
        yield f"logarithm, {scale}", -np.log(x + 0.01) + scale * normal
        yield f"sine, {scale}", np.sin(6 * x) + scale * normal
        yield f"slow fall, {scale}", 1 / (1 + np.exp((x - 0.5) / 0.15)) + scale * normal


@pytest.mark.parametrize(
    ("count", "series"),
    [
        (16, 400),
        (67, 200),
        *[pytest.param(*sizes, marks=pytest.mark.slow) for sizes in ((12, 1000), (331, 200), (1000, 50))],
    ],
)
def test_noise_has_no_change_in_95_of_100_series(count: int, series: int) -> None:
    x = np.linspace(0, 1, count)
    for name, values in noises(count, series):
        rate = has_change(x, values).mean()
        assert rate <= 0.05, (name, rate)


@pytest.mark.parametrize("count", [16, 67])
def test_steps_in_noise_are_found(count: int) -> None:
    noise = np.random.default_rng(1).standard_normal((200, count))
    assert has_change(np.arange(float(count)), noise + 20 * step(count, count // 2)).mean() > 0.95
