"""The loss surface as a graph over the space of weights: its scalar curvature."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from hesstore.linalg import Moments


class Estimate(NamedTuple):
    """A value and its standard error."""

    value: float
    error: float


def scalar_curvature(moments: Moments, slope: Tensor, product: Tensor, shift: float = 0.0) -> Estimate:
    """R of the graph (θ, L(θ)) of L, whose Hessian is A + s I, in the metric of the space around it.

    R = β((tr H)² − tr H²) + 2β² ∇ᵀ(H² − tr(H) H)∇, β = 1/(1 + ‖∇‖²), ∇ and H = A + s I those of L.

    Parameters
    ----------
    moments : Moments
        Of A (P × P): tr A and tr A² with the samples that they come from.
    slope, product : Tensor
        (P,) ∇ and A ∇.
    shift : float
        s: 2cλ, where A is the Hessian of the mean loss and L has the penalty cλ‖θ‖².

    Notes
    -----
    R is quadratic in the estimate of tr H, whose variance is taken from its square; the error is that of R's
    linearisation in the two traces, whose samples are correlated.
    """
    g = slope.to(torch.float64)
    h = product.to(torch.float64) + shift * g
    beta = 1 / (1 + float(g @ g))
    along, squared = float(g @ h), float(h @ h)
    trace = moments.trace + shift * moments.size
    trace_of_square = moments.square + 2 * shift * moments.trace + shift**2 * moments.size
    bias = 0.0 if math.isnan(moments.trace_error) else moments.trace_error**2
    value = beta * (trace**2 - bias - trace_of_square) + 2 * beta**2 * (squared - trace * along)
    by_trace = beta * (2 * trace - 2 * shift) - 2 * beta**2 * along
    return Estimate(value, moments.error_of(by_trace, -beta))
