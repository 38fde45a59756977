"""The spectral density of a symmetric matrix by stochastic Lanczos quadrature.

From a random unit vector q, m steps of Lanczos give T_m, whose eigenvalues θᵢ and squared first eigenvector components
wᵢ are the nodes and weights of a Gauss quadrature for the measure Σⱼ (q·uⱼ)² δ(μ − μⱼ). The mean of this measure over
q is the density (1/P) Σⱼ δ(μ − μⱼ).

Source: Lin, Saad & Yang, *Approximating Spectral Densities of Large Matrices* (arXiv 1308.5467); Ghorbani, Krishnan &
Xiao, *An Investigation into Neural Net Optimization via Hessian Eigenvalue Density* (arXiv 1901.10159).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from hesstore.linalg.operators import SymmetricOperator


class Quadrature(NamedTuple):
    """Nodes μ and weights, both (n,) float64 on the CPU; the weights sum to one."""

    nodes: Tensor
    weights: Tensor


def lanczos_quadrature(
    operator: SymmetricOperator, *, probes: int, steps: int, generator: torch.Generator
) -> Quadrature:
    """A quadrature for the spectrum of ``operator``, from ``probes`` random vectors with ``steps`` products each.

    Raises
    ------
    FloatingPointError
        If a product is NaN or infinite.
    """
    parts = [_gauss(*_tridiagonal(operator, min(steps, operator.size), generator)) for _ in range(probes)]
    nodes, weights = (torch.cat(part) for part in zip(*parts, strict=True))
    return Quadrature(nodes, weights / probes)


def _gauss(alpha: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    """The nodes and weights of the Gauss quadrature that belongs to T_m."""
    nodes, vectors = torch.linalg.eigh(torch.diag(alpha) + torch.diag(beta, 1) + torch.diag(beta, -1))
    return nodes, vectors[0].square()


def _tridiagonal(operator: SymmetricOperator, steps: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """α (m,) and β (m − 1,) of T_m, with m = ``steps``, or less if the Krylov space becomes invariant earlier."""
    eps = torch.finfo(operator.dtype).eps
    basis = torch.empty(steps, operator.size, dtype=operator.dtype, device=operator.device)
    start = torch.randn(operator.size, generator=generator, dtype=torch.float64).to(operator.device, operator.dtype)
    basis[0] = start / torch.linalg.vector_norm(start)
    alpha: list[float] = []
    beta: list[float] = []
    for step in range(steps):
        w = operator.matvec(basis[step])
        alpha.append(float(basis[step] @ w))
        if not math.isfinite(alpha[-1]):
            raise FloatingPointError(f"product {step + 1} of a Lanczos quadrature is NaN or infinite")
        for _ in range(2):  # full reorthogonalisation: without it, copies of eigenvalues appear and share the weight
            w.addmv_(basis[: step + 1].T, basis[: step + 1] @ w, alpha=-1)
        length = float(torch.linalg.vector_norm(w))
        if step + 1 == steps or length <= 16 * eps * max(map(abs, [*alpha, *beta])):
            break
        beta.append(length)
        basis[step + 1] = w / length
    return torch.tensor(alpha, dtype=torch.float64), torch.tensor(beta, dtype=torch.float64)


def smoothed(quadrature: Quadrature, grid: Tensor, *, width: float, scale: float) -> Tensor:
    """φ(μ) on ``grid``, with ∫ φ dμ = 1: each node becomes a Gaussian in t = asinh(μ/scale) of width ``width``.

    ``width`` is the standard deviation in t. A spectrum spans many orders of magnitude on both sides of zero; such a
    kernel is about scale · width wide in μ near zero, and |μ| · width far from zero.
    """
    distances = torch.asinh(grid / scale)[:, None] - torch.asinh(quadrature.nodes / scale)
    kernels = torch.exp(-0.5 * (distances / width) ** 2) / (width * math.sqrt(2 * math.pi))
    return (kernels @ quadrature.weights) / torch.sqrt(grid.square() + scale**2)
