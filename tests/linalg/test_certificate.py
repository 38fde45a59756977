"""The bound on missed eigenvalues: its parts, and the probability with which it holds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom

from hesstore.linalg.certificate import bound_outside, smallest_component, upper_bound

Array = NDArray[np.float64]

DIMENSIONS = 400
SPECTRA = {
    "normal": np.random.default_rng(0).standard_normal(DIMENSIONS),
    "isolated end": np.r_[1.0, np.random.default_rng(1).uniform(-0.5, 0.5, DIMENSIONS - 1)],
    "end just above the others": np.r_[0.53, np.linspace(-0.5, 0.5, DIMENSIONS - 1)],
    "clustered end": np.r_[1 - 1e-6 * np.arange(20), np.linspace(-0.5, 0.5, DIMENSIONS - 20)],
    "geometric end": 0.97 ** np.arange(DIMENSIONS),
}


def random_units(count: int, dimensions: int, seed: int = 0) -> Array:
    rows = np.random.default_rng(seed).standard_normal((count, dimensions))
    units: Array = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return units


def lanczos_steps(eigenvalues: Array, start: Array, steps: int) -> tuple[Array, Array]:
    """α (steps, n) and β of Lanczos with the diagonal matrix, from each of n start vectors."""
    basis, alpha, beta = [start], [], []
    for _ in range(steps):
        w = basis[-1] * eigenvalues
        alpha.append((basis[-1] * w).sum(1))
        q = np.stack(basis, axis=1)
        for _ in range(2):
            w = w - ((q @ w[:, :, None]).transpose(0, 2, 1) @ q)[:, 0]
        beta.append(np.linalg.norm(w, axis=1))
        basis.append(w / beta[-1][:, None])
    return np.stack(alpha), np.stack(beta)


def ritz(alpha: Array, beta: Array) -> tuple[Array, Array]:
    """The Ritz values and the residual norms of their pairs."""
    values, s = np.linalg.eigh(np.diag(alpha) + np.diag(beta[:-1], 1) + np.diag(beta[:-1], -1))
    return values, beta[-1] * np.abs(s[-1])


def sum_of_squares(alpha: Array, beta: Array, x: float) -> float:
    """K(x) by the recurrence β_j p_j = (x − α_j) p_{j−1} − β_{j−1} p_{j−2}."""
    before, last, total, entering = 0.0, 1.0, 1.0, 0.0
    for a, leading in zip(alpha, beta, strict=True):
        before, last = last, ((x - a) * last - entering * before) / leading
        total, entering = total + last**2, leading
    return total


@pytest.mark.parametrize("dimensions", [2, 30, 400])
def test_a_component_is_rarely_smaller_than_delta(dimensions: int) -> None:
    components = np.abs(random_units(20000, dimensions)[:, 0])
    for eta in (0.3, 0.1, 0.01):
        count = int((components <= smallest_component(dimensions, eta)).sum())
        assert count <= binom.ppf(0.9999, len(components), eta)
        if dimensions > 2:  # there the density is nearly flat, so δ is not much too small
            assert count >= binom.ppf(0.0001, len(components), 0.8 * eta)


def test_the_sum_of_squares_has_the_value_one_over_delta_squared_at_the_bound() -> None:
    alpha, beta = np.array([0.3, -0.2, 0.5]), np.array([0.4, 0.3, 0.2])
    for delta in (1e-1, 1e-4, 1e-9):
        t = upper_bound(*ritz(alpha, beta), beta, delta)
        assert t > ritz(alpha, beta)[0].max()
        assert math.isclose(sum_of_squares(alpha, beta, t), 1 / delta**2, rel_tol=1e-9)


def test_an_invariant_space_leaves_nothing_above_its_ritz_values() -> None:
    assert upper_bound(np.array([1.0, 2.0]), np.array([0.1, 0.0]), np.array([0.5, 0.0]), 1e-6) == 2.0


def test_the_components_of_the_lanczos_vectors_are_polynomials_of_the_eigenvalue() -> None:
    """K(λ) (u·q)² is the squared length of the component of u in the Krylov space and the vector that leads out of it.

    With seven vectors for seven eigenvalues, this component is the whole of u.
    """
    eigenvalues = np.linspace(-1, 1, 7)
    start = random_units(1, 7)
    alpha, beta = lanczos_steps(eigenvalues, start, 6)
    k = [sum_of_squares(alpha[:, 0], beta[:, 0], x) for x in eigenvalues]
    assert np.allclose(k * start[0] ** 2, 1, rtol=1e-9)


def critical_deltas(eigenvalues: Array, starts: Array, steps: int) -> Array:
    """The δ of each start (n,) above which a bound lies below the largest eigenvalue, after any number of steps.

    K grows with the steps, so the last one counts.
    """
    alpha, beta = lanczos_steps(eigenvalues, starts, steps)
    largest = eigenvalues.max()
    return np.array([sum_of_squares(*each, largest) ** -0.5 for each in zip(alpha.T, beta.T, strict=True)])


def test_above_the_critical_delta_the_bound_is_wrong() -> None:
    eigenvalues, starts = SPECTRA["isolated end"], random_units(20, DIMENSIONS)
    critical = critical_deltas(eigenvalues, starts, 2)
    alpha, beta = lanczos_steps(eigenvalues, starts, 2)
    for index, delta in enumerate(critical):
        chain = *ritz(alpha[:, index], beta[:, index]), beta[:, index]
        assert upper_bound(*chain, float(delta)) == pytest.approx(eigenvalues.max(), rel=1e-9)
        assert upper_bound(*chain, 1.01 * float(delta)) < eigenvalues.max()


@pytest.mark.parametrize("name", SPECTRA)
def test_the_bound_holds_with_its_probability(name: str) -> None:
    """Over 2,000 random starts; a start counts as violated if the bound is too low after any number of steps.

    If the probability of a violation is η, more than ``limit`` violations have a probability below 1e-4. With a δ that
    is 20 times too large, the limit is exceeded, so the test would notice it.
    """
    starts = 2000
    parts = [critical_deltas(SPECTRA[name], random_units(starts // 5, DIMENSIONS, seed), 24) for seed in range(5)]
    critical = np.concatenate(parts)
    for eta in (0.1, 0.01):
        delta, limit = smallest_component(DIMENSIONS, eta), binom.ppf(0.9999, starts, eta)
        assert (critical < delta).sum() <= limit
        if name != "clustered end" or eta == 0.1:  # a chain sees 20 near copies together, and misses all of them rarely
            assert (critical < 20 * delta).sum() > limit


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(2, 12), k=st.integers(1, 6), noise=st.sampled_from([0, 1e-3, 0.1]))
def test_nothing_but_the_known_pairs_lies_above_the_bound(seed: int, size: int, k: int, noise: float) -> None:
    """A in a basis of k approximate eigenvectors and their complement, whose largest eigenvalue is t."""
    rng = np.random.default_rng(seed)
    known, rest = np.sort(rng.uniform(-1, 3, k))[::-1], rng.standard_normal((size, size))
    rest = (rest + rest.T) / 2
    coupling = noise * rng.standard_normal((k, size))
    matrix = np.block([[np.diag(known), coupling], [coupling.T, rest]])
    t = float(np.linalg.eigvalsh(rest).max())
    x = bound_outside(t, known, np.linalg.norm(coupling, axis=1))
    assert x >= t
    above = x + 1e-9
    assert (np.linalg.eigvalsh(matrix) > above).sum() <= (known > above - 2e-9).sum()
    if noise == 0:
        assert math.isclose(x, t, abs_tol=1e-9)
