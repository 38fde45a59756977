from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from hesstore.linalg import EigenPairs, Moments, lanczos, moments
from hesstore.linalg.eigenpairs import padded
from tests.support.operators import DenseOperator

SIZE = 40


def matrix(seed: int = 0) -> Tensor:
    """A matrix with a few large eigenvalues of either sign and a bulk of small ones."""
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
    """All 2^P probes of a small matrix, so that nothing is random."""
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


@pytest.mark.parametrize("probes", [2, 4, 16])
def test_errors_cover_and_estimates_are_unbiased(probes: int) -> None:
    """The interval of each estimate contains the true value in 95 % of 600 repetitions."""
    a = matrix()
    operator, pairs = DenseOperator(a), pairs_of(a)
    found = [moments(operator, pairs, probes, rng(seed)) for seed in range(600)]
    quantities: dict[str, tuple[Callable[[Moments], tuple[float, float]], float]] = {
        "trace": (lambda each: (each.trace, each.trace_error), float(a.trace())),
        "norm": (lambda each: (each.frobenius_norm, each.frobenius_norm_error), float(torch.linalg.matrix_norm(a))),
    }
    for name, (quantity, true) in quantities.items():
        values, errors = np.array([quantity(each) for each in found]).T
        assert abs(values.mean() - true) < 4 * values.std() / math.sqrt(600), name
        assert np.mean(np.abs(values - true) <= errors) == pytest.approx(0.95, abs=0.03), name


def test_an_exact_trace_has_no_error() -> None:
    a = matrix()
    found = moments(DenseOperator(a), pairs_of(a), 4, rng(), float(a.trace()))
    estimated = moments(DenseOperator(a), pairs_of(a), 4, rng())
    assert (found.trace, found.trace_error, found.trace_variance) == (float(a.trace()), 0, 0)
    assert found.error_of(1, 1) == found.error_of(0, 1)
    assert (found.frobenius_norm, found.frobenius_norm_error) == (
        estimated.frobenius_norm,
        estimated.frobenius_norm_error,
    )


def test_known_pairs_reduce_the_variance() -> None:
    a = matrix()
    few, many = (moments(DenseOperator(a), pairs_of(a, k), 50, rng()) for k in (1, 5))
    assert many.trace_error < 0.5 * few.trace_error


def test_a_matrix_whose_pairs_are_all_known_has_no_error() -> None:
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


def test_one_probe_has_no_error_and_zero_probes_are_refused() -> None:
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


def test_the_zero_matrix() -> None:
    a = torch.zeros(4, 4, dtype=torch.float64)
    found = moments(DenseOperator(a), pairs_of(a, 1), 2, rng())
    assert (found.trace, found.frobenius_norm, found.frobenius_norm_error) == (0, 0, 0)
