"""The class response: how class accuracies change when the weights move along a direction.

The length of each step is chosen so that the training loss rises by a given amount, according to its quadratic model.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn

from hesstore.autodiff import trace_value
from hesstore.curvature.row_chunks import split_into_chunks
from hesstore.store.schema import SIGNS

if TYPE_CHECKING:
    from torch import Tensor

    from hesstore.autodiff import ValueProgram
    from hesstore.problem.models import FlatModel


class Steps(NamedTuple):
    """Steps along −v and +v of m directions.

    Attributes
    ----------
    length : Tensor
        (m, 2) float64: the lengths ε.
    predicted : Tensor
        (m, 2) float64: the rise of the loss according to its quadratic model, nat.
    """

    length: Tensor
    predicted: Tensor


def choose_steps(slope: Tensor, curvature: Tensor, rise: float, longest: float) -> Steps:
    """Choose the shortest steps ε along −v and +v at which the quadratic model of the loss has risen by ``rise``.

    The steps solve ±ε v·∇E + ½ ε² vᵀHv = rise. They are at most ``longest``, also along a flat direction and where the
    model never rises by so much.

    Parameters
    ----------
    slope, curvature : Tensor
        (m,) float64: v·∇E and vᵀHv. If one is NaN, the step is NaN.
    rise : float
        The rise of the loss in nats, above 0.
    longest : float
        The maximum length of a step.
    """
    s = slope[:, None] * torch.tensor(SIGNS, dtype=slope.dtype, device=slope.device)
    mu = curvature[:, None]
    root = (s.square() + 2 * mu * rise).sqrt()  # NaN where the model never rises by so much
    rising = 2 * rise / (s + root)
    falling = (root - s) / mu  # the same root, without cancellation if s < 0; it requires mu > 0
    length = torch.where(s >= 0, rising, torch.where(mu > 0, falling, torch.nan))
    length = torch.where(length.isfinite(), length, longest).clamp_max(longest)
    length = torch.where((s + mu).isfinite(), length, torch.nan)  # such as for an eigenpair that was not found
    return Steps(length, s * length + 0.5 * mu * length.square())


class Response(NamedTuple):
    """The effect of steps, compared with no step.

    Attributes
    ----------
    accuracy : Tensor
        (m, 2, C) the change of the accuracy of each class on the test rows.
    rise : Tensor
        (m, 2) the change of the mean loss over the training rows, nat.
    """

    accuracy: Tensor
    rise: Tensor


@dataclass(frozen=True)
class Responder:
    """Measures class responses.

    Parameters
    ----------
    model : FlatModel
        The network.
    train, test : (Tensor, Tensor)
        Inputs and labels of each split.
    num_classes : int
        C, the number of classes.
    chunk_rows : int
        Maximum number of rows per pass through the network.
    """

    model: FlatModel
    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    num_classes: int
    chunk_rows: int
    _programs: dict[int, ValueProgram] = field(default_factory=dict, init=False, repr=False, compare=False)

    @torch.no_grad()
    def respond(self, theta: Tensor, directions: Tensor, lengths: Tensor) -> Response:
        """Measure the responses at ``theta`` (P,) to steps along − and + each row of ``directions`` (m, P).

        ``lengths`` (m, 2) has the lengths of the steps. Where a length is NaN, the response is NaN.
        """
        loss, hits = self._loss(theta), self._hits(theta)
        counts = torch.bincount(self.test[1], minlength=self.num_classes)
        accuracy, rise = [], []
        for v, pair in zip(directions, lengths, strict=True):
            for sign, length in zip(SIGNS, pair, strict=True):
                moved = torch.addcmul(theta, v, (sign * length).to(theta.dtype))
                rise.append(self._loss(moved) - loss)
                accuracy.append((self._hits(moved) - hits) / counts)
        shape = (len(directions), len(SIGNS))
        changes = torch.stack(accuracy).reshape(*shape, self.num_classes)
        taken = lengths.isfinite()[..., None]  # needed because argmax returns a class for NaN logits too
        return Response(torch.where(taken, changes, torch.nan), torch.stack(rise).reshape(shape))

    def _loss(self, theta: Tensor) -> Tensor:
        """E over the training rows, float64."""
        total = torch.zeros((), dtype=torch.float64, device=theta.device)
        for program, inputs, labels in self._train_chunks:
            losses = nn.functional.cross_entropy(program.value(theta, *inputs), labels, reduction="none")
            total += losses.sum(dtype=torch.float64)
        return total / len(self.train[1])

    def _hits(self, theta: Tensor) -> Tensor:
        """(C,) the number of test rows of each class that are classified correctly, float64."""
        total = torch.zeros(self.num_classes, dtype=torch.float64, device=theta.device)
        for program, inputs, labels in self._test_chunks:
            correct = program.value(theta, *inputs).argmax(1) == labels
            total += correct.to(torch.float64) @ nn.functional.one_hot(labels, self.num_classes).to(torch.float64)
        return total

    @cached_property
    def _train_chunks(self) -> list[tuple[ValueProgram, tuple[Tensor, ...], Tensor]]:
        return self._chunks(*self.train)

    @cached_property
    def _test_chunks(self) -> list[tuple[ValueProgram, tuple[Tensor, ...], Tensor]]:
        return self._chunks(*self.test)

    def _chunks(self, x: Tensor, y: Tensor) -> list[tuple[ValueProgram, tuple[Tensor, ...], Tensor]]:
        theta = self.model.theta().to(x)
        return split_into_chunks(
            lambda rows, _: trace_value(self.model.logits, theta, rows), x, y, self.chunk_rows, self._programs
        )
