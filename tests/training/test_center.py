"""Fits with a centred penalty, against automatic differentiation and PyTorch's own optimiser."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from hesstore.errors import DivergedError
from hesstore.problem.models import FlatModel, build
from hesstore.training import Trainer
from tests.support import toy
from tests.training.test_trainer import SETTINGS, rng

X, Y = toy.blobs(50)
L2 = (0.0, 0.02, 0.3)


def model() -> FlatModel:
    found = build("mlp", (6, 5), (5,), 3, seed=0)
    found.module.double()
    return found


def center() -> Tensor:
    return build("mlp", (6, 5), (5,), 3, seed=1).theta().double()


def by_hand(start: Tensor, l2: float, scale: float, epochs: int, optimizer: str) -> tuple[Tensor, list[float]]:
    """The published way: the penalty is a part of the loss that is differentiated, and weight_decay is 0."""
    flat, theta = model(), start.clone().requires_grad_()
    made: torch.optim.Optimizer = (
        torch.optim.Adam([theta], lr=0.01, foreach=False, fused=False)
        if optimizer == "adam"
        else torch.optim.SGD([theta], lr=0.01, momentum=0.9, foreach=False)
    )
    generator, losses = rng(), []
    for _ in range(epochs):
        total = 0.0
        for batch in torch.split(torch.randperm(len(Y), generator=generator), 16):
            made.zero_grad()
            error = nn.functional.cross_entropy(flat.logits(theta, X[batch]), Y[batch])
            objective = error + scale * l2 * (theta - center()).square().sum()
            objective.backward()  # type: ignore[no-untyped-call]
            total += float(objective.detach()) * len(batch)
            made.step()
        losses.append(total / len(Y))
    return theta.detach(), losses


@pytest.mark.parametrize(
    ("optimizer", "scale", "copies"), [("adam", 1.0, 1), ("sgd", 0.5, 1), ("adam", 0.5, 3), ("sgd", 1.0, 3)]
)
def test_a_fit_minimises_the_loss_with_the_penalty_in_it(optimizer: str, scale: float, copies: int) -> None:
    """Each of three strengths, alone and in a stack."""
    settings = replace(
        SETTINGS, optimizer=optimizer, momentum=0.9, lr=0.01, batch_size=16, epochs=3, keep="last", penalty_scale=scale
    )
    trainer = Trainer(model(), X, Y, settings, copies=copies, center=center())
    start = model().theta()
    seen: dict[tuple[int, int], float] = {}

    def on_epoch(index: int, epoch: int, loss: float) -> None:
        seen[index, epoch] = loss

    for first in range(0, len(L2), copies):
        group = L2[first : first + copies]
        seen.clear()
        fits = trainer.fit([start] * len(group), group, [rng() for _ in group], on_epoch)
        for index, (l2, fit) in enumerate(zip(group, fits, strict=True)):
            assert not isinstance(fit, DivergedError)
            expected, losses = by_hand(start, l2, scale, 3, optimizer)
            assert torch.allclose(fit.theta, expected, rtol=1e-9, atol=1e-11)
            assert [seen[index, epoch] for epoch in (1, 2, 3)] == pytest.approx(losses, rel=1e-10)


def test_a_centre_of_zeros_changes_no_bit() -> None:
    settings = replace(SETTINGS, epochs=3)
    start = model().theta()
    plain, centred = (
        Trainer(model(), X, Y, settings, center=center).fit([start], [0.03], [rng()])[0]
        for center in (None, torch.zeros_like(start))
    )
    assert not isinstance(plain, DivergedError)
    assert not isinstance(centred, DivergedError)
    assert torch.equal(plain.theta, centred.theta)
    assert plain.loss == centred.loss
