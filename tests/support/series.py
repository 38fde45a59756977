"""Simulated pairs of series along λ: first-order autoregressive noise around a trend that both share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.stats
from numpy.typing import NDArray

TRENDS: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "none": lambda t: 0 * t,
    "weak": lambda t: t,
    "strong": lambda t: 3 * t,
    "step": lambda t: 2 * np.sign(t - 0.2),
    "wave": lambda t: 2 * np.sin(3 * t),
}
"""Trends by name, as functions of t from −1 to 1; the noise has a standard deviation of 1."""


def pairs(
    rng: np.random.Generator, repeats: int, count: int, phi: float, rho: float, trend: str
) -> NDArray[np.float64]:
    """Return (2, repeats, count): pairs of series whose noise has the autocorrelation φ and the cross-correlation ρ."""
    innovations = rng.standard_normal((2, repeats, count))
    innovations[1] = rho * innovations[0] + np.sqrt(1 - rho**2) * innovations[1]
    noise = innovations.copy()  # the first value has the distribution of all others
    for step in range(1, count):
        noise[..., step] = phi * noise[..., step - 1] + np.sqrt(1 - phi**2) * innovations[..., step]
    return noise + TRENDS[trend](np.linspace(-1, 1, count))


def true_rank_correlation(count: int, rho: float, trend: str) -> float:
    """Return Spearman's ρ of all pairs of very many such series; it does not depend on φ."""
    many = pairs(np.random.default_rng(99), max(200_000 // count, 1), count, 0.0, rho, trend)
    return float(scipy.stats.spearmanr(many[0].ravel(), many[1].ravel()).statistic)
