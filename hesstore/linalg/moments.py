"""tr A and tr A² of a symmetric matrix, estimated by random products when a few eigenpairs are known.

Let V hold the known eigenvectors as rows, P = I − VᵀV, and z have independent random signs. Then E[zᵀPAPz] = tr PAP
and E‖APz‖² = tr PA²P, so that tr A = Σ μᵢ + tr PAP and tr A² = Σ (μᵢ² + rᵢ²) + tr PA²P, with rᵢ the residual norms.
The part that is known exactly adds no variance. This is Hutch++ with the eigenvectors in place of its sketch. Where
tr A is known from elsewhere, only tr A² is estimated.

Source: Meyer, Musco, Musco & Woodruff, *Hutch++: Optimal Stochastic Trace Estimation* (arXiv 2010.09649).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from hesstore.linalg.intervals import half_width, standard_error
from hesstore.linalg.long_sums import inner_products
from hesstore.linalg.product_steps import with_products

if TYPE_CHECKING:
    from torch import Tensor

    from hesstore.linalg.eigenpairs import EigenPairs
    from hesstore.linalg.operators import SymmetricOperator
    from hesstore.linalg.product_steps import ProductSteps


@dataclass(frozen=True)
class Moments:
    """Estimates of tr A and tr A², and their errors.

    An error is half the width of a 95 % interval by Student's t distribution, NaN with one probe.

    Attributes
    ----------
    size : int
        P, where A is P × P.
    known : (float, float)
        Σ μᵢ and Σ (μᵢ² + rᵢ²).
    samples : Tensor
        (n, 2) float64, on the CPU: zᵀPAPz and ‖APz‖² of each probe.
    exact_trace : float, optional
        tr A, if it is known.
    """

    size: int
    known: tuple[float, float]
    samples: Tensor
    exact_trace: float | None = None

    @property
    def trace(self) -> float:
        """The trace of A."""
        if self.exact_trace is not None:
            return self.exact_trace
        return self.known[0] + float(self.samples[:, 0].mean())

    @property
    def trace_error(self) -> float:
        """The error of the trace; 0 if it is exact."""
        return 0.0 if self.exact_trace is not None else self.error_of(1.0, 0.0)

    @property
    def trace_variance(self) -> float:
        """The estimated variance of the trace; 0 if it is exact or unknown."""
        if self.exact_trace is not None or len(self.samples) < 2:
            return 0.0
        return float(standard_error(self.samples[:, 0])) ** 2

    @property
    def square(self) -> float:
        """The trace of A², which is ‖A‖_F²."""
        return self.known[1] + float(self.samples[:, 1].mean())

    @property
    def frobenius_norm(self) -> float:
        """The Frobenius norm ‖A‖_F."""
        return math.sqrt(self.square)

    @property
    def frobenius_norm_error(self) -> float:
        """The error of the Frobenius norm, to first order."""
        norm = self.frobenius_norm
        return self.error_of(0.0, 1 / (2 * norm)) if norm else 0.0

    def error_of(self, by_trace: float, by_square: float) -> float:
        """The error of by_trace · tr A + by_square · tr A²."""
        if self.exact_trace is not None:
            by_trace = 0.0
        return float(half_width(self.samples @ torch.tensor([by_trace, by_square], dtype=torch.float64)))


def moments(
    operator: SymmetricOperator,
    pairs: EigenPairs,
    probes: int,
    generator: torch.Generator,
    exact_trace: float | None = None,
) -> Moments:
    """The :class:`Moments` of ``operator`` from ``probes`` products with it.

    Parameters
    ----------
    operator : SymmetricOperator
        A.
    pairs : EigenPairs
        Eigenpairs of A; pairs that are NaN are left out.
    probes : int
        n ≥ 1.
    generator : torch.Generator
        CPU generator of the signs.
    exact_trace : float, optional
        tr A, if it is known.

    Raises
    ------
    ValueError
        If ``probes`` is below 1.
    FloatingPointError
        If a product with A is NaN or infinite.
    """
    return with_products(moments_steps(pairs, probes, generator, exact_trace), operator.matvec)


def moments_steps(
    pairs: EigenPairs, probes: int, generator: torch.Generator, exact_trace: float | None = None
) -> ProductSteps[Moments]:
    """Compute :func:`moments`, with the same arguments and errors, by products that are asked for one by one."""
    if probes < 1:
        raise ValueError(f"probes: {probes} is below the smallest number, 1")
    pairs = pairs.found
    values, residuals, basis = pairs.eigenvalues, pairs.residual_norms, pairs.eigenvectors
    found = []
    for probe in _probes(basis, probes, generator):
        product, z = (yield probe).to(torch.float64), probe.to(torch.float64)
        found.append(torch.stack([z @ product, product @ product]))
    samples = torch.stack(found).cpu()
    if not bool(samples.isfinite().all()):
        raise FloatingPointError("a product with a random vector is NaN or infinite")
    known = float(values.sum()), float((values.square() + residuals.square()).sum())
    return Moments(basis.shape[1], known, samples, exact_trace)


def _probes(basis: Tensor, probes: int, generator: torch.Generator) -> Tensor:
    """(n, P) P z of n vectors z of random signs, where the rows of ``basis`` are V."""
    size = basis.shape[1]
    signs = [torch.randint(2, (size,), generator=generator, dtype=torch.int8) for _ in range(probes)]
    z = (2 * torch.stack(signs) - 1).to(basis.device).to(basis.dtype)
    for _ in range(2):  # one pass leaves rounding errors of the size of ‖z‖ = √P
        z.addmm_(inner_products(z, basis), basis, alpha=-1)
    return z


def trace(
    operator: SymmetricOperator, pairs: EigenPairs, probes: int, generator: torch.Generator
) -> tuple[float, float]:
    """Return tr A and its error, from at most ``probes`` products; exact if A has no more rows.

    Parameters
    ----------
    operator : SymmetricOperator
        A, P × P.
    pairs : EigenPairs
        Known eigenpairs of A.
    probes : int
        Number of random vectors, at least 2.
    generator : Generator
        CPU generator of the random vectors.
    """
    if operator.size <= probes:
        basis = torch.eye(operator.size, dtype=operator.dtype, device=operator.device)
        diagonal = torch.stack([operator.matvec(unit)[index] for index, unit in enumerate(basis)])
        return float(diagonal.sum(dtype=torch.float64)), 0.0
    found = moments(operator, pairs, probes, generator)
    return found.trace, found.trace_error
