"""How classes respond when the weights move along a direction until the training loss has risen by a given amount."""

from __future__ import annotations

from dataclasses import dataclass
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
    """Steps along ±v, each (m, 2) float64: their lengths ε, and the rise of the loss by its quadratic model."""

    length: Tensor
    predicted: Tensor


def steps(slope: Tensor, curvature: Tensor, rise: float, longest: float) -> Steps:
    """The shortest steps ε along −v and +v at which the quadratic model of the loss has risen by ``rise``.

    ±ε v·∇E + ½ ε² vᵀHv = rise, but at most ``longest``: along a flat direction, or one in which the model never rises
    so far, ε is that.

    Parameters
    ----------
    slope, curvature : Tensor
        (m,) float64: v·∇E and vᵀHv.
    rise : float
        Above 0.
    """
    s = slope[:, None] * torch.tensor(SIGNS, dtype=slope.dtype, device=slope.device)
    mu = curvature[:, None]
    root = (s.square() + 2 * mu * rise).sqrt()  # NaN where the model never gets there
    rising = 2 * rise / (s + root)
    falling = (root - s) / mu  # the same, without cancellation where s < 0; it needs mu > 0
    length = torch.where(s >= 0, rising, torch.where(mu > 0, falling, torch.nan))
    length = torch.where(length.isfinite(), length, longest).clamp_max(longest)
    length = torch.where((s + mu).isfinite(), length, torch.nan)  # no direction, no step
    return Steps(length, s * length + 0.5 * mu * length.square())


class Response(NamedTuple):
    """What steps do, beside no step.

    Attributes
    ----------
    accuracy : Tensor
        (m, 2, C) change of the accuracy of each class on the test rows.
    rise : Tensor
        (m, 2) change of the mean loss over the training rows, nat.
    """

    accuracy: Tensor
    rise: Tensor


@dataclass(frozen=True)
class Responder:
    """Measures responses.

    Parameters
    ----------
    model : FlatModel
        The network.
    train, test : (Tensor, Tensor)
        Inputs and labels.
    num_classes : int
        C.
    chunk_rows : int
        Most rows that pass through the network at once.
    """

    model: FlatModel
    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    num_classes: int
    chunk_rows: int

    @torch.no_grad()
    def respond(self, theta: Tensor, directions: Tensor, lengths: Tensor) -> Response:
        """The response at ``theta`` (P,) to steps of ``lengths`` (m, 2) along the rows of ∓ ``directions`` (m, P)."""
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
        there = lengths.isfinite()[..., None]  # NaN logits have a largest entry too
        return Response(torch.where(there, changes, torch.nan), torch.stack(rise).reshape(shape))

    def _loss(self, theta: Tensor) -> Tensor:
        """E over the training rows, float64."""
        total = torch.zeros((), dtype=torch.float64, device=theta.device)
        for program, inputs, labels in self._train_chunks:
            losses = nn.functional.cross_entropy(program.value(theta, *inputs), labels, reduction="none")
            total += losses.sum(dtype=torch.float64)
        return total / len(self.train[1])

    def _hits(self, theta: Tensor) -> Tensor:
        """(C,) test rows of each class that are predicted as it, float64."""
        total = torch.zeros(self.num_classes, dtype=torch.float64, device=theta.device)
        for program, inputs, labels in self._test_chunks:
            right = program.value(theta, *inputs).argmax(1) == labels
            total += right.to(torch.float64) @ nn.functional.one_hot(labels, self.num_classes).to(torch.float64)
        return total

    @cached_property
    def _programs(self) -> dict[int, ValueProgram]:
        return {}

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
