"""Unrestarted Lanczos with full reorthogonalisation, for a few eigenpairs at the ends of a spectrum.

With Q_m orthonormal, A Q_m = Q_m T_m + β_m q_{m+1} e_mᵀ, T_m tridiagonal. Eigenpairs of T_m give Ritz pairs of A.

>>> import torch
>>> a = torch.diag(torch.tensor([5.0, -4.0, 1.0, 0.5, 0.1], dtype=torch.float64))
>>> pairs = lanczos(DenseOperator(a), 2, tol=1e-8)
>>> pairs.eigenvalues.shape, pairs.eigenvectors.shape
(torch.Size([2]), torch.Size([2, 5]))

Source: Golub & Van Loan, *Matrix Computations*, 4th ed., §10.1–10.3; Parlett, *The Symmetric Eigenvalue Problem*,
§6, §13.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from hesstore.linalg.eigenpairs import (
    EigenPairs,
    Which,
    absolute_tolerance,
    distance,
    eigenpairs,
    order,
    padded,
    tolerances,
)
from hesstore.linalg.operators import DenseOperator  # noqa: F401 - the doctest's

if TYPE_CHECKING:
    from torch import Tensor

    from hesstore.linalg.operators import SymmetricOperator

SYNC_EVERY = 8
"""Steps between two looks at T on the host."""

LOST_ACCURACY = 0.1
"""Reorthogonalisation that shrinks a vector below this share of its length wants a second pass."""


def lanczos(
    operator: SymmetricOperator,
    k: int,
    *,
    which: Which = "LM",
    tol: float = 1e-3,
    max_matvecs: int = 1000,
    generator: torch.Generator | None = None,
) -> EigenPairs:
    """The k eigenpairs at one end of the spectrum.

    Stops when the k wanted Ritz pairs have residual estimates β_m |s_mi| within
    :func:`~hesstore.linalg.eigenpairs.tolerances`. One Krylov space holds one copy of each eigenvalue; a small β says
    that it has become nearly invariant, so that further copies may be missing. The process then goes on in a new block
    from a fresh random direction orthogonal to all before, until a block brings nothing that belongs to the k wanted.

    Parameters
    ----------
    operator : SymmetricOperator
        A, P × P.
    k : int
        Number of pairs, 1 ≤ k ≤ P.
    which : {"LM", "LA", "SA"}
        Largest magnitude, largest, smallest.
    tol : float
        Relative residual at which a pair has converged.
    max_matvecs : int
        Most products with A, at least k. When they are used up, the pairs come back as they are, flagged.
    generator : torch.Generator, optional
        CPU generator of the start vector and of fresh directions; seed 0 by default.

    Raises
    ------
    ValueError
        If k, ``max_matvecs`` or ``which`` is out of range.
    FloatingPointError
        If a product with A is NaN or infinite.

    Notes
    -----
    Without a breakdown, a multiple eigenvalue is found once for each time that rounding brings in another copy, as
    in every Krylov method that starts from one vector.
    """
    if not 1 <= k <= operator.size:
        raise ValueError(f"k: {k} must be between 1 and the operator's size {operator.size}")
    if max_matvecs < k:
        raise ValueError(f"max_matvecs: {max_matvecs} is below k = {k}")
    order(torch.zeros(0), which)  # raises on a bad name before any work
    process = _Lanczos(operator, generator or torch.Generator().manual_seed(0), tol)
    num_matvecs, message = _grow(process, k, which, max_matvecs)
    vectors, products = process.ritz(k, which)
    pairs = eigenpairs(
        vectors, products, which=which, tol=tol, num_matvecs=num_matvecs, message=message, scale=process.scale()
    )
    missing = k - int(pairs.converged.sum())
    if missing and num_matvecs == max_matvecs:
        message += f" with {missing} of {k} pairs not converged: raise max_matvecs or tol"
    elif missing:
        message += f"; rounding in the products keeps the residuals of {missing} of {k} pairs above tolerance"
    return replace(padded(pairs, k), message=message)


def _grow(process: _Lanczos, k: int, which: Which, max_matvecs: int) -> tuple[int, str]:
    """Extend the factorisation until the k wanted pairs are known; the number of products, and why it ended."""
    window, num_matvecs = SYNC_EVERY, 0
    while num_matvecs < max_matvecs:
        size = process.operator.size
        num_matvecs += process.extend(min(window, size - process.steps, max_matvecs - num_matvecs))
        window = process.settle(window)
        if process.steps == size:
            return num_matvecs, "the Krylov space is the whole space"
        if process.steps < k or not process.has_converged(k, which):
            continue
        if not process.is_nearly_reducible() or process.newest_block_is_spent(k, which):
            return num_matvecs, f"converged to {process.tol:g} after {num_matvecs} products"
        # What a block drops adds to its pairs' residuals without being estimated again, so it must be small.
        if process.newest_block_is_resolved(which) and process.has_converged(k, which, margin=0.1):
            process.open_block()
    return num_matvecs, f"stopped at the limit of {max_matvecs} products"


class _Lanczos:
    """The growing factorisation: Q and A Q on the device, T on the host in float64."""

    def __init__(self, operator: SymmetricOperator, generator: torch.Generator, tol: float) -> None:
        self.operator = operator
        self.tol = tol
        self.generator = generator
        self.steps = 0
        self._blocks = [0]  # first steps of the invariant blocks
        self._basis = self._empty(64)
        self._products = self._empty(64)
        self._alpha = torch.zeros(0, dtype=torch.float64)
        self._beta = torch.zeros(0, dtype=torch.float64)
        self._pending: list[Tensor] = []
        self._basis[0] = self._fresh_direction(0)

    def _empty(self, rows: int) -> Tensor:
        return torch.empty(rows, self.operator.size, dtype=self.operator.dtype, device=self.operator.device)

    def _reserve(self, rows: int) -> None:
        capacity = len(self._basis)
        if rows <= capacity:
            return
        for name in ("_basis", "_products"):
            grown = self._empty(max(rows, 2 * capacity))
            grown[:capacity] = getattr(self, name)
            setattr(self, name, grown)

    def _orthogonalise(self, w: Tensor, count: int) -> Tensor:
        """One pass of classical Gram–Schmidt against the first ``count`` basis vectors, in place."""
        basis = self._basis[:count]
        return w.addmv_(basis.T, basis @ w, alpha=-1)

    def _fresh_direction(self, count: int) -> Tensor:
        """A random unit vector orthogonal to the first ``count`` basis vectors."""
        w = torch.randn(self.operator.size, generator=self.generator, dtype=torch.float64)
        w = (w / torch.linalg.vector_norm(w)).to(self.operator.device, self.operator.dtype)
        for _ in range(3):  # near the whole space little of w is left; each pass restores what the last one lost
            w = self._orthogonalise(w, count)
            w /= torch.linalg.vector_norm(w)
        return w

    def extend(self, count: int) -> int:
        """Take ``count`` steps without a host sync; returns the number of products."""
        until = self.steps + count
        self._reserve(until + 1)
        self._pending = []
        tiny = torch.finfo(self.operator.dtype).tiny ** 0.5  # shorter vectors have squares that underflow
        for j in range(self.steps, until):
            q = self._basis[j]
            w = self.operator.matvec(q)
            self._products[j] = w
            alpha = q.dot(w)
            w.sub_(q * alpha)
            if j > self._blocks[-1]:  # the part along q_{j-1} is β_{j-1}; the pass below would find it, less exactly
                w.sub_(self._basis[j - 1] * self._basis[j - 1].dot(w))
            before = torch.linalg.vector_norm(w)
            w = self._orthogonalise(w, j + 1)
            beta = torch.linalg.vector_norm(w)
            self._basis[j + 1] = w / beta.clamp_min(tiny)
            self._pending.append(torch.stack([alpha, beta, before]))
        return count

    def settle(self, window: int) -> int:
        """Bring α and β to the host; cut back to the first step that broke down or lost accuracy and mend it there.

        Returns the number of steps to take before the next look: 1 after a mend, then doubling.
        """
        alpha, beta, before = torch.stack(self._pending).to("cpu", torch.float64).T
        if not bool(torch.isfinite(alpha).all()):
            raise FloatingPointError(f"a product with the operator is not finite (step {self.steps} or later)")
        scale = max(self.scale(), float(torch.cat([alpha.abs(), beta]).max()))
        breakdown = absolute_tolerance(self.tol, self.operator.dtype, scale)
        suspects = torch.nonzero((beta <= breakdown) | (beta < LOST_ACCURACY * before) | ~torch.isfinite(beta))
        taken = int(suspects[0]) + 1 if len(suspects) else len(beta)
        self._alpha = torch.cat([self._alpha, alpha[:taken]])
        self._beta = torch.cat([self._beta, beta[:taken]])
        self.steps += taken
        if not len(suspects):
            return min(2 * window, SYNC_EVERY)
        if self.steps < self.operator.size:
            self._mend(breakdown)
        return 1

    def _mend(self, breakdown: float) -> None:
        """A second pass for the newest basis vector or, if nothing is left of it, a fresh direction and β = 0."""
        count = self.steps
        w = self._orthogonalise(self._basis[count].clone(), count)
        kept = float(torch.linalg.vector_norm(w))
        beta = float(self._beta[-1]) * kept
        if beta > breakdown:
            self._basis[count] = self._orthogonalise(w / kept, count)
            self._beta[-1] = beta
            return
        self.open_block()

    def open_block(self) -> None:
        """Go on from a fresh direction; the β that is dropped is small, or belongs to pairs that have converged."""
        self._beta[-1] = 0.0
        self._blocks.append(self.steps)
        self._basis[self.steps] = self._fresh_direction(self.steps)

    def scale(self) -> float:
        """The largest entry of T, within a factor 3 of its largest eigenvalue in magnitude."""
        return float(torch.cat([self._alpha.abs(), self._beta]).max()) if self.steps else 0.0

    def _tridiagonal_eigh(self, start: int = 0) -> tuple[Tensor, Tensor]:
        off = self._beta[start:-1]
        t = torch.diag(self._alpha[start:]) + torch.diag(off, 1) + torch.diag(off, -1)
        theta, s = torch.linalg.eigh(t)
        return theta, s

    def has_converged(self, k: int, which: Which, margin: float = 1.0) -> bool:
        """Whether the residual estimates of the k wanted Ritz pairs are within ``margin`` times their tolerances."""
        theta, s = self._tridiagonal_eigh()
        rank = order(theta, which)
        wanted = rank[:k]
        estimates = self._beta[-1] * s[-1, wanted].abs()
        limits = tolerances(theta[wanted], self.tol, self.operator.dtype, scale=self.scale())
        return bool((estimates <= margin * limits).all())

    def is_nearly_reducible(self) -> bool:
        """Whether some β is so small that rounding may have kept copies of an eigenvalue out: below √ε · ‖T‖."""
        weak = self.scale() * torch.finfo(self.operator.dtype).eps ** 0.5
        return bool((self._beta[:-1] <= weak).any()) or float(self._beta[-1]) <= weak

    def _newest_block(self, which: Which) -> tuple[Tensor, Tensor, Tensor]:
        """The outermost Ritz value of the newest block that has steps, its residual estimate, and its tolerance."""
        start = [start for start in self._blocks if start < self.steps][-1]
        theta, s = self._tridiagonal_eigh(start)
        outermost = order(theta, which)[0]
        limit = tolerances(theta[outermost], self.tol, self.operator.dtype, scale=self.scale())
        return theta[outermost], self._beta[-1] * s[-1, outermost].abs(), limit

    def newest_block_is_resolved(self, which: Which) -> bool:
        """Whether the newest block has steps, and its outermost eigenvalue has converged."""
        _, estimate, limit = self._newest_block(which)
        return self._blocks[-1] < self.steps and bool(estimate <= limit)

    def newest_block_is_spent(self, k: int, which: Which) -> bool:
        """Whether the newest block's outermost eigenvalue has converged and lies no further out than the k wanted.

        A block that starts at random finds the outermost eigenvalue of all that earlier blocks left, so then nothing
        further out remains. The first block has no earlier one to tell it from.
        """
        if self._blocks[-1] == 0 or self._blocks[1] == self.steps:
            return False
        theta, _ = self._tridiagonal_eigh()
        weakest = theta[order(theta, which)[k - 1]]
        outermost, estimate, limit = self._newest_block(which)
        return bool(estimate <= limit) and bool(distance(outermost, which) <= distance(weakest, which) + limit)

    def ritz(self, k: int, which: Which) -> tuple[Tensor, Tensor]:
        """V and A V, (k, P) each, for the k wanted Ritz vectors.

        With several blocks T lacks what :meth:`open_block` dropped, so the projection Q A Qᵀ itself takes its place.
        """
        basis, products = self._basis[: self.steps], self._products[: self.steps]
        if len(self._blocks) == 1:
            theta, s = self._tridiagonal_eigh()
        else:
            projection = (basis @ products.T).to("cpu", torch.float64)
            theta, s = torch.linalg.eigh((projection + projection.T) / 2)
        coefficients = s[:, order(theta, which)[:k]].T.to(self.operator.device, self.operator.dtype)
        return coefficients @ basis, coefficients @ products
