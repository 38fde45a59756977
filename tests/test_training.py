from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from hesstore.errors import DivergedError
from hesstore.models import FlatModel, build
from hesstore.training import FitSettings, fit
from tests import toy

SETTINGS = FitSettings(
    optimizer="adam", lr=1.5e-3, momentum=0.0, batch_size=64, epochs=1, patience=5, penalty_scale=0.5
)


@pytest.fixture
def model() -> FlatModel:
    model = build("mlp", (6, 5), (5,), 3, seed=0)
    model.module.double()
    return model


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(7)


def reference(
    model: FlatModel, x: Tensor, y: Tensor, decay: float, settings: FitSettings, epochs: int
) -> tuple[Tensor, list[float]]:
    """The same training in the plainest PyTorch: module, unfused optimiser, penalty added to the reported loss."""
    module = build("mlp", (6, 5), (5,), 3, seed=0).module.double()
    if settings.optimizer == "adam":
        optimizer: torch.optim.Optimizer = torch.optim.Adam(
            module.parameters(), lr=settings.lr, weight_decay=decay, foreach=False, fused=False
        )
    else:
        optimizer = torch.optim.SGD(
            module.parameters(), lr=settings.lr, weight_decay=decay, momentum=settings.momentum, foreach=False
        )
    generator, losses = rng(), []
    for _ in range(epochs):
        total = 0.0
        for batch in torch.split(torch.randperm(len(y), generator=generator), settings.batch_size):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(module(x[batch]), y[batch])
            squares = sum(float(p.detach().square().sum()) for p in module.parameters())
            total += (float(loss.detach()) + decay / 2 * squares) * len(batch)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        losses.append(total / len(y))
    return torch.cat([p.detach().reshape(-1) for p in module.parameters()]), losses


@pytest.mark.parametrize("penalty_scale", [0.5, 1.0])
@pytest.mark.parametrize("l2", [0.0, 0.03])
def test_one_step_is_adam_with_coupled_weight_decay(model: FlatModel, l2: float, penalty_scale: float) -> None:
    x, y = toy.blobs(50)
    settings = replace(SETTINGS, penalty_scale=penalty_scale)
    start = model.theta()
    kept = start.clone()
    found = fit(model, start, x, y, l2=l2, settings=settings, rng=rng())
    expected, losses = reference(model, x, y, 2 * penalty_scale * l2, settings, 1)
    assert float((found.theta - expected).abs().max()) < 1e-14
    assert found.loss == pytest.approx(losses[0], rel=1e-12)
    assert torch.equal(start, kept)


def test_the_gradient_step_is_that_of_the_penalised_objective(model: FlatModel) -> None:
    """SGD moves by −lr · ∇(E + (λ/2)‖θ‖²), biases too."""
    x, y = toy.blobs(50)
    theta = model.theta().requires_grad_()
    objective = nn.functional.cross_entropy(model.logits(theta, x), y) + 0.2 / 2 * theta.square().sum()
    (slope,) = torch.autograd.grad(objective, theta)
    found = fit(model, theta.detach(), x, y, l2=0.2, settings=replace(SETTINGS, optimizer="sgd", lr=0.1), rng=rng())
    assert torch.allclose(found.theta, theta.detach() - 0.1 * slope, rtol=1e-12)


def test_full_penalty_is_half_penalty_at_twice_the_strength(model: FlatModel) -> None:
    x, y = toy.blobs(50)
    start = model.theta()
    full = fit(model, start, x, y, l2=0.01, settings=replace(SETTINGS, penalty_scale=1.0, epochs=3), rng=rng())
    half = fit(model, start, x, y, l2=0.02, settings=replace(SETTINGS, epochs=3), rng=rng())
    assert torch.equal(full.theta, half.theta)
    assert full.loss == pytest.approx(half.loss, rel=1e-14)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("batch_size", [7, 16, 50])
def test_epochs_with_ragged_batches(model: FlatModel, optimizer: str, batch_size: int) -> None:
    x, y = toy.blobs(50)
    settings = replace(SETTINGS, optimizer=optimizer, momentum=0.9, batch_size=batch_size, epochs=4, lr=0.01)
    seen: list[float] = []
    found = fit(
        model, model.theta(), x, y, l2=0.01, settings=settings, rng=rng(), on_epoch=lambda _, loss: seen.append(loss)
    )
    expected, losses = reference(model, x, y, 0.01, settings, 4)
    assert seen == pytest.approx(losses, rel=1e-10)
    assert found.loss == min(seen)
    if losses[-1] == min(losses):
        assert torch.allclose(found.theta, expected, rtol=1e-9, atol=1e-12)


def test_best_weights_are_a_copy_and_patience_counts_from_them(model: FlatModel) -> None:
    x, y = toy.blobs(50)
    settings = replace(SETTINGS, lr=0.8, batch_size=10, epochs=60, patience=3)
    seen: list[float] = []
    weights: list[Tensor] = []

    def watch(_: int, loss: float) -> None:
        seen.append(loss)
        weights.append(model.theta())

    found = fit(model, model.theta(), x, y, l2=0.0, settings=settings, rng=rng(), on_epoch=watch)
    best = seen.index(min(seen))
    assert best < len(seen) - 1
    assert len(seen) == found.epochs == best + 1 + 3
    assert torch.equal(found.theta, weights[best])
    assert not torch.equal(found.theta, weights[-1])


def test_divergence_is_named(model: FlatModel) -> None:
    x, y = toy.blobs(50)
    settings = replace(SETTINGS, optimizer="sgd", lr=1e200, epochs=5)
    with pytest.raises(DivergedError, match=r"became (nan|inf) in epoch \d at λ = 0.5"):
        fit(model, model.theta(), x, y, l2=0.5, settings=settings, rng=rng())


def test_device(device: torch.device) -> None:
    cpu_model, model = (build("mlp", (6, 5), (5,), 3, seed=0) for _ in range(2))
    x, y = toy.blobs(50)
    expected = fit(cpu_model, cpu_model.theta(), x.float(), y, l2=0.01, settings=SETTINGS, rng=rng())
    model.module.to(device)
    found = fit(model, model.theta(), x.float().to(device), y.to(device), l2=0.01, settings=SETTINGS, rng=rng())
    assert torch.allclose(found.theta.cpu(), expected.theta, atol=1e-6)
