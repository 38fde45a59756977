from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace
from inspect import signature
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hesstore.errors import DivergedError
from hesstore.problem.models import FlatModel, build
from hesstore.training import Fit, FitSettings, Trainer
from hesstore.training.cuda_graph import GraphedStep
from tests.support import toy
from tests.support.training import fit

SETTINGS = FitSettings(
    optimizer="adam",
    lr=1.5e-3,
    momentum=0.0,
    batch_size=64,
    epochs=1,
    patience=5,
    stop_on="objective",
    keep="best",
    penalty_scale=0.5,
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
    """The same training in plain PyTorch: a module, an unfused optimiser, the penalty added to the reported loss."""
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
    """A step of SGD is −lr · ∇(E + (λ/2)‖θ‖²), for the biases too."""
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


@pytest.mark.parametrize("keep", ["last", "best"])
@pytest.mark.parametrize("stop_on", ["error", "objective"])
def test_a_continuation_over_three_strengths_equals_a_plain_loop(model: FlatModel, stop_on: str, keep: str) -> None:
    """A loop over PyTorch's own module, optimiser and weight decay: the same batches, early stopping and weights."""
    x, y = toy.blobs(50)
    settings = replace(SETTINGS, lr=0.05, batch_size=10, epochs=30, patience=2, stop_on=stop_on, keep=keep)
    module = build("mlp", (6, 5), (5,), 3, seed=0).module.double()
    theta, ours, theirs = model.theta(), [], []
    for l2 in (0.0, 0.02, 0.04):
        found = fit(model, theta, x, y, l2=l2, settings=settings, rng=rng())
        theta = found.theta
        ours.append(found.epochs)
        optimizer = torch.optim.Adam(module.parameters(), lr=0.05, weight_decay=l2, foreach=False, fused=False)
        generator, lowest, stale, epoch = rng(), float("inf"), 0, 0
        kept = {name: value.clone() for name, value in module.state_dict().items()}
        while epoch < 30 and stale < 2:
            epoch, total = epoch + 1, 0.0
            for batch in torch.split(torch.randperm(50, generator=generator), 10):
                optimizer.zero_grad()
                error = nn.functional.cross_entropy(module(x[batch]), y[batch])
                squares = sum(p.detach().square().sum() for p in module.parameters())
                total += float(error.detach() + (l2 / 2 * squares if stop_on == "objective" else 0.0))
                error.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            stale = 0 if total < lowest else stale + 1
            if total < lowest or keep == "last":
                kept = {name: value.clone() for name, value in module.state_dict().items()}
            lowest = min(lowest, total)
        module.load_state_dict(kept)
        theirs.append(epoch)
        expected = torch.cat([p.detach().reshape(-1) for p in module.parameters()])
        assert torch.allclose(theta, expected, rtol=1e-8, atol=1e-10)
    assert ours == theirs
    assert min(ours) < 30


def test_best_weights_are_a_copy_and_patience_counts_from_them(model: FlatModel) -> None:
    x, y = toy.blobs(50)
    settings = replace(SETTINGS, lr=0.8, batch_size=10, epochs=60, patience=3)
    seen: list[float] = []
    found = fit(
        model, model.theta(), x, y, l2=0.0, settings=settings, rng=rng(), on_epoch=lambda _, loss: seen.append(loss)
    )
    best = seen.index(min(seen))
    assert best < len(seen) - 1
    assert len(seen) == found.epochs == best + 1 + 3
    at_best, losses = reference(model, x, y, 0.0, settings, best + 1)
    assert torch.allclose(found.theta, at_best, rtol=1e-6)
    assert losses == pytest.approx(seen[: best + 1])


def test_divergence_is_reported(model: FlatModel) -> None:
    x, y = toy.blobs(50)
    settings = replace(SETTINGS, optimizer="sgd", lr=1e200, epochs=5)
    with pytest.raises(DivergedError, match=r"became (nan|inf) in epoch \d at λ = 0.5"):
        fit(model, model.theta(), x, y, l2=0.5, settings=settings, rng=rng())


def recorder(losses: list[float]) -> Callable[[int, float], None]:
    return lambda _, loss: losses.append(loss)


def test_models_fitted_together_equal_each_fitted_alone(model: FlatModel) -> None:
    """Each has its own start, λ, order of rows and end. The last batch is short, and one copy is idle."""
    x, y = toy.blobs(50)
    settings = replace(SETTINGS, lr=0.3, batch_size=16, epochs=40, patience=2)
    starts = [model.theta() * scale for scale in (1.0, 0.2, 3.0)]
    strengths, seeds = [0.0, 0.02, 0.5], [1, 2, 3]
    seen: list[tuple[int, int, float]] = []
    found = Trainer(model, x, y, settings, copies=4).fit(
        starts, strengths, [torch.Generator().manual_seed(seed) for seed in seeds], lambda *what: seen.append(what)
    )
    assert len(found) == 3
    for index, (start, l2, seed) in enumerate(zip(starts, strengths, seeds, strict=True)):
        losses: list[float] = []
        alone = fit(
            model,
            start,
            x,
            y,
            l2=l2,
            settings=settings,
            rng=torch.Generator().manual_seed(seed),
            on_epoch=recorder(losses),
        )
        one = found[index]
        assert isinstance(one, Fit)
        assert one.epochs == alone.epochs
        assert [loss for which, _, loss in seen if which == index] == pytest.approx(losses, rel=1e-8)
        assert torch.allclose(one.theta, alone.theta, rtol=1e-6, atol=1e-9)
    assert len({one.epochs for one in found if isinstance(one, Fit)}) > 1


def test_a_model_that_diverges_does_not_affect_the_others(model: FlatModel) -> None:
    x, y = toy.blobs(50)
    settings = replace(SETTINGS, epochs=3)
    starts = [model.theta(), torch.full_like(model.theta(), torch.nan)]
    good, bad = Trainer(model, x, y, settings, copies=2).fit(starts, [0.0, 0.1], [rng(), rng()])
    assert isinstance(bad, DivergedError)
    assert "became nan in epoch 1 at λ = 0.1" in str(bad)
    alone = fit(model, model.theta(), x, y, l2=0.0, settings=settings, rng=rng())
    assert isinstance(good, Fit)
    assert torch.allclose(good.theta, alone.theta, rtol=1e-9)


@pytest.mark.parametrize(("starts", "strengths"), [(0, 0), (3, 3), (1, 2)])
def test_numbers_of_starts_that_are_refused(model: FlatModel, starts: int, strengths: int) -> None:
    trainer = Trainer(model, *toy.blobs(50), SETTINGS, copies=2)
    with pytest.raises(ValueError, match="1 to 2"):
        trainer.fit([model.theta()] * starts, [0.0] * strengths, [rng()] * starts)


def test_fits_of_one_trainer_are_independent(model: FlatModel) -> None:
    x, y = toy.blobs(50)
    trainer = Trainer(model, x, y, replace(SETTINGS, epochs=2))
    (first,), _, (again,) = (trainer.fit([model.theta()], [l2], [rng()]) for l2 in (0.0, 0.3, 0.0))
    assert isinstance(first, Fit)
    assert isinstance(again, Fit)
    assert torch.equal(first.theta, again.theta)


def test_device(device: torch.device) -> None:
    """In float64, because Adam turns the rounding errors of small gradients into whole steps."""
    cpu_model, model = (build("mlp", (6, 5), (5,), 3, seed=0) for _ in range(2))
    cpu_model.module.double()
    model.module.to(device, torch.float64)
    x, y = toy.blobs(50)
    expected = fit(cpu_model, cpu_model.theta(), x, y, l2=0.01, settings=SETTINGS, rng=rng())
    found = fit(model, model.theta(), x.to(device), y.to(device), l2=0.01, settings=SETTINGS, rng=rng())
    assert torch.allclose(found.theta.cpu(), expected.theta, rtol=1e-9, atol=1e-12)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_graph_on_each_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Newer versions of PyTorch check that the inputs of a graph stay alive."""
    graph = torch.cuda.graph

    def checked(recorded: torch.cuda.CUDAGraph, *, stream: torch.cuda.Stream, capture_error_mode: str) -> object:
        checks_liveness = "check_input_liveness" in signature(graph).parameters
        options: dict[str, Any] = {"check_input_liveness": True} if checks_liveness else {}
        return graph(recorded, stream=stream, capture_error_mode=capture_error_mode, **options)

    monkeypatch.setattr(torch.cuda, "graph", checked)
    x, y = toy.blobs(50)
    for index in range(torch.cuda.device_count()):
        model = build("mlp", (6, 5), (5,), 3, seed=0)
        model.module.to(f"cuda:{index}", torch.float64)
        trainer = Trainer(model, x.to(f"cuda:{index}"), y.to(f"cuda:{index}"), SETTINGS, copies=2)
        with torch.no_grad():
            steps = trainer._make_steps(2, 16)
            assert isinstance(steps, GraphedStep)
            gc.collect()
            steps(torch.arange(32, device=f"cuda:{index}").view(1, 2, 16).expand(2, -1, -1))
            assert bool(torch.isfinite(trainer._total).all())
