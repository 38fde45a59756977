"""The scalar curvature of the loss surface, seen as a graph over the space of weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from hesstore.linalg import Moments


class Estimate(NamedTuple):
    """A value, and half the width of its 95 % interval."""

    value: float
    error: float


def scalar_curvature(moments: Moments, slope: Tensor, product: Tensor, shift: float = 0.0) -> Estimate:
    """The scalar curvature R of the graph (θ, L(θ)), in the metric of the surrounding space.

    R = β((tr H)² − tr H²) + 2β² ∇ᵀ(H² − tr(H) H)∇ with β = 1/(1 + ‖∇‖²), where ∇ is the gradient and H = A + s I the
    Hessian of L.

    Parameters
    ----------
    moments : Moments
        Estimates of tr A and tr A², with A (P × P), and the samples that they come from.
    slope, product : Tensor
        (P,) ∇ and A ∇.
    shift : float
        s, which is 2cλ if A is the Hessian of the mean loss and L includes the penalty cλ‖θ‖².

    Notes
    -----
    R is quadratic in tr H, so the variance of the estimate of tr H is subtracted from its square. The error is that of
    R linearised in the two traces, whose samples are correlated, plus β times the square of the error of tr H.
    """
    g = slope.to(torch.float64)
    h = product.to(torch.float64) + shift * g
    length, along, squared = torch.stack([g @ g, g @ h, h @ h]).tolist()
    beta = 1 / (1 + length)
    trace = moments.trace + shift * moments.size
    trace_of_square = moments.square + 2 * shift * moments.trace + shift**2 * moments.size
    value = beta * (trace**2 - moments.trace_variance - trace_of_square) + 2 * beta**2 * (squared - trace * along)
    by_trace = beta * (2 * trace - 2 * shift) - 2 * beta**2 * along
    return Estimate(value, moments.error_of(by_trace, -beta) + beta * moments.trace_error**2)
