from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from hesstore.curvature import scalar_curvature
from hesstore.linalg import lanczos, moments
from tests.support.operators import DenseOperator

SIZE = 12
SHIFT = 0.3


def problem() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    a = torch.randn(SIZE, SIZE, generator=generator, dtype=torch.float64)
    return (a + a.T) / 2, torch.randn(SIZE, generator=generator, dtype=torch.float64)


def by_shape_operator(h: Tensor, g: Tensor) -> float:
    """R = (tr S)² − tr S² of a hypersurface in flat space, S = (I + g gᵀ)⁻¹ H / √(1 + ‖g‖²)."""
    metric = torch.eye(len(g), dtype=torch.float64) + torch.outer(g, g)
    s = torch.linalg.solve(metric, h) / math.sqrt(1 + float(g @ g))
    return float(s.trace() ** 2 - (s @ s).trace())


def test_equals_the_shape_operator_if_all_eigenpairs_are_known() -> None:
    a, g = problem()
    operator = DenseOperator(a)
    pairs = lanczos(operator, SIZE, tol=1e-12)
    found = moments(operator, pairs, 2, torch.Generator().manual_seed(0))
    r = scalar_curvature(found, g, a @ g, SHIFT)
    assert r.value == pytest.approx(by_shape_operator(a + SHIFT * torch.eye(SIZE, dtype=torch.float64), g), rel=1e-9)
    assert abs(r.error) < 1e-9


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("probes", [4, 16])
def test_is_unbiased_and_its_error_covers(probes: int, *, exact: bool) -> None:
    a, g = problem()
    operator = DenseOperator(a)
    pairs = lanczos(operator, 2, tol=1e-12)
    expected = by_shape_operator(a + SHIFT * torch.eye(SIZE, dtype=torch.float64), g)
    trace = float(a.trace()) if exact else None

    def estimate(seed: int) -> tuple[float, float]:
        return scalar_curvature(
            moments(operator, pairs, probes, torch.Generator().manual_seed(seed), trace), g, a @ g, SHIFT
        )

    values, errors = np.array([estimate(seed) for seed in range(400)]).T
    assert abs(values.mean() - expected) < 4 * values.std() / 20
    assert np.mean(np.abs(values - expected) <= errors) > 0.93


def test_a_sphere() -> None:
    """At the top of a sphere of radius r in n + 1 dimensions, H = −I/r and R = n(n − 1)/r²."""
    radius = 2.0
    a = -torch.eye(SIZE, dtype=torch.float64) / radius
    operator = DenseOperator(a)
    pairs = lanczos(operator, SIZE, tol=1e-12)  # all are copies of one eigenvalue
    found = moments(operator, pairs, 4, torch.Generator().manual_seed(0))
    flat = torch.zeros(SIZE, dtype=torch.float64)
    assert scalar_curvature(found, flat, flat).value == pytest.approx(SIZE * (SIZE - 1) / radius**2, rel=1e-9)
