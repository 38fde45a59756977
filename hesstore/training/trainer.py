"""Fitting networks: mini-batches on the device, early stopping, and a copy of the weights that are kept.

Several models can be fitted together, each at its own λ and with its own order of the data; each is a row of θ (G, P).
A step of a single small network leaves most of a GPU idle: on an H200, a step of 64 models takes 2.8 times as long. On
a CPU, one model at a time is the fastest way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from hesstore.autodiff import trace_gradient
from hesstore.errors import DivergedError
from hesstore.linalg.aligned_rows import row_length
from hesstore.linalg.long_sums import lengths
from hesstore.linalg.transfers import to_device
from hesstore.training.cuda_graph import graph_or_eager
from hesstore.training.optimizers import GPU_PIECES, SGD, Adam, Optimizer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from hesstore.problem.models import FlatModel


STEPS_PER_GRAPH = 8
"""Number of training steps that a GPU takes for each launch of the host."""

GATHERED_BYTES = 2**26
"""Up to so many bytes of inputs, one kernel gathers the rows of several steps."""


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """The settings of a fit.

    Parameters
    ----------
    optimizer : str
        ``adam`` or ``sgd``.
    lr, momentum : float
        Learning rate; momentum, for ``sgd``.
    batch_size, epochs, patience : int
        Rows in a step; maximum number of epochs; epochs without a lower epoch loss after which training stops.
    stop_on : str
        What the epoch loss is: ``error`` (the loss E alone) or ``objective`` (with the penalty).
    keep : str
        Which weights are the result: those of the ``last`` epoch, or of the ``best``, with the lowest epoch loss.
    penalty_scale : float
        c of the penalty c·λ‖θ − θ_ref‖².
    """

    optimizer: str
    lr: float
    momentum: float
    batch_size: int
    epochs: int
    patience: int
    stop_on: str
    keep: str
    penalty_scale: float


@dataclass(frozen=True)
class Fit:
    """The result of a fit.

    Attributes
    ----------
    theta : Tensor
        (P,) The weights at the end of the last or of the best epoch.
    loss : float
        The lowest epoch loss: the mean of an epoch's mini-batch losses, weighted by batch size.
    epochs : int
        Number of epochs trained.
    """

    theta: Tensor
    loss: float
    epochs: int


class Trainer:
    """A trainer that fits up to G models together.

    Each fit minimises E(θ) + c·λ‖θ − θ_ref‖² from given weights, with a fresh optimiser. The penalty acts as coupled
    weight decay 2cλ towards θ_ref. The host waits for the device only at the end of an epoch.

    Parameters
    ----------
    model : FlatModel
        The network.
    x, y : Tensor
        Training inputs and labels, on the device.
    settings : FitSettings
        The settings of each fit.
    copies : int
        G. Fewer models can be fitted, at the cost of G.
    center : Tensor, optional
        (P,) θ_ref, 0 by default, on the device.
    """

    def __init__(
        self,
        model: FlatModel,
        x: Tensor,
        y: Tensor,
        settings: FitSettings,
        *,
        copies: int = 1,
        center: Tensor | None = None,
    ) -> None:
        self.model, self.x, self.y, self.settings, self.copies, self.center = model, x, y, settings, copies, center
        theta = model.theta()
        length = row_length(len(theta)) if copies > 1 else len(theta)
        whole_theta, whole_gradient = (theta.new_zeros(copies, length) for _ in range(2))
        self._theta, self._gradient = whole_theta[:, : len(theta)], whole_gradient[:, : len(theta)]
        self._theta[:] = theta
        self._l2 = torch.zeros(copies, 1, dtype=x.dtype, device=x.device)
        self._total = torch.zeros(copies, dtype=torch.float64, device=x.device)
        self._optimizer = _make_optimizer(whole_theta, whole_gradient, settings)
        self._together = STEPS_PER_GRAPH if x.is_cuda and len(y) >= STEPS_PER_GRAPH * settings.batch_size else 1
        self._steps: dict[tuple[int, int], Callable[[Tensor], None]] = {}  # by number of steps and size of the batch

    @torch.no_grad()
    def fit(
        self,
        starts: Sequence[Tensor],
        l2: Sequence[float],
        rngs: Sequence[torch.Generator],
        on_epoch: Callable[[int, int, float], None] | None = None,
    ) -> list[Fit | DivergedError]:
        """Fit models and return the results, in the order of ``starts``.

        Parameters
        ----------
        starts : sequence of Tensor
            (P,) The initial weights of each of at most G models; they are not changed.
        l2 : sequence of float
            λ of each model.
        rngs : sequence of Generator
            CPU generator of each model's permutations of the data.
        on_epoch : callable, optional
            Called with (index of the model, epoch from 1, epoch loss) for each model that is still training.

        Returns
        -------
        list
            The fit of each model, or a :class:`~hesstore.errors.DivergedError` if the loss of an epoch was NaN or
            infinite.

        Raises
        ------
        ValueError
            If there are no starts or more than G, or if the numbers of λ and generators differ from theirs.
        """
        if not 1 <= len(starts) <= self.copies or not len(starts) == len(l2) == len(rngs):
            raise ValueError(
                f"starts: {len(starts)} starts, {len(l2)} λ and {len(rngs)} generators: pass the same number of each, "
                f"1 to {self.copies}"
            )
        self._prepare(starts, l2)
        fits = [_EarlyStopping(value, self.settings.patience) for value in l2]
        kept = self._theta.clone()
        order = self._draw_permutations(rngs)
        for epoch in range(1, self.settings.epochs + 1):
            self._train_epoch(order)
            order = self._draw_permutations(rngs)  # of the next epoch, while the device is busy with this one
            losses = (self._total / len(self.y)).tolist()
            training = [index for index, fit in enumerate(fits) if not fit.finished]
            for index in training:
                if on_epoch is not None and math.isfinite(losses[index]):
                    on_epoch(index, epoch, losses[index])
            for index in training:
                better = fits[index].update(epoch, losses[index])
                if better or self.settings.keep == "last":
                    kept[index].copy_(self._theta[index])
            if all(fit.finished for fit in fits):
                break
        return [
            fit.failure or Fit(theta.clone(), fit.loss, fit.epochs)
            for fit, theta in zip(fits, kept, strict=False)  # rows of idle copies are left out
        ]

    @torch.no_grad()
    def take_steps(self, count: int) -> None:
        """Take ``count`` training steps and wait until they are done, so that a caller can time them.

        This does not affect any fit: each starts from its own weights and optimiser state.
        """
        self._prepare([self.model.theta().to(self._theta)], [0.0], whole_epochs=False)
        rows = torch.arange(self._batch_size, device=self.x.device)
        self._take_steps(rows.repeat(self.copies, count))
        self._total.tolist()

    @property
    def _batch_size(self) -> int:
        """The number of rows in all steps of an epoch but, perhaps, the last."""
        return min(self.settings.batch_size, len(self.y))

    def _prepare(self, starts: Sequence[Tensor], l2: Sequence[float], *, whole_epochs: bool = True) -> None:
        """Make the steps that are missing, and set the weights, λ and optimiser state with which fits start.

        The last step of ``whole_epochs`` may have fewer rows than the others.
        """
        size = self._batch_size
        rest = len(self.y) % size if whole_epochs else 0
        for key in {(self._together, size), (1, size), (1, rest)} - {(1, 0)}:
            if key not in self._steps:  # before the state is set, because recording a CUDA graph takes steps
                self._steps[key] = self._make_steps(*key)
        self._optimizer.reset()
        for copy in range(self.copies):  # idle copies repeat the last model
            index = min(copy, len(starts) - 1)
            self._theta[copy] = starts[index]
            self._l2[copy] = l2[index]

    def _draw_permutations(self, rngs: Sequence[torch.Generator]) -> Tensor:
        """Draw (G, N) the order of the rows in the next epoch of each model."""
        orders = [torch.randperm(len(self.y), generator=rng) for rng in rngs]
        orders += orders[-1:] * (self.copies - len(orders))
        return to_device(torch.stack(orders), self.x.device)

    def _train_epoch(self, order: Tensor) -> None:
        """Take the steps of one epoch, and sum the losses in ``_total``."""
        self._total.zero_()
        self._take_steps(order)
        # No loss includes the weights after the last step yet. This makes the total NaN if they are not finite.
        self._total.add_(torch.linalg.vector_norm(self._theta, dim=1), alpha=0)

    def _take_steps(self, order: Tensor) -> None:
        """Take the steps for the rows ``order`` (G, M) of each model: as many together as possible."""
        size, start = self._batch_size, 0
        while (left := order.shape[1] - start) > 0:
            count = self._together if left >= self._together * size else 1
            end = start + min(count * size, left)
            batches = order[:, start:end].view(self.copies, count, -1).transpose(0, 1)
            self._steps[count, batches.shape[2]](batches)
            start = end

    def _make_steps(self, count: int, size: int) -> Callable[[Tensor], None]:
        """Return the function that takes ``count`` steps with batches (count, G, size), as a CUDA graph on a GPU."""
        return self._make_graphed_steps(count, size) if self.x.is_cuda else self._make_eager_steps(size)

    def _make_graphed_steps(self, count: int, size: int) -> Callable[[Tensor], None]:
        """Return the same as a CUDA graph if the steps can be recorded."""
        rows = torch.arange(count * self.copies * size, device=self.x.device).remainder_(len(self.y))
        trial = rows.view(count, self.copies, size)
        state = [self._theta, self._gradient, self._total, *self._optimizer.state]
        return graph_or_eager(self._make_eager_steps(size), torch.zeros_like(trial), trial, state)

    def _make_eager_steps(self, size: int) -> Callable[[Tensor], None]:
        """Return the same as a function that launches each kernel, for any number of steps."""
        step, shape = self._make_step(size), (self.copies, size)
        together = max(1, GATHERED_BYTES // (self.copies * size * self.x[0].nbytes))

        def steps(batches: Tensor) -> None:
            for first in range(0, len(batches), together):
                rows = batches[first : first + together].reshape(-1)
                x = self.x.index_select(0, rows).view(-1, *shape, *self.x.shape[1:])
                y = self.y.index_select(0, rows).view(-1, *shape)
                losses = [step(*batch) for batch in zip(x.unbind(), y.unbind(), strict=True)]
                loss = losses[0] if len(losses) == 1 else torch.stack(losses).sum(0, dtype=torch.float64)
                self._total.add_(loss, alpha=size)

        return steps

    def _make_step(self, size: int) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the step for ``size`` rows of each model: inputs (G, size, …), labels (G, size) ↦ losses (G,)."""
        loss_and_gradient = self._bind_gradient(size)
        scale = self.settings.penalty_scale
        includes_penalty = self.settings.stop_on == "objective"

        def step(x: Tensor, y: Tensor) -> Tensor:
            loss = loss_and_gradient(x, y)
            displacement = self._theta if self.center is None else self._theta - self.center
            if includes_penalty:
                squares = lengths(displacement).square_()
                loss = torch.addcmul(loss, squares, self._l2[:, 0], value=scale)
            self._gradient.addcmul_(displacement, self._l2, value=2 * scale)
            self._optimizer.step()
            return loss

        return step

    def _bind_gradient(self, size: int) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the function from one batch (x, y) of each model to the losses (G,).

        Each call writes the gradients to ``_gradient``.
        """
        logits, label_loss = self.model.logits, self.model.label_loss

        def loss(theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
            return label_loss.mean_of(logits(theta, x), y)

        def losses(theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
            # Not by vmap of ``loss``, because the batching rule of nll_loss takes 17 small kernels more.
            rows = torch.func.vmap(logits)(theta, x).flatten(0, 1)
            return label_loss.rows(rows, y.flatten()).view(y.shape).mean(1)

        theta, x, y = self._theta, self.x[:size], self.y[:size]
        if self.copies > 1:
            many = (self.copies, *[-1] * x.dim())
            return trace_gradient(losses, theta, x.expand(many), y.repeat(self.copies, 1)).bind(theta, self._gradient)
        alone = trace_gradient(loss, theta[0], x, y).bind(theta[0], self._gradient[0])
        return lambda x, y: alone(x[0], y[0])


@dataclass
class _EarlyStopping:
    """The losses of one model so far, and whether its fit has ended."""

    l2: float
    patience: int
    loss: float = math.inf
    epochs: int = 0
    stale: int = 0
    failure: DivergedError | None = None

    @property
    def finished(self) -> bool:
        """Whether the fit has diverged or run out of patience."""
        return self.failure is not None or self.stale == self.patience

    def update(self, epoch: int, loss: float) -> bool:
        """Take the loss of an epoch into account, and return whether it is the lowest so far."""
        self.epochs = epoch
        if not math.isfinite(loss):
            self.failure = DivergedError(f"the training loss became {loss} in epoch {epoch} at λ = {self.l2:.10g}")
            return False
        better = loss < self.loss
        self.loss = min(loss, self.loss)
        self.stale = 0 if better else self.stale + 1
        return better


def _make_optimizer(theta: Tensor, gradient: Tensor, settings: FitSettings) -> Optimizer:
    if settings.optimizer == "adam":
        return Adam(theta, gradient, settings.lr, pieces=GPU_PIECES if theta.is_cuda else 1)
    return SGD(theta, gradient, settings.lr, settings.momentum)
