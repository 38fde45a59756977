"""The spectral density of a symmetric matrix with a few known eigenpairs, by stochastic Lanczos quadrature.

A known pair has mass 1/P at its eigenvalue. The rest is that of M, the matrix restricted to the d dimensions that are
orthogonal to the known vectors. From a random unit vector q among them, m steps of Lanczos give T_m, whose eigenvalues
θᵢ and squared first eigenvector components wᵢ are the nodes and weights of a Gauss quadrature for the measure
Σⱼ (q·uⱼ)² δ(μ − μⱼ). The mean of this measure over q is the density (1/d) Σⱼ δ(μ − μⱼ) of M.

Source: Lin, Saad & Yang, *Approximating Spectral Densities of Large Matrices* (arXiv 1308.5467); Ghorbani, Krishnan &
Xiao, *An Investigation into Neural Net Optimization via Hessian Eigenvalue Density* (arXiv 1901.10159).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch

from hesstore.linalg.intervals import half_width
from hesstore.linalg.vector_rows import orthogonalise

if TYPE_CHECKING:
    from torch import Tensor

    from hesstore.linalg.eigenpairs import EigenPairs
    from hesstore.linalg.operators import SymmetricOperator

_RESOLVED = 3.0
"""The largest distance from a node, in widths of the kernel, at which a density is resolved."""

_LENGTHS = 16
"""The largest number of quadratures, with fewer steps, from which the error of the finite number is estimated."""


class Quadrature(NamedTuple):
    """Nodes μ and weights, both (n,) float64 on the CPU; the weights sum to one."""

    nodes: Tensor
    weights: Tensor


@dataclass(frozen=True)
class Kernel:
    """The kernel that smooths a density: a Gaussian in t = asinh(μ/scale).

    A spectrum spans many orders of magnitude on both sides of zero; such a kernel is about scale · width wide in μ near
    zero, and |μ| · width far from zero.

    Attributes
    ----------
    width : float
        The standard deviation in t.
    scale : float
        The scale.
    """

    width: float
    scale: float

    def distances(self, grid: Tensor, nodes: Tensor) -> Tensor:
        """(g, n) the signed distances of ``grid`` (g,) from ``nodes`` (n,), in widths."""
        return (torch.asinh(grid / self.scale)[:, None] - torch.asinh(nodes / self.scale)) / self.width

    def smooth(self, quadrature: Quadrature, grid: Tensor) -> Tensor:
        """(g,) φ(μ) on ``grid``, with ∫ φ dμ equal to the sum of the weights."""
        kernels = torch.exp(-0.5 * self.distances(grid, quadrature.nodes).square())
        return (kernels @ quadrature.weights) * self.peak(grid)

    def peak(self, grid: Tensor) -> Tensor:
        """(g,) the value of the kernel at an eigenvalue."""
        return 1 / (self.width * math.sqrt(2 * math.pi) * torch.sqrt(grid.square() + self.scale**2))


class Density(NamedTuple):
    """A density φ (g,) on a grid, and its error (g,)."""

    values: Tensor
    errors: Tensor


def spectral_density(
    operator: SymmetricOperator,
    pairs: EigenPairs,
    grid: Tensor,
    kernel: Kernel,
    *,
    probes: int,
    steps: int,
    generator: torch.Generator,
) -> Density:
    """The density of all eigenvalues of ``operator``, smoothed by ``kernel``; ∫ φ dμ = 1.

    Parameters
    ----------
    operator : SymmetricOperator
        A.
    pairs : EigenPairs
        Eigenpairs of A; pairs that are NaN are left out.
    grid : Tensor
        (g,) float64: the μ at which the density is given.
    kernel : Kernel
        The kernel.
    probes, steps : int
        The number of random vectors, and of products for each.
    generator : torch.Generator
        CPU generator of the vectors.

    Returns
    -------
    Density
        The error is the sum of two parts. The first is half the width of the 95 % interval over the probes, by
        Student's t distribution. The second, for the finite number of steps, is the difference between the largest and
        the smallest density that the last half of the steps give. The error is NaN with one probe, and where the
        nodes don't resolve the kernel: between two nodes, if both are more than three widths away in all quadratures.

    Raises
    ------
    FloatingPointError
        If a product is NaN or infinite.
    """
    pairs = pairs.found
    known = len(pairs.eigenvalues)
    values = kernel.smooth(Quadrature(pairs.eigenvalues, torch.full((known,), 1 / operator.size).double()), grid)
    rest = operator.size - known
    if not rest:
        return Density(values, torch.zeros_like(values))
    chains = [_tridiagonal(operator, pairs.eigenvectors, min(steps, rest), generator) for _ in range(probes)]
    lengths = torch.linspace(steps // 2 + 1, steps, min(steps - steps // 2, _LENGTHS)).long().tolist()
    by_length = [[_gauss(alpha[:length], beta[: length - 1]) for alpha, beta in chains] for length in lengths]
    share = rest / operator.size
    densities = share * torch.stack(
        [torch.stack([kernel.smooth(each, grid) for each in quadratures]) for quadratures in by_length]
    )
    # Of few eigenvalues, each has a share (q·u)² of a skewed distribution, and a few samples may agree by chance. The
    # variance of φ over q is (2/d²) Σ k², for values k of the kernel at the eigenvalues, and Σ k² is at most k(0) Σ k.
    mean = densities[-1].mean(0)
    variance = 2 * kernel.peak(grid) * mean / (operator.size * probes)
    truncation = densities.mean(1).amax(0) - densities.mean(1).amin(0)
    errors = torch.maximum(half_width(densities[-1]), 2 * variance.sqrt()) + truncation
    resolved = torch.stack([_is_resolved(each, grid, kernel) for each in by_length[-1]]).any(0)
    return Density(values + mean, torch.where(resolved, errors, torch.nan))


def _is_resolved(quadrature: Quadrature, grid: Tensor, kernel: Kernel) -> Tensor:
    """(g,) whether a node is near, or all nodes are on one side."""
    distances = kernel.distances(grid, quadrature.nodes)
    return (distances.abs() < _RESOLVED).any(1) | (distances > 0).all(1) | (distances < 0).all(1)


def _gauss(alpha: Tensor, beta: Tensor) -> Quadrature:
    """The Gauss quadrature that belongs to T_m."""
    nodes, vectors = torch.linalg.eigh(torch.diag(alpha) + torch.diag(beta, 1) + torch.diag(beta, -1))
    return Quadrature(nodes, vectors[0].square())


def _tridiagonal(
    operator: SymmetricOperator, known: Tensor, steps: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """α (m,) and β (m − 1,) of T_m in the complement of the orthonormal rows ``known`` (k, P).

    Here m = ``steps``, or less if the Krylov space becomes invariant earlier.
    """
    eps = torch.finfo(operator.dtype).eps
    count = len(known)
    basis = torch.empty(count + steps, operator.size, dtype=operator.dtype, device=operator.device)
    basis[:count] = known
    start = torch.randn(operator.size, generator=generator, dtype=torch.float64).to(operator.device, operator.dtype)
    for _ in range(2):
        orthogonalise(start, known)
    basis[count] = start / _norm(start)
    alpha: list[float] = []
    beta: list[float] = []
    for step in range(steps):
        q = basis[count + step]
        w = operator.matvec(q)
        alpha.append(float((q * w).sum(dtype=torch.float64)))
        if not math.isfinite(alpha[-1]):
            raise FloatingPointError(f"product {step + 1} of a Lanczos quadrature is NaN or infinite")
        vectors = basis[: count + step + 1]
        for _ in range(2):  # full reorthogonalisation: without it, copies of eigenvalues appear and share the weight
            orthogonalise(w, vectors)
        length = _norm(w)
        if step + 1 == steps or length <= 16 * eps * max(map(abs, [*alpha, *beta])):
            break
        beta.append(length)
        basis[count + step + 1] = w / length
    return torch.tensor(alpha, dtype=torch.float64), torch.tensor(beta, dtype=torch.float64)


def _norm(vector: Tensor) -> float:
    return float(torch.linalg.vector_norm(vector, dtype=torch.float64))
