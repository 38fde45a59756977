"""Polishing, against SciPy's minimisers, dense linear algebra and automatic differentiation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.optimize
import torch
from torch import Tensor, nn

from hesstore.curvature import FlatHessian, error_and_gradient
from hesstore.problem.models import FlatModel, build
from hesstore.training import Objective, polish
from hesstore.training.polish import Position, _lower_position, _newton, _newton_direction
from tests.support import toy

X, Y = toy.blobs(60)


def make_objective(model: FlatModel, l2: float, center: Tensor | None = None) -> Objective:
    hessian = FlatHessian(model, X, Y)
    return Objective(
        lambda theta: error_and_gradient(model, theta, X, Y, 16), lambda theta: hessian.at(theta).matvec, l2, center
    )


def plain(model: FlatModel, l2: float, center: Tensor) -> Any:
    """E + (λ/2)‖θ − θ_ref‖² over all rows together."""
    return lambda theta: (
        nn.functional.cross_entropy(model.logits(theta, X), Y) + l2 / 2 * (theta - center).square().sum()
    )


@pytest.fixture
def model() -> FlatModel:
    found = build("mlp", (6, 5), (5,), 3, seed=0)
    found.module.double()
    return found


@pytest.mark.parametrize("reference", [0.0, 0.3])
def test_it_ends_at_the_minimum_that_scipy_finds(reference: float) -> None:
    """Softmax regression, whose objective has one minimum, from two starts."""
    linear = FlatModel(nn.Linear(5, 3).double())
    center = torch.full((18,), reference, dtype=torch.float64)
    objective = plain(linear, 0.05, center)

    def value_and_slope(theta: Any) -> tuple[float, Any]:
        at = torch.tensor(theta)
        return float(objective(at)), torch.func.grad(objective)(at).numpy()

    expected = scipy.optimize.minimize(value_and_slope, np.zeros(18), jac=True, method="BFGS", options={"gtol": 1e-11})
    for seed in (0, 1):
        start = torch.randn(18, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        kept = start.clone()
        found = polish(make_objective(linear, 0.05, center if reference else None), start, 200, 1e-9)
        assert found.stationarity <= 1e-9
        assert torch.equal(start, kept)
        np.testing.assert_allclose(found.theta, expected.x, atol=1e-8)
        assert found.value == pytest.approx(expected.fun, rel=1e-12)


@pytest.mark.parametrize("dtype", [pytest.param(torch.float64, marks=pytest.mark.slow), torch.float32])
def test_a_network_ends_at_a_stationary_point_below_its_start(dtype: torch.dtype) -> None:
    tol = 1e-7 if dtype == torch.float64 else 1e-3
    network = build("mlp", (6, 5), (5,), 3, seed=0)
    network.module.to(dtype)
    hessian = FlatHessian(network, X.to(dtype), Y)
    objective = Objective(
        lambda theta: error_and_gradient(network, theta, X.to(dtype), Y), lambda theta: hessian.at(theta).matvec, 0.002
    )
    start = network.theta()
    found = polish(objective, start, 3000, tol)
    assert found.theta.dtype == dtype
    assert found.value < objective.at(start).value
    exact = build("mlp", (6, 5), (5,), 3, seed=0)
    exact.module.double()
    theta = found.theta.double()
    g = torch.func.grad(plain(exact, 0.002, torch.zeros_like(theta)))(theta)
    e = torch.func.grad(plain(exact, 0.0, torch.zeros_like(theta)))(theta)
    assert float(g.norm() / e.norm()) <= 1.01 * tol + 1e-5 * (dtype == torch.float32)
    assert found.stationarity == pytest.approx(float(g.norm() / e.norm()), rel=1e-2, abs=1e-5)


def test_newton_alone_converges_fast_near_a_minimum(model: FlatModel) -> None:
    objective = make_objective(model, 0.001)
    near = polish(objective, model.theta(), 500, 1e-3)
    objective.evaluations = 0
    found = _newton(objective, near, 400, 1e-10)
    assert found.stationarity <= 1e-10
    assert found.value <= near.value
    assert objective.evaluations < 400


def test_few_iterations_never_raise_the_objective(model: FlatModel) -> None:
    objective = make_objective(model, 0.001)
    values = [polish(objective, model.theta(), count, 1e-12).value for count in (1, 3, 10, 30)]
    assert values == sorted(values, reverse=True)
    assert values[0] < objective.at(model.theta()).value
    objective.evaluations = 0
    polish(objective, model.theta(), 2, 1e-12)
    assert objective.evaluations < 20


def test_the_newton_direction_solves_the_system_or_avoids_negative_curvature() -> None:
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(12, 12, generator=generator, dtype=torch.float64))[0]
    gradient = torch.randn(12, generator=generator, dtype=torch.float64)
    positive = basis @ torch.diag(torch.linspace(0.5, 9, 12, dtype=torch.float64)) @ basis.T
    found, used = _newton_direction(lambda v: positive @ v, gradient, 1e-10, 50)
    assert torch.allclose(found, -torch.linalg.solve(positive, gradient), atol=1e-8)
    assert used <= 13
    found, used = _newton_direction(lambda v: positive @ v, gradient, 1e-10, 3)
    assert used == 3
    assert float(found @ gradient) < 0
    found, used = _newton_direction(lambda v: -(positive @ v), gradient, 1e-10, 50)
    assert used == 1
    assert torch.equal(found, -gradient)
    indefinite = basis @ torch.diag(torch.linspace(-1, 9, 12, dtype=torch.float64)) @ basis.T
    found, _ = _newton_direction(lambda v: indefinite @ v, gradient, 1e-10, 50)
    assert float(found @ gradient) < 0
    assert float(found @ indefinite @ found) > 0


def test_a_step_that_leads_nowhere_is_given_up(model: FlatModel) -> None:
    objective = make_objective(model, 0.01)
    start: Position = objective.at(model.theta())
    assert _lower_position(objective, start, start.gradient) is None
    lower = _lower_position(objective, start, -100 * start.gradient)
    assert lower is not None
    assert lower.value < start.value


def test_an_exactly_stationary_start_stays(model: FlatModel) -> None:
    """Weights of zero with balanced classes: ∇E is zero to rounding, so its ratio to the objective's says nothing."""
    objective = make_objective(model, 0.01)
    found = polish(objective, torch.zeros(model.layout.size, dtype=torch.float64), 50, 1e-3)
    assert objective.evaluations == 1
    assert not found.theta.any()
