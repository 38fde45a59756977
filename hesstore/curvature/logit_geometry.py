"""How the logits change with the weights: gradients of the mean logits, and the Gauss–Newton part of curvatures.

The Hessian of the mean loss is H = G + R. With J the Jacobian (C, P) of a row's logits z, G = mean Jᵀ(∂²ℓ/∂z∂z)J is the
Gauss–Newton matrix, which has no negative eigenvalue, and R has the second derivatives of the logits (Sagun et al.,
arXiv 1706.04454; Papyan, arXiv 1901.08244). For the cross-entropy, ∂²ℓ/∂z∂z = diag p − ppᵀ with p = softmax(z); for the
squared error it is 2/C.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch

from hesstore.curvature.row_losses import row_losses

if TYPE_CHECKING:
    from torch import Tensor

    from hesstore.problem.models import FlatModel


def mean_logit_gradients(model: FlatModel, theta: Tensor, x: Tensor, chunk_rows: int = 2048) -> Tensor:
    """(C, P) the gradients of the mean logits over the rows ``x`` (N, …), minus their mean over the C logits.

    The mean is subtracted because a common shift of all logits changes no probability, so that C − 1 dimensions remain.
    """
    parts = [_summed_logit_gradients(model, theta, rows) for rows in torch.split(x, chunk_rows)]
    gradients = torch.stack(parts).sum(0) / len(x)
    return gradients - gradients.mean(0)


def _summed_logit_gradients(model: FlatModel, theta: Tensor, x: Tensor) -> Tensor:
    """(C, P) the gradients of each logit, summed over the rows, in float64."""
    weights = theta.clone().requires_grad_()
    sums = model.logits(weights, x).sum(0)
    rows = [torch.autograd.grad(each, weights, retain_graph=True)[0] for each in sums]
    return torch.stack(rows).to(torch.float64)


@torch.no_grad()
def gauss_newton_curvatures(
    model: FlatModel, theta: Tensor, x: Tensor, directions: Tensor, chunk_rows: int = 2048
) -> Tensor:
    """(m,) vᵀGv along each row v of ``directions`` (m, P), in float64.

    With z′ the derivative of a row's logits along v, it is the mean of z′ᵀ(∂²ℓ/∂z∂z)z′.
    """
    terms = row_losses(model.loss).gauss_newton
    sums = torch.zeros(len(directions), dtype=torch.float64, device=theta.device)
    for rows in torch.split(x, chunk_rows):
        for index, v in enumerate(directions):
            logits, slope = _logits_along(model, theta, rows, v)
            sums[index] += terms(logits, slope).sum(dtype=torch.float64)
    return sums / len(x)


def _logits_along(model: FlatModel, theta: Tensor, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """The logits (N, C) of the rows and their derivatives along ``v``."""
    with warnings.catch_warnings():  # PyTorch builds its rules for forward mode with its deprecated torch.jit
        warnings.simplefilter("ignore", FutureWarning)
        logits, slope = torch.func.jvp(lambda weights: model.logits(weights, x), (theta,), (v,))[:2]
    return logits, slope


@torch.no_grad()
def mean_loss(model: FlatModel, theta: Tensor, x: Tensor, y: Tensor, chunk_rows: int = 2048) -> float:
    """The mean loss over the rows, summed in float64."""
    values = row_losses(model.loss).values
    pairs = zip(torch.split(x, chunk_rows), torch.split(y, chunk_rows), strict=True)
    sums = [values(model.logits(theta, rows), labels).sum(dtype=torch.float64) for rows, labels in pairs]
    return float(sum(sums)) / len(y)
