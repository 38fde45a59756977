"""The squared error of class labels: against PyTorch's MSELoss of one-hot rows, and its dense derivatives."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from hesstore.curvature import ClassLosses, DenseLayers, FlatHessian, LossLines, error_and_gradient
from hesstore.curvature.logit_geometry import gauss_newton_curvatures, mean_loss
from hesstore.measure.metrics import evaluate_each
from hesstore.problem.models import FlatModel, build
from hesstore.training import FitSettings, Trainer
from tests.support import toy

CLASSES = 3
X, Y = toy.blobs(50, 5, CLASSES)


@pytest.fixture(params=["mlp", "linear:3"])
def model(request: pytest.FixtureRequest) -> FlatModel:
    found = build(request.param, (4, 3), (5,), CLASSES, seed=1, loss="mse")
    found.module.double()
    return found


def mse(model: FlatModel, rows: Tensor | slice = slice(None)) -> Callable[[Tensor], Tensor]:
    """E by its definition, over some of the rows."""
    targets = nn.functional.one_hot(Y[rows], CLASSES).double()
    return lambda theta: nn.MSELoss()(model.logits(theta, X[rows]), targets)


def vectors(model: FlatModel) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(3, model.layout.size, generator=generator, dtype=torch.float64)


def dense_hessian(loss: Callable[[Tensor], Tensor], theta: Tensor) -> Tensor:
    """By double backward: PyTorch's mse_loss has no forward mode."""
    return torch.autograd.functional.hessian(loss, theta)  # type: ignore[no-untyped-call,no-any-return]


def test_loss_gradient_and_hessian(model: FlatModel) -> None:
    theta, v = model.theta(), vectors(model)
    error, slope = error_and_gradient(model, theta, X, Y, 16)
    assert error == pytest.approx(float(mse(model)(theta)), rel=1e-13)
    torch.testing.assert_close(slope, torch.func.grad(mse(model))(theta), rtol=1e-11, atol=1e-14)
    product = FlatHessian(model, X, Y, chunk_rows=16).at(theta).matvec(v[0])
    torch.testing.assert_close(product, dense_hessian(mse(model), theta) @ v[0], rtol=1e-10, atol=1e-13)
    assert mean_loss(model, theta, X, Y, 16) == pytest.approx(error, rel=1e-13)
    metrics = evaluate_each(model, torch.stack([theta, 2 * theta]), X, Y, CLASSES, 16)
    assert [each.loss for each in metrics] == pytest.approx([error, float(mse(model)(2 * theta))], rel=1e-13)
    assert DenseLayers.of(model, X[:4]) is None


@pytest.mark.parametrize("chunk_rows", [7, 1000])
def test_classes_along_lines(model: FlatModel, chunk_rows: int) -> None:
    theta, v = model.theta(), vectors(model)
    losses = ClassLosses(model, X, Y, CLASSES, chunk_rows)
    lines, gradients = LossLines(losses, theta, v), losses.gradients(theta)
    for label in range(CLASSES):
        loss = mse(model, torch.eq(Y, label))
        slope, hessian = torch.func.grad(loss)(theta), dense_hessian(loss, theta)
        torch.testing.assert_close(gradients[label], slope, rtol=1e-11, atol=1e-14)
        torch.testing.assert_close(lines.derivatives.slope[:, label], v @ slope, rtol=1e-11, atol=1e-13)
        curvature = ((v @ hessian) * v).sum(1)
        torch.testing.assert_close(lines.derivatives.curvature[:, label], curvature, rtol=1e-10, atol=1e-12)
    index, t = torch.tensor([0, 1, 2, 2]), torch.tensor([0.5, -2.0, 0.1, 3.0], dtype=torch.float64)
    targets = nn.functional.one_hot(Y, CLASSES).double()
    start = model.logits(theta, X)
    slopes = [torch.func.jvp(lambda at: model.logits(at, X), (theta,), (u,))[1] for u in v]
    for which, length, rise, linear in zip(
        index.tolist(), t.tolist(), lines.measured(index, t), lines.linearised(index, t), strict=True
    ):
        before = nn.MSELoss()(start, targets)
        moved = mse(model)(theta + length * v[which]) - before
        assert float(rise) == pytest.approx(float(moved), rel=1e-11)
        expected = nn.MSELoss()(start + length * slopes[which], targets) - before
        assert float(linear) == pytest.approx(float(expected), rel=1e-11)
    found = gauss_newton_curvatures(model, theta, X, v, 16)
    expected = torch.stack([2 * each.square().mean() for each in slopes])  # (2/C) mean ‖z′‖²
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=0)


@pytest.mark.parametrize("copies", [1, 2])
def test_training(model: FlatModel, copies: int) -> None:
    """An epoch in plain PyTorch."""
    settings = FitSettings(
        optimizer="sgd",
        lr=0.1,
        momentum=0.0,
        batch_size=16,
        epochs=1,
        patience=1,
        stop_on="error",
        keep="last",
        penalty_scale=0.5,
    )
    theta, total = model.theta(), 0.0
    for batch in torch.split(torch.randperm(len(Y), generator=torch.Generator().manual_seed(7)), 16):
        total += float(mse(model, batch)(theta)) * len(batch)
        theta = theta - 0.1 * (torch.func.grad(mse(model, batch))(theta) + 0.03 * theta)
    starts, generators = [model.theta()] * copies, [torch.Generator().manual_seed(7) for _ in range(copies)]
    trainer = Trainer(model, X, Y, settings, copies=copies)
    for fit in trainer.fit(starts, [0.03] * copies, generators):
        assert not isinstance(fit, Exception)
        assert fit.loss == pytest.approx(total / len(Y), rel=1e-12)
        torch.testing.assert_close(fit.theta, theta, rtol=1e-12, atol=1e-14)
