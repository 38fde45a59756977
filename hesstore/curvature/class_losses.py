"""The effect of single directions on single classes: derivatives of each class's mean loss, and accuracies after steps.

E_c is the mean cross-entropy over the rows of class c. Let z be the logits of a row with label y, z′ and z″ their first
and second derivatives along v, and p = softmax(z). Then the loss of the row has the derivatives

    ℓ′ = Σⱼ pⱼ z′ⱼ − z′_y        ℓ″ = Σⱼ pⱼ z″ⱼ − z″_y + Σⱼ pⱼ z′ⱼ² − (Σⱼ pⱼ z′ⱼ)²

and v·∇E_c and vᵀH_c v are their means over the class. With π_c the share of the class among the rows,
Σ_c π_c vᵀH_c v = vᵀH v.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import torch

from hesstore.autodiff import trace_line
from hesstore.curvature.hessian import gradient
from hesstore.curvature.row_chunks import split_into_chunks

if TYPE_CHECKING:
    from torch import Tensor

    from hesstore.autodiff import LineProgram
    from hesstore.problem.models import FlatModel


class Derivatives(NamedTuple):
    """The first and second derivatives of each class's mean loss along m directions, (m, C) each, in float64.

    They are NaN for a class without rows.
    """

    slope: Tensor
    curvature: Tensor


@dataclass(frozen=True)
class ClassLosses:
    """The mean loss and the accuracy of each class of a data set, as functions of θ.

    Parameters
    ----------
    model : FlatModel
        The network, which must be twice differentiable.
    x, y : Tensor
        Inputs (N, …) and labels (N,).
    num_classes : int
        C, the number of classes.
    chunk_rows : int
        Maximum number of rows in a chunk.
    programs : dict
        The traced program for each number of rows; pass the same dict to share programs between data sets of one model.

    Examples
    --------
    >>> import torch
    >>> from hesstore.problem.models import build
    >>> model = build("mlp", (3,), (4,), 2, seed=0)
    >>> losses = ClassLosses(model, torch.randn(10, 4), torch.arange(10) % 2, 2)
    >>> losses.along(model.theta(), torch.randn(5, model.layout.size)).curvature.shape
    torch.Size([5, 2])
    """

    model: FlatModel
    x: Tensor
    y: Tensor
    num_classes: int
    chunk_rows: int = 2048
    programs: dict[int, LineProgram] = field(default_factory=dict)

    @cached_property
    def counts(self) -> Tensor:
        """(C,) the number of rows of each class, in float64."""
        return torch.bincount(self.y, minlength=self.num_classes).to(torch.float64)

    @property
    def shares(self) -> Tensor:
        """(C,) π_c, the share of each class among the rows."""
        return self.counts / len(self.y)

    def along(self, theta: Tensor, directions: Tensor) -> Derivatives:
        """The derivatives at ``theta`` (P,) along each row of ``directions`` (m, P)."""
        return self.along_with_accuracies(theta, directions, directions.new_empty(len(directions), 0))[0]

    @torch.no_grad()
    def along_with_accuracies(self, theta: Tensor, directions: Tensor, steps: Tensor) -> tuple[Derivatives, Tensor]:
        """The derivatives along directions, and the changes of the class accuracies after steps.

        Parameters
        ----------
        theta : Tensor
            (P,) the weights.
        directions : Tensor
            (m, P) the directions v.
        steps : Tensor
            (m, s) the signed lengths t of the steps from θ to θ + t v.

        Returns
        -------
        Derivatives
            The derivatives at ``theta``.
        Tensor
            (m, s, C) the changes, in float64; NaN for a class without rows, and where the step is NaN.
        """
        lengths = steps.tolist()
        taken = [[place for place, t in enumerate(each) if math.isfinite(t)] for each in lengths]
        sums, start = (
            torch.zeros(*shape, self.num_classes, dtype=torch.float64, device=theta.device)
            for shape in ((len(directions), 2 + steps.shape[1]), (1,))
        )
        for program, inputs, labels in self.chunks:
            lines = program.through(theta, inputs, labels)
            membership = torch.nn.functional.one_hot(labels, self.num_classes).to(torch.float64)
            start += row_hits(lines.value(), labels).to(torch.float64) @ membership
            for index, v in enumerate(directions):
                line = lines.along(v)
                hits = [row_hits(line.value(lengths[index][place]), labels) for place in taken[index]]
                rows = torch.stack([*lines.derivatives(line)[0], *hits])
                sums[index, [0, 1, *(2 + place for place in taken[index])]] += rows.to(torch.float64) @ membership
        derivatives = sums[:, :2] / self.counts  # 0/0 is NaN
        changes = (sums[:, 2:] - start) / self.counts
        changes = torch.where(steps.isfinite()[..., None], changes, torch.nan)
        return Derivatives(*derivatives.unbind(1)), changes

    @cached_property
    def chunks(self) -> list[tuple[LineProgram, tuple[Tensor, ...], Tensor]]:
        """The rows in chunks: (program, its inputs, labels) of each; :func:`split_into_chunks` orders the rows."""
        theta = self.model.theta().to(self.x)
        return split_into_chunks(
            lambda x, y: trace_line(self.model.logits, _loss_derivatives, theta, x, y),
            self.x,
            self.y,
            self.chunk_rows,
            self.programs,
        )

    def gradients(self, theta: Tensor) -> Tensor:
        """(C, P) the gradients ∇E_c at ``theta`` (P,), one row for each class; NaN for a class without rows."""
        rows = theta.new_full((self.num_classes, len(theta)), torch.nan)
        for label in self.counts.nonzero()[:, 0].tolist():
            chosen = self.y == label
            rows[label] = gradient(self.model, theta, self.x[chosen], self.y[chosen], self.chunk_rows)
        return rows


def _loss_derivatives(logits: Tensor, slope: Tensor, curvature: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """(2, n) the derivatives ℓ′ and ℓ″ of each row, and (C, n) z′, from the logits (n, C) and their derivatives."""
    # Sums over a first axis are several times as fast as those over a short last axis.
    p, first = torch.softmax(logits.t().contiguous(), 0), slope.t().contiguous()
    label = y[None]
    gradient = (p - torch.zeros_like(p).scatter(0, label, 1.0)).t().contiguous()
    mean = (p * first).sum(0)
    # Σ pⱼ (z′ⱼ − mean)² rather than a difference of two sums, which would cancel.
    spread = (p * (first - mean).square()).sum(0)
    return torch.stack([mean - first.gather(0, label)[0], (gradient * curvature).sum(1) + spread]), first


def row_losses(logits: Tensor, y: Tensor) -> Tensor:
    """(n,) the cross-entropy of each row, in nat."""
    log_p = torch.log_softmax(logits.t(), 0).t()  # several times as fast as along the last axis
    return torch.nn.functional.nll_loss(log_p, y, reduction="none")


def row_hits(logits: Tensor, y: Tensor) -> Tensor:
    """(n,) 1 for each row that is classified correctly, and 0 for the others."""
    return (logits.argmax(1) == y).to(logits.dtype)
