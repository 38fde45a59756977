"""The losses of rows as functions of their outputs: values, derivatives along lines, and means with linearised outputs.

Let z be the outputs of a row with label y, z′ and z″ their first and second derivatives along v. For the cross-entropy,
with p = softmax(z),

    ℓ′ = Σⱼ pⱼ z′ⱼ − z′_y        ℓ″ = Σⱼ pⱼ z″ⱼ − z″_y + Σⱼ pⱼ z′ⱼ² − (Σⱼ pⱼ z′ⱼ)²

and for the squared error, with C outputs and the one-hot row e_y,

    ℓ′ = (2/C) (z − e_y)·z′      ℓ″ = (2/C) [(z − e_y)·z″ + ‖z′‖²]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch

from hesstore.problem.losses import LabelSquaredError, one_hot

if TYPE_CHECKING:
    from torch import Tensor

    from hesstore.problem.losses import Loss


class LinearisedLoss(Protocol):
    """The mean loss of rows whose outputs are z + t z′."""

    def loss(self, index: Tensor) -> Tensor:
        """Return the mean loss at t = 0, float64, for the directions with the indices ``index`` (n,)."""
        ...

    def rises(self, index: Tensor, t: Tensor) -> Tensor:
        """Return (n,) its rise, float64, for the directions with the indices ``index`` (n,) and their t (n,)."""
        ...


class RowLosses(Protocol):
    """The loss of each row, for outputs and labels (n,)."""

    def values(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Return (…, n) the losses, from the outputs (…, n, C)."""
        ...

    def derivatives(self, outputs: Tensor, slope: Tensor, curvature: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return (2, n) ℓ′ and ℓ″, and (C, n) z′, from the outputs (n, C) and their derivatives."""
        ...

    def gauss_newton(self, outputs: Tensor, slope: Tensor) -> Tensor:
        """Return the terms of z′ᵀ(∂²ℓ/∂z∂z)z′, whose sum over rows and outputs is that of vᵀGv; (n, C) each."""
        ...

    def linearised(
        self, outputs: Tensor, slopes: Tensor, y: Tensor, together: int, point: Tensor | None
    ) -> LinearisedLoss:
        """Return the mean loss with linearised outputs.

        Parameters
        ----------
        outputs, slopes : Tensor
            (C, N) the outputs, or (G, C, N) those at several points; (m, C, N) their derivatives along each direction.
        y : Tensor
            (N,) the labels.
        together : int
            Maximum number of lines in a pass.
        point : Tensor or None
            (m,) the index of the point of each direction, if there are several.
        """
        ...


def row_losses(loss: Loss) -> RowLosses:
    """The losses of rows for the loss of a network: the squared error, or else the cross-entropy."""
    return SquaredErrorRows() if isinstance(loss, LabelSquaredError) else CrossEntropyRows()


class CrossEntropyRows:
    """The cross-entropy of each row, in nat."""

    def values(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Return the losses."""
        log_p = torch.log_softmax(outputs.mT, -2)  # several times as fast as along the last axis
        return -log_p.gather(-2, y.expand(*outputs.shape[:-2], 1, len(y))).squeeze(-2)

    def derivatives(self, outputs: Tensor, slope: Tensor, curvature: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return ℓ′ and ℓ″, and z′."""
        # Sums over a first axis are several times as fast as those over a short last axis.
        p, first = torch.softmax(outputs.t().contiguous(), 0), slope.t().contiguous()
        label = y[None]
        gradient = (p - torch.zeros_like(p).scatter(0, label, 1.0)).t().contiguous()
        mean = (p * first).sum(0)
        # Σ pⱼ (z′ⱼ − mean)² rather than a difference of two sums, which would cancel.
        spread = (p * (first - mean).square()).sum(0)
        return torch.stack([mean - first.gather(0, label)[0], (gradient * curvature).sum(1) + spread]), first

    def gauss_newton(self, outputs: Tensor, slope: Tensor) -> Tensor:
        """Return pⱼ (z′ⱼ − Σ p z′)²."""
        p = torch.softmax(outputs, 1)
        return p * (slope - (p * slope).sum(1, keepdim=True)).square()

    def linearised(
        self, outputs: Tensor, slopes: Tensor, y: Tensor, together: int, point: Tensor | None
    ) -> LinearisedLoss:
        """Return the mean loss with linearised outputs."""
        return _LinearisedCrossEntropy(outputs, slopes, y, together, point)


class _LinearisedCrossEntropy:
    """The mean cross-entropy with linearised logits."""

    def __init__(self, logits: Tensor, slopes: Tensor, y: Tensor, together: int, point: Tensor | None) -> None:
        self._logits, self._slopes, self._together, self._point = logits, slopes, together, point
        self._label_slopes = _mean(_of_labels(slopes, y))
        self._normaliser = _mean(logits.logsumexp(-2))
        self._loss = self._normaliser - _mean(_of_labels(logits, y))

    def loss(self, index: Tensor) -> Tensor:
        """Return the losses."""
        return _at(self._loss, self._point, index)

    def rises(self, index: Tensor, t: Tensor) -> Tensor:
        """Return the rises."""
        means = []
        parts = zip(torch.split(index, self._together), torch.split(t.to(self._logits), self._together), strict=True)
        for some, lengths in parts:
            start = _at(self._logits, self._point, some)
            logits = torch.addcmul(start, self._slopes[some], lengths[:, None, None])
            means.append(_mean(logits.logsumexp(1)))
        normaliser = _at(self._normaliser, self._point, index)
        return torch.cat(means) - normaliser - t * self._label_slopes[index]


class SquaredErrorRows:
    """The squared error of each row: (1/C) ‖z − e_y‖²."""

    def values(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Return the losses."""
        return (outputs - one_hot(outputs, y)).square().mean(-1)

    def derivatives(self, outputs: Tensor, slope: Tensor, curvature: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return ℓ′ and ℓ″, and z′."""
        error = outputs - one_hot(outputs, y)
        second = error * curvature + slope.square()
        return torch.stack([2 * (error * slope).mean(1), 2 * second.mean(1)]), slope.t().contiguous()

    def gauss_newton(self, outputs: Tensor, slope: Tensor) -> Tensor:
        """Return (2/C) z′ⱼ²."""
        return slope.square() * (2 / outputs.shape[1])

    def linearised(
        self,
        outputs: Tensor,
        slopes: Tensor,
        y: Tensor,
        together: int,  # noqa: ARG002
        point: Tensor | None,
    ) -> LinearisedLoss:
        """Return the mean loss with linearised outputs, which is a quadratic function of t."""
        return _LinearisedSquaredError(outputs, slopes, y, point)


class _LinearisedSquaredError:
    """The mean squared error with linearised outputs."""

    def __init__(self, outputs: Tensor, slopes: Tensor, y: Tensor, point: Tensor | None) -> None:
        error = outputs - one_hot(outputs.mT, y).mT
        self._point, self._loss = point, _mean(error.square().mean(-2))
        self._slope = 2 * _mean((error if point is None else error[point]).mul(slopes).mean(1))
        self._half_curvature = _mean(slopes.square().mean(1))

    def loss(self, index: Tensor) -> Tensor:
        """Return the losses."""
        return _at(self._loss, self._point, index)

    def rises(self, index: Tensor, t: Tensor) -> Tensor:
        """Return the rises."""
        return t * (self._slope[index] + t * self._half_curvature[index])


def _mean(values: Tensor) -> Tensor:
    return values.mean(-1, dtype=torch.float64)


def _of_labels(values: Tensor, y: Tensor) -> Tensor:
    """(…, N) of values (…, C, N) those of the labels (N,)."""
    return values.gather(-2, y.expand(*values.shape[:-2], 1, len(y))).squeeze(-2)


def _at(values: Tensor, point: Tensor | None, index: Tensor) -> Tensor:
    """The values of the point of each direction ``index`` (n,), stacked; those of the single point without an axis."""
    return values if point is None else values.index_select(0, point.index_select(0, index))
