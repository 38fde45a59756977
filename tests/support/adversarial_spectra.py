"""Spectra that are hard for a Lanczos search: it can end too early on each of them and lack an eigenvalue.

A chain of Lanczos vectors contains one copy of each eigenvalue, and it sees an eigenvalue late if its start vector has
a small component there or if many others are near. Each family draws the eigenvalues of one matrix from a random
generator, about ``size`` of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Family = Callable[[np.random.Generator, int], Array]

FAMILIES: dict[str, Family] = {}


def family(function: Family) -> Family:
    """Add a function to :data:`FAMILIES` under its name."""
    FAMILIES[function.__name__.replace("_", " ")] = function
    return function


def _joined(*parts: Array | float) -> Array:
    return np.concatenate([np.atleast_1d(np.asarray(part, dtype=np.float64)) for part in parts])


def _copies(rng: np.random.Generator, most: int) -> int:
    """A multiplicity between 2 and ``most``; small ones are as frequent as large ones."""
    return int(np.exp(rng.uniform(np.log(2), np.log(max(most, 2)))))


def _outliers(rng: np.random.Generator) -> Array:
    """Up to nine large eigenvalues, as a network with ten classes has them."""
    return rng.uniform(2.0, 4.5, rng.integers(0, 10))


def _bulk(rng: np.random.Generator, size: int, edge: float) -> Array:
    """Eigenvalues between −``edge`` and ``edge``, evenly spaced or random."""
    return np.linspace(-edge, edge, size) if rng.random() < 0.5 else rng.uniform(-edge, edge, size)


@family
def normal_bulk(rng: np.random.Generator, size: int) -> Array:
    return rng.standard_normal(size)


@family
def bulk_with_sharp_edges(rng: np.random.Generator, size: int) -> Array:
    return _bulk(rng, size, 1.0)


@family
def bulk_that_is_densest_at_its_edges(rng: np.random.Generator, size: int) -> Array:
    return np.cos(np.pi * rng.random(size))


@family
def signed_lognormal(rng: np.random.Generator, size: int) -> Array:
    signs = rng.integers(0, 2, size) * 2.0 - 1
    values: Array = signs * np.exp(rng.uniform(0.3, 3.0) * rng.standard_normal(size))
    return values


@family
def repeated_normal(rng: np.random.Generator, size: int) -> Array:
    """Each eigenvalue has a multiplicity of 1 to 6."""
    return rng.standard_normal(size).repeat(rng.integers(1, 7, size))[:size]


@family
def repeated_lognormal(rng: np.random.Generator, size: int) -> Array:
    """Each eigenvalue has a multiplicity of 1 to 6."""
    return np.exp(rng.standard_normal(size)).repeat(rng.integers(1, 7, size))[:size]


@family
def everything_twice(rng: np.random.Generator, size: int) -> Array:
    return np.linspace(1, rng.uniform(1.1, 4), size // 2).repeat(2)


@family
def copies_far_above_a_bulk(rng: np.random.Generator, size: int) -> Array:
    m = _copies(rng, size // 3)
    return _joined(np.ones(m), _bulk(rng, size - m, 0.9))


@family
def copies_just_above_a_bulk(rng: np.random.Generator, size: int) -> Array:
    m, outliers = _copies(rng, size // 4), _outliers(rng)
    return _joined(outliers, np.full(m, 0.3 * (1 + 10 ** rng.uniform(-2.5, -1))), _bulk(rng, size - m, 0.3))


@family
def copies_within_a_bulk(rng: np.random.Generator, size: int) -> Array:
    values, m = rng.standard_normal(size), _copies(rng, size // 4)
    values[-m:] = np.sort(values)[-rng.integers(1, max(size // 8, 2))]
    return values


@family
def two_clusters_of_copies(rng: np.random.Generator, size: int) -> Array:
    m, n, outliers = _copies(rng, size // 5), _copies(rng, size // 5), _outliers(rng)
    second = rng.choice([0.319, 0.31, -0.3195, -0.31])
    return _joined(outliers, np.full(m, 0.32), np.full(n, second), _bulk(rng, size - m - n, 0.3))


@family
def near_copies(rng: np.random.Generator, size: int) -> Array:
    m, gap = _copies(rng, size // 4), 10 ** rng.uniform(-9, -2)
    return _joined(1 + gap * np.arange(m), _bulk(rng, size - m, 0.8))


@family
def copies_next_to_near_copies(rng: np.random.Generator, size: int) -> Array:
    m, n = _copies(rng, 20), _copies(rng, 20)
    return _joined(np.ones(m), 1 - 10 ** rng.uniform(-5, -2) * rng.random(n), np.linspace(0.99, 0, size - m - n))


@family
def one_just_above_a_bulk(rng: np.random.Generator, size: int) -> Array:
    return _joined(1 + 10 ** rng.uniform(-2.5, -1), _bulk(rng, size - 1, 1.0))


@family
def plus_minus_pairs(rng: np.random.Generator, size: int) -> Array:
    levels = rng.uniform(1, 3, rng.integers(1, 8)).repeat(rng.choice([1, 2, 3, 7]))
    return _joined(levels, -levels, _bulk(rng, max(size - 2 * len(levels), 2), 0.7))


@family
def nearly_plus_minus_pairs(rng: np.random.Generator, size: int) -> Array:
    levels = np.linspace(1, 2, size // 4)
    return _joined(levels, -levels * (1 + 10 ** rng.uniform(-8, -2)), np.zeros(size - 2 * len(levels)))


@family
def geometric(rng: np.random.Generator, size: int) -> Array:
    return float(rng.choice([0.5, 0.9, 0.99, 0.999])) ** np.arange(size)


@family
def geometric_with_copies(rng: np.random.Generator, size: int) -> Array:
    m = int(rng.integers(2, 5))
    return (float(rng.choice([0.5, 0.9, 0.99])) ** np.arange(size)).repeat(m)[:size]


@family
def low_rank(rng: np.random.Generator, size: int) -> Array:
    values, rank = np.zeros(size), rng.integers(1, 30)
    values[:rank] = rng.choice([-1, 1], rank) * rng.uniform(1, 4, rank)
    return values


@family
def low_rank_with_copies(rng: np.random.Generator, size: int) -> Array:
    values = np.zeros(size)
    values[: rng.integers(2, 30)] = rng.choice([-3.3, 3.3])
    return values


@family
def multiple_of_the_identity(rng: np.random.Generator, size: int) -> Array:
    return np.full(size, rng.choice([1.0, -1.0, 0.0, 1e-9]))


@family
def identity_with_small_deviations(rng: np.random.Generator, size: int) -> Array:
    return 1 + 10 ** rng.uniform(-12, -3) * rng.standard_normal(size)


@family
def one_huge_above_a_bulk(rng: np.random.Generator, size: int) -> Array:
    return _joined(10 ** rng.uniform(2, 8), rng.standard_normal(size - 1))


@family
def collapsed_network(rng: np.random.Generator, size: int) -> Array:
    """A few outliers, groups of near copies of both signs from clones among the units, a bulk, and zeros."""
    parts = [_outliers(rng)]
    for level in rng.uniform(0.24, 0.4, rng.integers(1, 4)):
        m = _copies(rng, size // 5)
        parts.append(rng.choice([-1, 1, 1]) * level * (1 + 10 ** rng.uniform(-8, -3) * rng.standard_normal(m)))
    rest = size - sum(map(len, parts))
    bulk = 0.25 * rng.uniform(-1, 1, rest) * rng.random(rest)
    bulk[: rest // 3] = 0
    return _joined(*parts, bulk)


@family
def any_family_at_an_extreme_scale(rng: np.random.Generator, size: int) -> Array:
    others = [function for function in FAMILIES.values() if function is not any_family_at_an_extreme_scale]
    return float(rng.choice([1e30, 1e-30])) * others[rng.integers(len(others))](rng, size)
