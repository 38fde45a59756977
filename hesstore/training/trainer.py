"""Fitting: mini-batches on the device, early stopping, a real copy of the best weights.

Models are fitted side by side, each at its λ and in its own order of the rows: a row of θ (G, P) each. Alone a
small network leaves a GPU idle between launches. On a CPU one at a time is fastest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from hesstore.autodiff import trace_gradient
from hesstore.errors import DivergedError
from hesstore.training.cuda_graph import capture
from hesstore.training.optimizers import SGD, Adam, Optimizer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from hesstore.problem.models import FlatModel


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


class Trainer:
    """Fits up to G models at once: minimises E(θ) + c·λ‖θ‖² from given starts, with a fresh optimiser.

    The penalty reaches the weights as coupled weight decay 2cλ. Nothing waits for the device but the end of an epoch.

    Parameters
    ----------
    model : FlatModel
        The network.
    x, y : Tensor
        Training inputs and labels, on the device.
    settings : FitSettings
        How to train.
    copies : int
        G. Fewer may be fitted: they cost as much as G.
    """

    def __init__(self, model: FlatModel, x: Tensor, y: Tensor, settings: FitSettings, *, copies: int = 1) -> None:
        self.model, self.x, self.y, self.settings, self.copies = model, x, y, settings, copies
        self._theta = model.theta().repeat(copies, 1)
        self._gradient = torch.zeros_like(self._theta)
        self._l2 = torch.zeros(copies, 1, dtype=x.dtype, device=x.device)
        self._total = torch.zeros(copies, dtype=torch.float64, device=x.device)
        self._optimizer = _optimizer(self._theta, self._gradient, settings)
        self._steps: dict[int, Callable[[Tensor], None]] = {}

    @torch.no_grad()
    def fit(
        self,
        starts: Sequence[Tensor],
        l2: Sequence[float],
        rngs: Sequence[torch.Generator],
        on_epoch: Callable[[int, int, float], None] | None = None,
    ) -> list[Fit | DivergedError]:
        """The fits, in the order of ``starts``.

        Parameters
        ----------
        starts : sequence of Tensor
            (P,) initial weights of each model, at most G, left unchanged.
        l2 : sequence of float
            λ of each.
        rngs : sequence of Generator
            CPU generator of each model's permutations.
        on_epoch : callable, optional
            Called with (model, epoch from 1, epoch loss) for each model that still learns.

        Returns
        -------
        list
            A :class:`~hesstore.errors.DivergedError` in place of the fit if an epoch's loss was NaN or infinite.

        Raises
        ------
        ValueError
            If there are no starts, more than G, or not as many λ and generators.
        """
        if not 1 <= len(starts) <= self.copies or not len(starts) == len(l2) == len(rngs):
            raise ValueError(
                f"{len(starts)} starts, {len(l2)} λ, {len(rngs)} generators: as many of each, 1 to {self.copies}"
            )
        self._prepare(starts, l2)
        progress = [_Progress(value, self.settings.patience) for value in l2]
        best = self._theta.clone()
        order = self._permutations(rngs)
        for epoch in range(1, self.settings.epochs + 1):
            self._epoch(order)
            order = self._permutations(rngs)  # the next one, while the device is busy with this one
            losses = (self._total / len(self.y)).tolist()
            learning = [index for index, model in enumerate(progress) if not model.finished]
            for index in learning:
                if on_epoch is not None and math.isfinite(losses[index]):
                    on_epoch(index, epoch, losses[index])
            better = [index for index in learning if progress[index].update(epoch, losses[index])]
            best[better] = self._theta[better]
            if all(model.finished for model in progress):
                break
        return [
            model.failure or Fit(theta.clone(), model.loss, model.epochs)
            for model, theta in zip(progress, best, strict=False)
        ]

    @torch.no_grad()
    def take_steps(self, count: int) -> None:
        """Take training steps that come to nothing and wait for them, for whoever wants to know how long they take.

        No fit is the other for it: each begins with weights and an optimiser's state of its own.
        """
        self._prepare([self.model.theta().to(self._theta)], [0.0])
        rows = torch.arange(min(self.settings.batch_size, len(self.y)), device=self.x.device)
        batch, step = rows.repeat(self.copies, 1), self._steps[len(rows)]
        for _ in range(count):
            step(batch)
        self._total.tolist()

    def _prepare(self, starts: Sequence[Tensor], l2: Sequence[float]) -> None:
        rows, batch = len(self.y), self.settings.batch_size
        for size in {min(batch, rows), rows % batch} - {0}:
            if size not in self._steps:  # before the state is set: recording a CUDA graph takes steps
                self._steps[size] = self._step(size)
        self._optimizer.reset()
        for copy in range(self.copies):  # the idle ones are the last one again
            index = min(copy, len(starts) - 1)
            self._theta[copy] = starts[index]
            self._l2[copy] = l2[index]

    def _permutations(self, rngs: Sequence[torch.Generator]) -> Tensor:
        orders = [torch.randperm(len(self.y), generator=rng) for rng in rngs]
        orders += orders[-1:] * (self.copies - len(orders))
        stacked = torch.stack(orders)
        if self.x.is_cuda:
            stacked = stacked.pin_memory()  # from other memory the copy waits for the device
        return stacked.to(self.x.device, non_blocking=True)

    def _epoch(self, order: Tensor) -> None:
        self._total.zero_()
        for batch in torch.split(order, self.settings.batch_size, dim=1):
            self._steps[batch.shape[1]](batch)
        # The last step's weights are in no loss yet: NaN or ∞ times 0 is NaN.
        self._total.add_(torch.linalg.vector_norm(self._theta, dim=1), alpha=0)

    def _step(self, size: int) -> Callable[[Tensor], None]:
        step = self._eager_step(size)
        if self.x.is_cuda:
            return capture(step, torch.zeros(self.copies, size, dtype=torch.int64, device=self.x.device))
        return step

    def _eager_step(self, size: int) -> Callable[[Tensor], None]:
        """One step on a batch of ``size`` rows of each model, given by their indices (G, size)."""
        slope = self._bound(size)
        scale, shape = self.settings.penalty_scale, (self.copies, size, *self.x.shape[1:])

        def step(batch: Tensor) -> None:
            rows = batch.reshape(-1)
            loss = slope(self.x.index_select(0, rows).view(shape), self.y.index_select(0, rows).view(shape[:2]))
            squares = torch.linalg.vector_norm(self._theta, dim=1).square_()
            self._total.add_(torch.addcmul(loss, squares, self._l2[:, 0], value=scale), alpha=size)
            self._gradient.addcmul_(self._theta, self._l2, value=2 * scale)
            self._optimizer.step()

        return step

    def _bound(self, size: int) -> Callable[[Tensor, Tensor], Tensor]:
        """(x, y) of a batch a model ↦ their losses (G,), leaving the gradients in ``_gradient``."""

        def loss(theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
            return nn.functional.cross_entropy(self.model.logits(theta, x), y)

        x, y = self.x[:size], self.y[:size]
        if self.copies > 1:
            theta, many = self._theta, (self.copies, *[-1] * x.dim())
            stacked = trace_gradient(loss, theta, x.expand(many), y.expand(self.copies, -1), stacked=True)
            return stacked.bind(theta, self._gradient)
        alone = trace_gradient(loss, self._theta[0], x, y).bind(self._theta[0], self._gradient[0])
        return lambda x, y: alone(x[0], y[0])


@dataclass
class _Progress:
    """Early stopping of one model."""

    l2: float
    patience: int
    loss: float = math.inf
    epochs: int = 0
    stale: int = 0
    failure: DivergedError | None = None

    @property
    def finished(self) -> bool:
        return self.failure is not None or self.stale == self.patience

    def update(self, epoch: int, loss: float) -> bool:
        """Take note of an epoch's loss; whether it is the lowest so far."""
        self.epochs = epoch
        if not math.isfinite(loss):
            self.failure = DivergedError(f"the training loss became {loss} in epoch {epoch} at λ = {self.l2:.10g}")
            return False
        better = loss < self.loss
        self.loss = min(loss, self.loss)
        self.stale = 0 if better else self.stale + 1
        return better


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
    """Fit one model, as :class:`Trainer` does.

    Raises
    ------
    DivergedError
        If an epoch's loss is NaN or infinite.
    """
    tell = None if on_epoch is None else lambda _, epoch, loss: on_epoch(epoch, loss)
    (found,) = Trainer(model, x, y, settings).fit([start], [l2], [rng], tell)
    if isinstance(found, DivergedError):
        raise found
    return found


def _optimizer(theta: Tensor, gradient: Tensor, settings: FitSettings) -> Optimizer:
    if settings.optimizer == "adam":
        return Adam(theta, gradient, settings.lr)
    return SGD(theta, gradient, settings.lr, settings.momentum)
