from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from hesstore.linalg import EigenPairs, lanczos, lanczos_quadrature, moments, smoothed
from hesstore.linalg.eigenpairs import padded
from tests.support.operators import DenseOperator

SIZE = 40


def matrix(seed: int = 0) -> Tensor:
    """Few large eigenvalues of either sign, and a bulk."""
    generator = torch.Generator().manual_seed(seed)
    q, _ = torch.linalg.qr(torch.randn(SIZE, SIZE, generator=generator, dtype=torch.float64))
    values = torch.cat(
        [torch.tensor([9.0, -7.0, 5.0, 4.0, 3.0], dtype=torch.float64), torch.linspace(-0.5, 1, SIZE - 5)]
    )
    a: Tensor = q @ torch.diag(values.double()) @ q.T
    return a


def pairs_of(a: Tensor, k: int = 5) -> EigenPairs:
    return lanczos(DenseOperator(a), k, tol=1e-10)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_mean_over_all_sign_vectors_is_exact() -> None:
    """Of a small matrix, all 2^P probes: no chance is left."""
    a = matrix()[:6, :6].contiguous()
    pairs = pairs_of(a, 2)
    basis = pairs.eigenvectors
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * 6)
    z = signs - (signs @ basis.T) @ basis
    w = z @ a
    expected = float((z * w).sum(1).mean()), float(w.square().sum(1).mean())
    known = float(pairs.eigenvalues.sum()), float(pairs.eigenvalues.square().sum())
    assert known[0] + expected[0] == pytest.approx(float(a.trace()), rel=1e-12)
    assert known[1] + expected[1] == pytest.approx(float(a.square().sum()), rel=1e-12)
    found = moments(DenseOperator(a), pairs, 20000, rng())
    assert found.known == pytest.approx(known, rel=1e-9)
    assert abs(found.trace - float(a.trace())) < 5 * found.trace_error
    assert abs(found.square - float(a.square().sum())) < 5 * found.error_of(0, 1)


def test_errors_are_those_of_repeated_estimates() -> None:
    a = matrix()
    operator, pairs = DenseOperator(a), pairs_of(a)
    found = [moments(operator, pairs, 8, rng(seed)) for seed in range(300)]
    traces = np.array([each.trace for each in found])
    norms = np.array([each.frobenius_norm for each in found])
    assert abs(traces.mean() - float(a.trace())) < 4 * traces.std() / math.sqrt(300)
    assert abs(norms.mean() - float(torch.linalg.matrix_norm(a))) < 4 * norms.std() / math.sqrt(300)
    mean_variance = np.mean([each.trace_error**2 for each in found])
    assert math.sqrt(mean_variance) == pytest.approx(traces.std(), rel=0.15)
    mean_variance = np.mean([each.frobenius_norm_error**2 for each in found])
    assert math.sqrt(mean_variance) == pytest.approx(norms.std(), rel=0.15)


def test_known_pairs_take_their_variance_away() -> None:
    a = matrix()
    few, many = (moments(DenseOperator(a), pairs_of(a, k), 50, rng()) for k in (1, 5))
    assert many.trace_error < 0.5 * few.trace_error


def test_a_matrix_that_is_known_whole_has_no_error() -> None:
    a = torch.diag(torch.tensor([3.0, -2.0, 0, 0, 0, 0], dtype=torch.float64))
    found = moments(DenseOperator(a), pairs_of(a, 2), 4, rng())
    assert found.trace == pytest.approx(1, abs=1e-12)
    assert found.frobenius_norm == pytest.approx(math.sqrt(13), abs=1e-12)
    assert found.trace_error < 1e-12


def test_pairs_that_are_missing_are_left_out() -> None:
    a = matrix()
    pairs = pairs_of(a, 3)
    with_gap, without = (moments(DenseOperator(a), each, 4, rng()) for each in (padded(pairs, 5), pairs))
    assert with_gap.trace == without.trace
    assert with_gap.known == without.known


def test_one_probe_has_no_error_and_none_is_refused() -> None:
    a = matrix()
    assert math.isnan(moments(DenseOperator(a), pairs_of(a), 1, rng()).trace_error)
    with pytest.raises(ValueError, match="probes: 0"):
        moments(DenseOperator(a), pairs_of(a), 0, rng())


def test_nan_products_are_an_error() -> None:
    a = matrix()
    pairs = pairs_of(a)
    a[3, 3] = torch.nan
    with pytest.raises(FloatingPointError, match="NaN"):
        moments(DenseOperator(a), pairs, 2, rng())
    with pytest.raises(FloatingPointError, match="NaN"):
        lanczos_quadrature(DenseOperator(a), probes=1, steps=4, generator=rng())


# -- spectral density -----------------------------------------------------------------------------------------


def exact_density(a: Tensor, grid: Tensor, width: float, scale: float) -> Tensor:
    """The same kernels at the eigenvalues themselves."""
    t = torch.asinh(torch.linalg.eigvalsh(a) / scale)
    distances = (torch.asinh(grid / scale)[:, None] - t) / width
    kernels = torch.exp(-0.5 * distances**2) / (width * math.sqrt(2 * math.pi))
    return kernels.mean(1) / (grid.square() + scale**2).sqrt()


def test_quadrature_of_all_steps_reproduces_the_moments_of_its_vector() -> None:
    """Weights sum to one, and Σ w μ^j = qᵀA^j q for j < 2m."""
    a = matrix()
    nodes, weights = lanczos_quadrature(DenseOperator(a), probes=1, steps=6, generator=rng())
    q = torch.randn(SIZE, generator=rng(), dtype=torch.float64)
    q /= q.norm()
    for power in range(12):
        moment = float(q @ torch.linalg.matrix_power(a, power) @ q)
        assert float((weights * nodes**power).sum()) == pytest.approx(moment, rel=1e-9)


def test_many_probes_approach_the_density_of_the_dense_spectrum() -> None:
    a, width, scale = matrix(), 0.3, 0.1
    grid = scale * torch.sinh(torch.linspace(-7, 7, 400, dtype=torch.float64))
    expected = exact_density(a, grid, width, scale)
    found = smoothed(
        lanczos_quadrature(DenseOperator(a), probes=400, steps=20, generator=rng()), grid, width=width, scale=scale
    )
    assert float(torch.trapezoid(found, grid)) == pytest.approx(1, abs=1e-3)
    assert float(torch.trapezoid((found - expected).abs(), grid)) < 0.08
    other = exact_density(matrix() + torch.eye(SIZE, dtype=torch.float64), grid, width, scale)
    assert float(torch.trapezoid((found - other).abs(), grid)) > 0.5  # so it would be noticed


def test_a_spectrum_of_few_values_ends_the_chain_early() -> None:
    a = torch.diag(torch.tensor([2.0, 2.0, 2.0, 0.0, 0.0, 0.0], dtype=torch.float64))
    nodes, weights = lanczos_quadrature(DenseOperator(a), probes=1, steps=6, generator=rng())
    assert len(nodes) == 2
    assert nodes.tolist() == pytest.approx([0, 2], abs=1e-12)
    assert float(weights.sum()) == pytest.approx(1, abs=1e-12)


def test_the_zero_matrix() -> None:
    a = torch.zeros(4, 4, dtype=torch.float64)
    nodes, weights = lanczos_quadrature(DenseOperator(a), probes=2, steps=3, generator=rng())
    assert nodes.tolist() == [0, 0]
    assert weights.tolist() == [0.5, 0.5]
    found = moments(DenseOperator(a), pairs_of(a, 1), 2, rng())
    assert (found.trace, found.frobenius_norm, found.frobenius_norm_error) == (0, 0, 0)
