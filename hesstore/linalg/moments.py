"""tr A and tr A² of a symmetric matrix of which a few eigenpairs are known, by random products.

With V the known eigenvectors (rows), P = I − VᵀV and z of independent signs, E[zᵀPAPz] = tr PAP and E‖APz‖² = tr PA²P,
so tr A = Σ μᵢ + tr PAP and tr A² = Σ (μᵢ² + rᵢ²) + tr PA²P, rᵢ the residual norms. What is known exactly adds no
variance: Hutch++ with the eigenvectors in place of its sketch.

Source: Meyer, Musco, Musco & Woodruff, *Hutch++: Optimal Stochastic Trace Estimation* (arXiv 2010.09649).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from hesstore.linalg.eigenpairs import EigenPairs
    from hesstore.linalg.operators import SymmetricOperator


@dataclass(frozen=True)
class Moments:
    """tr A and tr A², and how well they are known.

    Attributes
    ----------
    size : int
        P, of A (P × P).
    known : (float, float)
        Σ μᵢ and Σ (μᵢ² + rᵢ²).
    samples : Tensor
        (n, 2) float64, on the CPU: zᵀPAPz and ‖APz‖² of each probe.
    """

    size: int
    known: tuple[float, float]
    samples: Tensor

    @property
    def trace(self) -> float:
        """Trace of A."""
        return self.known[0] + float(self.samples[:, 0].mean())

    @property
    def trace_error(self) -> float:
        """Its standard error; NaN with one probe."""
        return self.error_of(1.0, 0.0)

    @property
    def square(self) -> float:
        """Trace of A², ‖A‖_F²."""
        return self.known[1] + float(self.samples[:, 1].mean())

    @property
    def frobenius_norm(self) -> float:
        """‖A‖_F."""
        return math.sqrt(self.square)

    @property
    def frobenius_norm_error(self) -> float:
        """Its standard error, to first order."""
        norm = self.frobenius_norm
        return self.error_of(0.0, 1 / (2 * norm)) if norm else 0.0

    def error_of(self, by_trace: float, by_square: float) -> float:
        """Standard error of by_trace · tr A + by_square · tr A²; NaN with one probe."""
        if len(self.samples) < 2:
            return math.nan
        weights = torch.tensor([by_trace, by_square], dtype=torch.float64)
        return float((self.samples @ weights).std()) / math.sqrt(len(self.samples))


def moments(operator: SymmetricOperator, pairs: EigenPairs, probes: int, generator: torch.Generator) -> Moments:
    """The :class:`Moments` of ``operator`` from ``probes`` products with it.

    Parameters
    ----------
    operator : SymmetricOperator
        A.
    pairs : EigenPairs
        Eigenpairs of A; those that are NaN are left out.
    probes : int
        n ≥ 1.
    generator : torch.Generator
        CPU generator of the signs.

    Raises
    ------
    ValueError
        If there is no probe.
    FloatingPointError
        If a product with A is NaN or infinite.
    """
    if probes < 1:
        raise ValueError(f"probes: {probes} is below the least number, 1")
    there = pairs.eigenvalues.isfinite()
    basis = pairs.eigenvectors[there.to(pairs.eigenvectors.device)]
    values, residuals = pairs.eigenvalues[there], pairs.residual_norms[there]
    samples = torch.stack([_sample(operator, basis, generator) for _ in range(probes)]).cpu()
    if not bool(samples.isfinite().all()):
        raise FloatingPointError("a product with a random vector is NaN or infinite")
    known = float(values.sum()), float((values.square() + residuals.square()).sum())
    return Moments(operator.size, known, samples)


def _sample(operator: SymmetricOperator, basis: Tensor, generator: torch.Generator) -> Tensor:
    signs = 2 * torch.randint(2, (operator.size,), generator=generator, dtype=torch.int8) - 1
    z = signs.to(operator.device).to(operator.dtype)
    for _ in range(2):  # once leaves rounding of ‖z‖ = √P
        z.addmv_(basis.T, basis @ z, alpha=-1)
    product, z = operator.matvec(z).to(torch.float64), z.to(torch.float64)
    return torch.stack([z @ product, product @ product])
