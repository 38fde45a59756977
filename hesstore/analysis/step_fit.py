"""A fit of one step down to a series of yes and no, which need not be clean: where a class is no longer known.

Near the end a class can be known again at single grid points, or not be known at single ones before. Neither the first
no nor the last yes says where it is lost. The fit is a logistic step with two rates of exceptions, as for psychometric
functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

EXCEPTIONS = (0.002, 0.01, 0.03, 0.07, 0.15, 0.27, 0.42)
"""The rates of exceptions on each side of the step among which the fit chooses."""
WIDTHS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""The widths of the step among which the fit chooses, in gaps; up to a sixth of the series."""
DROP = 3.69
"""How far the log-likelihood may fall within the interval: ln(2/0.05).

For a step without width, the likelihood ratio of positions falls like a random walk, whose maximum exceeds x with
probability e⁻ˣ on each side. For a wide step the usual limit is 1.92, so the interval is then wider than needed.
"""
_MAX_INFLATION = 5.0


class Step(NamedTuple):
    """Where the step lies: ``position`` entries are before it, and between ``low`` and ``high`` with confidence 95 %.

    A position of 0 means that there is no yes before a step, one of n that there is no no after it.
    """

    position: int
    low: int
    high: int


def fit_step(known: NDArray[np.bool_]) -> Step:
    """Fit p = ε₁ + (1 − ε₀ − ε₁)/(1 + exp((i − t)/w)) to the entries i of ``known`` (n,) by maximum likelihood.

    t lies between two entries, before the first or after the last one. The interval holds the t whose profile
    log-likelihood is at most :data:`DROP` below the largest. Exceptions that follow each other count as fewer
    observations: DROP is multiplied by (1 + ρ)/(1 − ρ), at most 5, with the autocorrelation ρ of neighbouring entries
    on each side of the step.

    Source: Wichmann & Hill, Perception & Psychophysics 63 (2001); Hinkley, Biometrika 57 (1970), for a step without
    width.
    """
    count = known.size
    if not known.any() or known.all():
        position = count if count and known.all() else 0
        return Step(position, position, position)
    log_likelihood = _profile(known)
    position = int(log_likelihood.argmax())
    limit = DROP * _inflation(known, position)
    inside = np.flatnonzero(log_likelihood.max() - log_likelihood <= limit)
    return Step(position, int(inside[0]), int(inside[-1]))


def _profile(known: NDArray[np.bool_]) -> Floats:
    """Return the largest log-likelihood of each t (n + 1,)."""
    count, yes = known.size, known.astype(np.float64)
    offsets: Floats = np.arange(-count, count, dtype=np.float64) + 0.5  # i − t
    best = np.full(count + 1, -np.inf)
    for width in (width for width in WIDTHS if width <= max(count / 6, 0.5)):
        falling = _logistic(offsets, width)
        for before in EXCEPTIONS:
            for after in EXCEPTIONS:
                p = after + (1 - before - after) * falling
                sums = np.concatenate([[0.0], np.log1p(-p).cumsum()])
                of_yes = np.correlate(np.log(p) - np.log1p(-p), yes, "valid")
                values = (of_yes + sums[count:] - sums[: count + 1])[::-1]
                if width:
                    values[[0, -1]] = -np.inf  # without a step there is no width
                best = np.maximum(best, values)
    return best


def _logistic(offsets: Floats, width: float) -> Floats:
    falling: Floats = 1 / (1 + np.exp(np.clip(offsets / width, -60, 60))) if width else (offsets < 0).astype(np.float64)
    return falling


def _inflation(known: NDArray[np.bool_], position: int) -> float:
    """Return (1 + ρ)/(1 − ρ) for the autocorrelation ρ of ``known`` on each side of the step, at least 1."""
    sides = [side - side.mean() for side in (known[:position], known[position:]) if side.size]
    variance = sum(float(side @ side) for side in sides)
    rho = max(0.0, sum(float(side[1:] @ side[:-1]) for side in sides) / variance) if variance else 0.0
    return min((1 + rho) / (1 - rho), _MAX_INFLATION)
