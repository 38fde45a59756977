"""The effect of single directions on single classes: slopes, curvatures and gradients of each class's mean loss.

E_c is the mean cross-entropy over the rows of class c. Let z be the logits of a row with label y, z′ and z″ their first
and second derivatives along v, and p = softmax(z). Then the loss of the row has the derivatives

    ℓ′ = Σⱼ pⱼ z′ⱼ − z′_y        ℓ″ = Σⱼ pⱼ z″ⱼ − z″_y + Σⱼ pⱼ z′ⱼ² − (Σⱼ pⱼ z′ⱼ)²

and v·∇E_c and vᵀH_c v are their means over the class. With π_c the share of the class among the rows,
Σ_c π_c vᵀH_c v = vᵀH v.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import torch

from hesstore.autodiff import trace_second_order
from hesstore.curvature.hessian import gradient
from hesstore.curvature.row_chunks import split_into_chunks

if TYPE_CHECKING:
    from torch import Tensor

    from hesstore.autodiff import TangentProgram
    from hesstore.problem.models import FlatModel


class Derivatives(NamedTuple):
    """The first and second derivatives of each class's mean loss along m directions, (m, C) each, in float64.

    They are NaN for a class without rows.
    """

    slope: Tensor
    curvature: Tensor


@dataclass(frozen=True)
class ClassLosses:
    """The mean loss of each class of a data set, as a function of θ.

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
    programs: dict[int, TangentProgram] = field(default_factory=dict)

    @cached_property
    def counts(self) -> Tensor:
        """(C,) the number of rows of each class, in float64."""
        return torch.bincount(self.y, minlength=self.num_classes).to(torch.float64)

    @property
    def shares(self) -> Tensor:
        """(C,) π_c, the share of each class among the rows."""
        return self.counts / len(self.y)

    @torch.no_grad()
    def along(self, theta: Tensor, directions: Tensor) -> Derivatives:
        """The derivatives at ``theta`` (P,) along each row of ``directions`` (m, P).

        The primal pass is made once for all directions.
        """
        sums = torch.zeros(len(directions), 2, self.num_classes, dtype=torch.float64, device=theta.device)
        for program, inputs, labels in self._chunks:
            primal = program.primal(theta, *inputs, labels)
            membership = torch.nn.functional.one_hot(labels, self.num_classes).to(torch.float64)
            for index, v in enumerate(directions):
                row_derivatives: Tensor = program.tangent(v, *primal)
                sums[index] += row_derivatives.to(torch.float64) @ membership
        means = sums / self.counts  # 0/0 is NaN
        return Derivatives(means[:, 0], means[:, 1])

    @cached_property
    def _chunks(self) -> list[tuple[TangentProgram, tuple[Tensor, ...], Tensor]]:
        theta = self.model.theta().to(self.x)
        return split_into_chunks(
            lambda x, y: trace_second_order(self.model.logits, _loss_derivatives, theta, x, y),
            self.x,
            self.y,
            self.chunk_rows,
            self.programs,
        )

    def gradients(self, theta: Tensor) -> Tensor:
        """(C, P) the gradients ∇E_c at ``theta`` (P,), one row for each class; NaN for a class without rows."""
        rows = [torch.full_like(theta, torch.nan) for _ in range(self.num_classes)]
        for label in self.counts.nonzero()[:, 0].tolist():
            chosen = self.y == label
            rows[label] = gradient(self.model, theta, self.x[chosen], self.y[chosen], self.chunk_rows)
        return torch.stack(rows)


def _loss_derivatives(logits: Tensor, slope: Tensor, curvature: Tensor, y: Tensor) -> Tensor:
    """(2, n) the derivatives ℓ′ and ℓ″ of each row, from the logits (n, C) and their derivatives."""
    p = torch.softmax(logits, 1)
    label = y[:, None]
    mean = (p * slope).sum(1)
    first = mean - slope.gather(1, label)[:, 0]
    # Σ pⱼ (z′ⱼ − mean)² rather than a difference of two sums, which would cancel.
    spread = (p * (slope - mean[:, None]).square()).sum(1)
    second = (p * curvature).sum(1) - curvature.gather(1, label)[:, 0] + spread
    return torch.stack([first, second])
