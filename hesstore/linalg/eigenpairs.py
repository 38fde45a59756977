"""The result of an eigensolver: eigenpairs, their measured residual norms, and how the solver ended."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

Which = Literal["LM", "LA", "SA"]
"""Which end of the spectrum: largest magnitude, largest, smallest (algebraic)."""

ROUNDING = 16.0
"""A residual norm below ROUNDING · ε · |μ₁| can't be distinguished from rounding in the products themselves.

On the default network and a CPU, float32 products differ from float64 ones by 1 to 4 ε |μ₁|. Where the network has
collapsed, they differ by up to 50 ε |μ₁|, because thousands of rows add up the same rounding error.
"""


@dataclass(frozen=True)
class EigenPairs:
    """k eigenpairs (μᵢ, vᵢ) of a symmetric operator A.

    Attributes
    ----------
    eigenvalues : Tensor
        (k,) float64, on the CPU; in the order of ``which`` (``LM``: descending |μ|, sign kept; ``LA``:
        descending; ``SA``: ascending).
    eigenvectors : Tensor
        (k, P), one in each row, with unit 2-norm and a positive entry of largest magnitude.
    residual_norms : Tensor
        (k,) float64, ‖A vᵢ − μᵢ vᵢ‖₂, measured by products with A, not taken from a recurrence.
    converged : Tensor
        (k,) bool, whether the residual norm is at most that of :func:`tolerances`.
    num_matvecs : int
        Number of products with A.
    message : str
        How the solver ended, in a sentence.
    bound : float
        No eigenvalue except the given ones lies beyond it, with the probability that the solver was asked for: none has
        |μ| > bound (``LM``), μ > bound (``LA``), or μ < bound (``SA``). Infinite if nothing is known.
    lowest : EigenPairs, optional
        The algebraically smallest eigenpairs, in ascending order, if the solver was asked for them. Their
        ``num_matvecs`` are those that they took in addition; the ``num_matvecs`` of the whole include them.
    """

    eigenvalues: Tensor
    eigenvectors: Tensor
    residual_norms: Tensor
    converged: Tensor
    num_matvecs: int
    message: str
    bound: float = math.inf
    lowest: EigenPairs | None = None

    @property
    def found(self) -> EigenPairs:
        """The pairs without those that are NaN because the solver did not find them."""
        finite = self.eigenvalues.isfinite()
        return replace(
            self,
            eigenvalues=self.eigenvalues[finite],
            eigenvectors=self.eigenvectors[finite.to(self.eigenvectors.device)],
            residual_norms=self.residual_norms[finite],
            converged=self.converged[finite],
        )


def tolerances(
    eigenvalues: Tensor, tol: float, dtype: torch.dtype, scale: float | None = None, resolution: float = 0.0
) -> Tensor:
    """The largest residual norm at which each pair counts as converged.

    max(tol · |μᵢ|, tol · ``resolution``, tol · ε^⅔ |μ₁|, 16 ε |μ₁|), with the ε of ``dtype`` and |μ₁| = ``scale``, by
    default the largest magnitude among ``eigenvalues``. It is relative where the eigenvalue is resolved, and absolute
    where the eigenvalue is zero to rounding.
    """
    magnitudes = eigenvalues.abs()
    if scale is None:
        scale = float(magnitudes.max()) if len(magnitudes) else 0.0
    return (tol * magnitudes.clamp_min(resolution)).clamp_min(absolute_tolerance(tol, dtype, scale))


def absolute_tolerance(tol: float, dtype: torch.dtype, scale: float) -> float:
    """The residual norm at which an eigenvalue of any size has converged: max(tol · ε^⅔, 16 ε) · ``scale``."""
    eps: float = torch.finfo(dtype).eps
    return max(tol * float(eps ** (2 / 3)), ROUNDING * eps) * scale


def distance(eigenvalues: Tensor, which: Which) -> Tensor:
    """The distance of each eigenvalue towards the end of the spectrum that ``which`` names: |μ|, μ or −μ.

    Raises
    ------
    ValueError
        If ``which`` is not LM, LA or SA.
    """
    if which not in get_args(Which):
        raise ValueError(f"which: {which!r} is not one of {', '.join(get_args(Which))}")
    return {"LM": eigenvalues.abs(), "LA": eigenvalues, "SA": -eigenvalues}[which]


def order(eigenvalues: Tensor, which: Which) -> Tensor:
    """The indices that sort eigenvalues in the order of ``which``, the wanted end first."""
    return torch.argsort(distance(eigenvalues, which), descending=True, stable=True)


def eigenpairs(
    vectors: Sequence[Tensor],
    products: Sequence[Tensor],
    *,
    which: Which,
    tol: float,
    num_matvecs: int,
    message: str,
    scale: float | None = None,
    resolution: float = 0.0,
) -> EigenPairs:
    """The eigenpairs, in standard form, from nearly orthonormal Ritz vectors and their products with A.

    The eigenvalues are the Rayleigh quotients vᵀAv / vᵀv, which minimise the residual norm for a given v.

    Parameters
    ----------
    vectors, products : sequence of Tensor
        k vectors v (P,), and A v of each.
    which, tol, num_matvecs, message, scale, resolution
        As in :class:`EigenPairs` and :func:`tolerances`.
    """
    units = torch.empty(len(vectors), len(vectors[0]), dtype=vectors[0].dtype, device=vectors[0].device)
    numbers = []
    for unit, vector, product in zip(units, vectors, products, strict=True):
        # In float64, because the float32 norm of 10⁵ entries is wrong by 2e-5.
        peak = vector.gather(0, vector.abs().argmax(0, keepdim=True))
        factor = torch.where(peak < 0, -1.0, 1.0) / torch.linalg.vector_norm(vector, dtype=torch.float64)
        unit[:] = vector.double() * factor
        image = (product.double() * factor).to(unit.dtype)
        quotient = (unit * image).sum(dtype=torch.float64)
        residual = image.addcmul_(unit, quotient.to(unit.dtype), value=-1)
        numbers.append(torch.stack([quotient, torch.linalg.vector_norm(residual, dtype=torch.float64)]))
    eigenvalues, residual_norms = torch.stack(numbers).T.cpu()
    rank = order(eigenvalues, which)
    eigenvalues, residual_norms = eigenvalues[rank], residual_norms[rank]
    return EigenPairs(
        eigenvalues=eigenvalues,
        eigenvectors=units[rank.to(units.device)],
        residual_norms=residual_norms,
        converged=residual_norms <= tolerances(eigenvalues, tol, units.dtype, scale, resolution),
        num_matvecs=num_matvecs,
        message=message,
    )


def padded(pairs: EigenPairs, k: int) -> EigenPairs:
    """``pairs``, filled up to k with rows of NaN that are flagged as not converged."""
    missing = k - len(pairs.eigenvalues)
    if not missing:
        return pairs
    nan = torch.full((missing,), torch.nan, dtype=torch.float64)
    return replace(
        pairs,
        eigenvalues=torch.cat([pairs.eigenvalues, nan]),
        eigenvectors=torch.nn.functional.pad(pairs.eigenvectors, (0, 0, 0, missing), value=torch.nan),
        residual_norms=torch.cat([pairs.residual_norms, nan]),
        converged=torch.cat([pairs.converged, torch.zeros(missing, dtype=torch.bool)]),
    )
