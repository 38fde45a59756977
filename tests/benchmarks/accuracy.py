"""Accuracy checks: references and error measures that share no code with the measured implementations.

The exact products are computed in float64, by plain double backward in chunks of rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn.functional import cross_entropy

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tests.benchmarks.digit_problem import Problem

CHUNK_ROWS = 2000
PRODUCT_TOLERANCE = 1e-4  # relative; float32 products are within 1e-6 of exact ones
ORTHOGONALITY_TOLERANCE = 1e-4
ROUNDING = 16  # a residual norm below 16 ε |μ₁| cannot be distinguished from rounding in float32 products


def exact_products(problem: Problem, vectors: Tensor, theta: Tensor | None = None) -> Tensor:
    """Return H v in float64, (m, P), for each of ``vectors`` (m, P); one graph per chunk serves all of them."""
    module = problem.module((problem.theta if theta is None else theta).double())
    parameters = list(module.parameters())
    total = torch.zeros(vectors.shape, dtype=torch.float64, device=problem.device)
    for x, y in zip(torch.split(problem.x, CHUNK_ROWS), torch.split(problem.y, CHUNK_ROWS), strict=True):
        loss = cross_entropy(module(x.double()), y, reduction="sum")
        gradients = torch.autograd.grad(loss, parameters, create_graph=True)
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        for product, v in zip(total, vectors.double(), strict=True):
            parts = torch.autograd.grad(flat, parameters, v, retain_graph=True)
            product.add_(torch.cat([part.reshape(-1) for part in parts]))
    return total / len(problem.y)


def relative_error(result: Tensor, exact: Tensor) -> float:
    """Return ‖result − exact‖ / ‖exact‖."""
    return float((result.double() - exact).norm() / exact.norm())


def training_loss(problem: Problem, module: nn.Module) -> float:
    """Return E, the mean cross-entropy over all rows."""
    with torch.no_grad():
        return float(cross_entropy(module(problem.x), problem.y))


class Spectrum(NamedTuple):
    """Eigenvalues (k,) float64 by descending magnitude, on the CPU, and eigenvectors (k, P), on the device."""

    eigenvalues: Tensor
    eigenvectors: Tensor


def by_magnitude(eigenvalues: Tensor, eigenvectors: Tensor) -> Spectrum:
    """Return the eigenpairs by descending |μ|."""
    values = eigenvalues.double().cpu()
    order = values.abs().argsort(descending=True)
    return Spectrum(values[order], eigenvectors[order.to(eigenvectors.device)])


def residuals(problem: Problem, spectrum: Spectrum, theta: Tensor | None = None) -> Tensor:
    """Return ‖H v − μ v‖ (k,) in float64.

    The vectors are not normalised, so that one without unit length shows up as an error.
    """
    vectors = spectrum.eigenvectors.to(problem.device).double()
    exact = exact_products(problem, vectors, theta)
    defects = exact - spectrum.eigenvalues.to(problem.device)[:, None] * vectors
    norms: Tensor = torch.linalg.vector_norm(defects, dim=1)
    return norms.cpu()


def orthogonality_error(vectors: Tensor) -> float:
    """Return max |V Vᵀ − I|."""
    v = vectors.double()
    return float((v @ v.T - torch.eye(len(v), dtype=v.dtype, device=v.device)).abs().max())


def within_tolerance(spectrum: Spectrum, residual: Tensor, tol: float) -> bool:
    """Return whether each residual norm is at most tol |μ|, or no more than rounding."""
    magnitudes = spectrum.eigenvalues.abs()
    rounding = ROUNDING * torch.finfo(torch.float32).eps * float(magnitudes[0])
    return bool((residual <= (tol * magnitudes).clamp_min(rounding)).all())


def num_wrong(eigenvalues: Tensor, reference: Tensor, tol: float) -> int:
    """Return how many reference eigenvalues have no separate counterpart within relative ``tol``.

    A spurious copy of one eigenvalue takes the place of another one, which is then counted as wrong.
    """
    left = list(map(float, eigenvalues))
    wrong = 0
    for value in map(float, reference):
        nearest = min(left, key=lambda candidate: abs(candidate - value), default=float("inf"))
        if abs(nearest - value) <= tol * abs(value):
            left.remove(nearest)
        else:
            wrong += 1
    return wrong
