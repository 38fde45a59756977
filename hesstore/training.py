"""Fitting the network at one λ: mini-batches on the device, early stopping, a real copy of the best weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from hesstore.errors import DivergedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from hesstore.models import FlatModel


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """How to train.

    Parameters
    ----------
    optimizer : str
        ``adam`` or ``sgd``.
    lr, momentum : float
        Learning rate; momentum of ``sgd``.
    batch_size, epochs, patience : int
        Rows a step; most epochs; epochs without a lower epoch loss before training stops.
    penalty_scale : float
        c of the penalty c·λ‖θ‖².
    """

    optimizer: str
    lr: float
    momentum: float
    batch_size: int
    epochs: int
    patience: int
    penalty_scale: float


@dataclass(frozen=True)
class Fit:
    """The weights with the lowest epoch loss.

    Attributes
    ----------
    theta : Tensor
        (P,) the weights at the end of the best epoch.
    loss : float
        That epoch's loss: the mean, weighted by batch size, of the mini-batch objectives along the epoch, nats.
    epochs : int
        Epochs trained.
    """

    theta: Tensor
    loss: float
    epochs: int


def fit(
    model: FlatModel,
    start: Tensor,
    x: Tensor,
    y: Tensor,
    *,
    l2: float,
    settings: FitSettings,
    rng: torch.Generator,
    on_epoch: Callable[[int, float], None] | None = None,
) -> Fit:
    """Minimise E(θ) + c·λ‖θ‖² from ``start`` with a fresh optimiser.

    The penalty reaches the weights as coupled weight decay 2cλ; one host sync an epoch.

    Parameters
    ----------
    model : FlatModel
        The network; its module's parameters are bound to a work vector while this runs.
    start : Tensor
        (P,) initial weights, left unchanged.
    x, y : Tensor
        Training inputs and labels, on the device.
    l2 : float
        λ.
    settings : FitSettings
        How to train.
    rng : torch.Generator
        CPU generator of the epochs' permutations.
    on_epoch : callable, optional
        Called with (epoch from 1, epoch loss).

    Raises
    ------
    DivergedError
        If an epoch's loss is NaN or infinite.
    """
    theta = start.clone()
    parameters = model.bind(theta)
    optimizer = _optimizer(parameters, l2, settings)
    best = Fit(start, math.inf, 0)
    stale = 0
    for epoch in range(1, settings.epochs + 1):
        loss = _epoch(model.module, theta, parameters, optimizer, x, y, l2=l2, settings=settings, rng=rng)
        if not math.isfinite(loss):
            raise DivergedError(f"the training loss became {loss} in epoch {epoch} at λ = {l2:.10g}")
        if on_epoch is not None:
            on_epoch(epoch, loss)
        stale = 0 if loss < best.loss else stale + 1
        if stale == 0:
            best = Fit(theta.clone(), loss, epoch)
        if stale == settings.patience:
            break
    return Fit(best.theta, best.loss, epoch)


def _optimizer(parameters: list[nn.Parameter], l2: float, settings: FitSettings) -> torch.optim.Optimizer:
    decay = 2 * settings.penalty_scale * l2
    if settings.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=settings.lr, weight_decay=decay, fused=True)
    return torch.optim.SGD(parameters, lr=settings.lr, momentum=settings.momentum, weight_decay=decay, fused=True)


def _epoch(
    module: nn.Module,
    theta: Tensor,
    parameters: list[nn.Parameter],
    optimizer: torch.optim.Optimizer,
    x: Tensor,
    y: Tensor,
    *,
    l2: float,
    settings: FitSettings,
    rng: torch.Generator,
) -> float:
    order = torch.randperm(len(y), generator=rng).to(x.device, non_blocking=True)
    total = torch.zeros((), dtype=torch.float64, device=x.device)
    for batch in torch.split(order, settings.batch_size):
        loss = nn.functional.cross_entropy(module(x.index_select(0, batch)), y.index_select(0, batch))
        with torch.no_grad():
            objective = torch.add(loss, theta.dot(theta), alpha=settings.penalty_scale * l2)
            total.add_(objective, alpha=len(batch))
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.grad = gradient
        optimizer.step()
    total.add_(theta.dot(theta), alpha=0)  # the last step's weights are in no loss yet: NaN or ∞ times 0 is NaN
    return float(total) / len(y)
