import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from hesstore.analysis.step_fit import DROP, EXCEPTIONS, WIDTHS, fit_step

Bools = NDArray[np.bool_]


def test_clean_steps() -> None:
    for position in (4, 10, 17):
        known = np.arange(30) < position
        step = fit_step(known)
        assert step.position == position
        assert position - 3 <= step.low <= position <= step.high <= position + 3
    assert fit_step(np.ones(5, bool)) == (5, 5, 5)
    assert fit_step(np.zeros(5, bool)) == (0, 0, 0)
    assert fit_step(np.array([], bool)) == (0, 0, 0)


def test_exceptions_do_not_move_the_step() -> None:
    known = np.arange(60) < 20
    known[[5, 12, 31, 40, 58]] ^= True
    step = fit_step(known)
    assert step.position == 20
    assert step.high < 31


@pytest.mark.parametrize("seed", range(4))
def test_the_fit_has_the_largest_likelihood(seed: int) -> None:
    """Against the sum over the entries, in loops."""
    rng = np.random.default_rng(seed)
    known = rng.random(24) < np.where(np.arange(24) < 13, 0.9, 0.1)
    best = np.full(25, -np.inf)
    for position, width, before, after in itertools.product(range(25), WIDTHS, EXCEPTIONS, EXCEPTIONS):
        if width > 24 / 6 or (width and position in (0, 24)):
            continue
        offsets = np.arange(24) - position + 0.5
        falling = 1 / (1 + np.exp(offsets / width)) if width else np.where(offsets < 0, 1.0, 0.0)
        p = after + (1 - before - after) * falling
        best[position] = max(best[position], np.log(np.where(known, p, 1 - p)).sum())
    step = fit_step(known)
    assert step.position == best.argmax()
    inside = np.flatnonzero(best >= best.max() - DROP)
    assert step.low <= inside[0]  # wider where exceptions follow each other
    assert step.high >= inside[-1]


# -- coverage ---------------------------------------------------------------------------------------------


def chain(rng: np.random.Generator, count: int, begin: float, end: float) -> Bools:
    """Return exceptions that begin and end with these probabilities."""
    values = np.zeros(count, bool)
    state = rng.random() < begin / (begin + end)
    for at in range(count):
        values[at] = state
        state = rng.random() >= end if state else rng.random() < begin
    return values


def abrupt(
    rng: np.random.Generator, count: int, position: int, before: tuple[float, float], after: tuple[float, float]
) -> Bools:
    return np.concatenate([~chain(rng, position, *before), chain(rng, count - position, *after)])


def gradual(rng: np.random.Generator, count: int, position: int, width: float, rho: float = 0.0) -> Bools:
    """A skill that falls from 0.9 to 0 and passes 0.25 at the position, with noise of 0.2."""
    noise = rng.standard_normal(count)
    for at in range(1, count):
        noise[at] = rho * noise[at - 1] + np.sqrt(1 - rho**2) * noise[at]
    offsets = (np.arange(count) - position + 0.5) / (width * count)
    skill: NDArray[np.float64] = 0.9 / (1 + np.exp(offsets) * (0.9 / 0.25 - 1)) + 0.2 * noise
    return skill > 0.25


CLEAN, RARE, LASTING, OFTEN = (0.001, 0.9), (0.05, 0.9), (0.05, 0.5), (0.2, 0.8)


@pytest.mark.parametrize(
    ("count", "trials"), [(16, 60), (67, 40), *[pytest.param(n, 150, marks=pytest.mark.slow) for n in (67, 331)]]
)
def test_intervals_cover_the_loss(count: int, trials: int) -> None:
    rng = np.random.default_rng(count)
    covered, covers_late = [], []
    for _ in range(trials):
        position = int(count * rng.uniform(0.25, 0.75))
        samples = [
            *(abrupt(rng, count, position, each, each) for each in (CLEAN, RARE, LASTING, OFTEN)),
            abrupt(rng, count, position, CLEAN, OFTEN),
            *(gradual(rng, count, position, width) for width in (0.01, 0.05, 0.1)),
        ]
        fits = [fit_step(known) for known in samples]
        covered.append([fit.low <= position <= fit.high for fit in fits])
        late = fit_step(gradual(rng, count, position, 0.1, 0.7))
        covers_late.append(late.low <= position <= late.high)
    assert np.mean(covered, axis=0).min() >= 0.95 - 2 * np.sqrt(0.05 * 0.95 / trials)
    assert np.mean(covers_late) >= 0.7
