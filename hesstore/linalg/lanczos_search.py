"""The search behind :func:`~hesstore.linalg.lanczos.lanczos`: chains of Lanczos vectors and locked pairs.

The search is a generator: it yields the vectors that it needs products for, and receives the products. Therefore it
knows nothing of the operator, and many searches can share one operator.

The parts, in the order of the file: the ending of a search; T of one chain, with its Ritz values; the search, which
decides when a chain is finished and when nothing is left to find; the vectors; the Ritz pairs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import Enum, auto
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

if TYPE_CHECKING:
    from collections.abc import Generator

    from torch import Tensor

    from hesstore.linalg.operators import VectorSpace

SYNC_EVERY = 8
"""Maximum number of steps between two inspections of T on the host."""

LOST_ACCURACY = 0.1
"""If reorthogonalisation shrinks a vector below this fraction of its length, it needs a second pass."""

NEARLY_EQUAL = 1e-4
"""Relative distance below which two eigenvalues may be copies of one."""


class Ending(Enum):
    """How a search ended."""

    CONVERGED = auto()
    WHOLE_SPACE = auto()
    PRODUCT_LIMIT = auto()


@dataclass
class _Chain:
    """T of one chain of Lanczos vectors, on the host in float64: its diagonal α and its off-diagonal β."""

    alpha: Tensor
    beta: Tensor

    @property
    def steps(self) -> int:
        """m, the number of steps taken."""
        return len(self.alpha)

    def ritz(self) -> tuple[Tensor, Tensor, Tensor]:
        """The Ritz values θ, their coefficients S (one column each), and the residual estimates β_m |s_mi|."""
        if not self.steps:
            return self.alpha, torch.zeros(0, 0, dtype=torch.float64), self.alpha
        off = self.beta[:-1]
        theta, s = torch.linalg.eigh(torch.diag(self.alpha) + torch.diag(off, 1) + torch.diag(off, -1))
        return theta, s, self.beta[-1] * s[-1].abs()


class LanczosSearch:
    """The locked pairs and the chain that currently grows.

    The vectors and their products with A are kept on the device, one in each row: first the locked Ritz vectors, then
    the vectors of the chain.

    Parameters
    ----------
    space : VectorSpace
        Size, precision and device of the vectors.
    k, which, tol, max_matvecs, generator
        As in :func:`~hesstore.linalg.lanczos.lanczos`.
    """

    def __init__(
        self,
        space: VectorSpace,
        k: int,
        *,
        which: Which,
        tol: float,
        max_matvecs: int,
        generator: torch.Generator,
    ) -> None:
        self.size, self.dtype, self.device = space.size, space.dtype, space.device
        self.k, self.which, self.tol, self.max_matvecs, self.generator = k, which, tol, max_matvecs, generator
        self.num_matvecs = 0
        self.scale = 0.0  # the largest entry of any T so far: within a factor 3 of |μ₁|
        self.locked = torch.zeros(0, dtype=torch.float64)  # Rayleigh quotients of the locked pairs
        self.chain = _Chain(torch.zeros(0, dtype=torch.float64), torch.zeros(0, dtype=torch.float64))
        # The last two inspections of the chain: its steps, and its largest ratio of residual to tolerance.
        self._inspections: list[tuple[int, float]] = []
        self._basis, self._products = self._empty(64), self._empty(64)

    # -- the search ---------------------------------------------------------------------------------------

    def run(self) -> Generator[Tensor, Tensor, Ending]:
        """Extend chains and lock pairs until the k wanted pairs are known, and return how the search ended.

        Yields each vector q that A is to be multiplied with and receives the product A q, which it may change in place.
        """
        self._start_chain()
        window = SYNC_EVERY
        while self.num_matvecs < self.max_matvecs:
            left = self.size - self._rows
            window = yield from self._extend(min(window, left, self.max_matvecs - self.num_matvecs))
            if self._rows == self.size:
                return Ending.WHOLE_SPACE
            if not self._chain_is_finished():
                window = min(window, self._expected_steps())
                continue
            if len(self.locked) + self.chain.steps >= self.k and self._is_complete():
                return Ending.CONVERGED
            window = min(self.chain.steps, SYNC_EVERY)  # invariant spaces of few dimensions tend to follow each other
            self._lock()
            self._start_chain()
        return Ending.PRODUCT_LIMIT

    def result(self, ending: Ending) -> EigenPairs:
        """The k best pairs, converged or not, after :meth:`run` returned ``ending``."""
        pairs = eigenpairs(
            *self.ritz(),
            which=self.which,
            tol=self.tol,
            num_matvecs=self.num_matvecs,
            message="",
            scale=self.scale,
        )
        message = self._message(ending, self.k - int(pairs.converged.sum()))
        return replace(padded(pairs, self.k), message=message)

    def _message(self, ending: Ending, missing: int) -> str:
        """The sentence that reports ``ending`` and the number of pairs that have not converged."""
        message = {
            Ending.CONVERGED: f"converged to {self.tol:g} after {self.num_matvecs} products",
            Ending.WHOLE_SPACE: "the Krylov space is the whole space",
            Ending.PRODUCT_LIMIT: f"stopped at the limit of {self.max_matvecs} products",
        }[ending]
        if missing:
            message += f"; {missing} of {self.k} pairs have not converged"
            if ending is Ending.PRODUCT_LIMIT:
                message += ": raise max_matvecs or tol"
        return message

    def _chain_is_finished(self) -> bool:
        """Whether the chain is invariant, or its wanted pairs have converged: k in the first chain, then one."""
        if self.chain.beta[-1] == 0:
            return True
        wanted_pairs = self.k if not len(self.locked) else 1
        if self.chain.steps < wanted_pairs:
            return False
        theta, _, estimates = self.chain.ritz()
        wanted = order(theta, self.which)[:wanted_pairs]
        worst = float((estimates[wanted] / self._tolerances(theta[wanted])).max())
        self._inspections = [*self._inspections[-1:], (self.chain.steps, worst)]
        return worst <= 1

    def _expected_steps(self) -> int:
        """An estimate of the steps that the chain still needs.

        It assumes that the largest residual falls geometrically, as between the last two inspections.
        """
        if len(self._inspections) < 2:
            return SYNC_EVERY
        (before, high), (now, low) = self._inspections
        rate = math.log(high / low) / (now - before) if low < high else 0.0
        return max(1, math.ceil(math.log(low) / rate)) if rate > 0 else SYNC_EVERY

    def _is_complete(self) -> bool:
        """Whether there is nothing left to find further out than the k best pairs."""
        theta, _, _ = self.chain.ritz()
        if not len(self.locked):
            return not self._has_signs_of_copies(theta)
        if len(self.locked) < self.k:
            return False
        # A random start finds the outermost eigenvalue that is not locked, so nothing lies further out than that.
        outermost = theta[order(theta, self.which)[0]]
        weakest = self.locked[order(self.locked, self.which)[self.k - 1]]
        slack = self._tolerances(outermost)
        return bool(distance(outermost, self.which) <= distance(weakest, self.which) + slack)

    def _has_signs_of_copies(self, theta: Tensor) -> bool:
        """Whether a β almost vanished, or two wanted Ritz values ``theta`` almost agree."""
        eps = torch.finfo(self.dtype).eps
        if bool((self.chain.beta <= self.scale * eps**0.5).any()):
            return True
        wanted = theta[order(theta, self.which)[: self.k]].sort().values
        return bool((wanted.diff() <= NEARLY_EQUAL * wanted[1:].abs()).any())

    def _tolerances(self, theta: Tensor) -> Tensor:
        return tolerances(theta, self.tol, self.dtype, scale=self.scale)

    # -- vectors ------------------------------------------------------------------------------------------

    @property
    def _rows(self) -> int:
        """Number of rows in use: the locked vectors and those of the chain."""
        return len(self.locked) + self.chain.steps

    def _empty(self, rows: int) -> Tensor:
        return torch.empty(rows, self.size, dtype=self.dtype, device=self.device)

    def _reserve(self, rows: int) -> None:
        """Make room for ``rows`` vectors and products."""
        capacity = len(self._basis)
        if rows <= capacity:
            return
        for name in ("_basis", "_products"):
            larger = self._empty(max(rows, 2 * capacity))
            larger[:capacity] = getattr(self, name)
            setattr(self, name, larger)

    def _orthogonalise(self, w: Tensor, rows: int) -> Tensor:
        """Make one pass of classical Gram–Schmidt against the first ``rows`` rows, in place."""
        basis = self._basis[:rows]
        return w.addmv_(basis.T, basis @ w, alpha=-1)

    def _start_chain(self) -> None:
        """Begin a new chain with a random unit vector that is orthogonal to the locked ones."""
        rows = len(self.locked)
        self._reserve(rows + 1)
        w = torch.randn(self.size, generator=self.generator, dtype=torch.float64)
        w = w.to(self.device, self.dtype)
        w /= torch.linalg.vector_norm(w)
        for _ in range(3):  # near the whole space little of w remains, and each pass restores lost orthogonality
            w = self._orthogonalise(w, rows)
            w /= torch.linalg.vector_norm(w)
        self._basis[rows] = w
        self.chain = _Chain(torch.zeros(0, dtype=torch.float64), torch.zeros(0, dtype=torch.float64))
        self._inspections = []

    def _extend(self, steps: int) -> Generator[Tensor, Tensor, int]:
        """Take up to ``steps`` steps, with one host sync at their end, and return how many to take next.

        Only the steps up to the first problem are kept: where nothing is left of the new vector (β → 0, the chain ends)
        or where it lost orthogonality, which is then repaired. After a repair the next inspection follows after one
        step, then after two, four and eight.
        """
        start = self._rows
        self._reserve(start + steps + 1)
        tiny = torch.finfo(self.dtype).tiny ** 0.5  # the squares of shorter vectors underflow
        scalars = []
        for row in range(start, start + steps):
            q = self._basis[row]
            w = yield q
            self._products[row] = w
            alpha = q.dot(w)
            w.sub_(q * alpha)
            if row > len(self.locked):  # β q_{m-1}, measured: it makes the one full pass below a second pass
                w.sub_(self._basis[row - 1] * self._basis[row - 1].dot(w))
            before = torch.linalg.vector_norm(w)
            w = self._orthogonalise(w, row + 1)
            beta = torch.linalg.vector_norm(w)
            self._basis[row + 1] = w / beta.clamp_min(tiny)
            scalars.append(torch.stack([alpha, beta, before]))
        self.num_matvecs += steps
        return self._settle(torch.stack(scalars).to("cpu", torch.float64), steps)

    def _settle(self, scalars: Tensor, steps: int) -> int:
        """Add the sound ones of the new steps to the chain and return how many to take next.

        ``scalars`` (steps, 3) holds α, β and the vector's length before the full pass.
        """
        alpha, beta, before = scalars.T
        if not bool(torch.isfinite(alpha).all()):
            raise FloatingPointError(
                f"a product with the operator is not finite (product {self.num_matvecs} or one before it)"
            )
        self.scale = max(self.scale, float(torch.cat([alpha.abs(), beta]).max()))
        nothing = absolute_tolerance(self.tol, self.dtype, self.scale)
        suspects = torch.nonzero((beta <= nothing) | (beta < LOST_ACCURACY * before) | ~torch.isfinite(beta))
        taken = int(suspects[0]) + 1 if len(suspects) else steps
        self.chain = _Chain(torch.cat([self.chain.alpha, alpha[:taken]]), torch.cat([self.chain.beta, beta[:taken]]))
        if not len(suspects):
            return min(2 * steps, SYNC_EVERY)
        self._repair(nothing)
        return 1

    def _repair(self, nothing: float) -> None:
        """Make a second pass on the newest vector; if no more than ``nothing`` is left, β = 0 ends the chain."""
        row = self._rows
        w = self._orthogonalise(self._basis[row].clone(), row)
        kept = float(torch.linalg.vector_norm(w))
        beta = float(self.chain.beta[-1]) * kept
        self.chain.beta[-1] = beta if beta > nothing else 0.0
        if beta > nothing:
            self._basis[row] = self._orthogonalise(w / kept, row)

    # -- Ritz pairs ---------------------------------------------------------------------------------------

    def ritz(self) -> tuple[Tensor, Tensor]:
        """V and A V, (≤ k, P) each, of the k best pairs, whether locked or not, converged or not."""
        return self._combine(self._coefficients(converged_only=False))

    def _lock(self) -> None:
        """Keep the k best of the locked pairs and the converged pairs of the chain, and drop the rest."""
        vectors, products = self._combine(self._coefficients(converged_only=True))
        rows = len(vectors)
        self._basis[:rows], self._products[:rows] = vectors, products
        self.locked = (vectors * products).sum(1, dtype=torch.float64).cpu()

    def _coefficients(self, *, converged_only: bool) -> Tensor:
        """The orthonormal combinations (≤ k, rows) of the rows that are Ritz vectors of A on their span.

        The chain's own Ritz pairs come from T. Their coupling to the locked pairs is only in A's projection onto both.
        """
        values, s, estimates = self.chain.ritz()
        if converged_only:
            converged = estimates <= self._tolerances(values)
            values, s = values[converged], s[:, converged]
        basis = _block_diagonal(len(self.locked), s).to(self.device)
        if len(self.locked):
            rows, small = self._rows, basis.to(self.dtype)
            projection = (small.T @ (self._basis[:rows] @ self._products[:rows].T) @ small).double()
            values, mix = torch.linalg.eigh((projection + projection.T) / 2)
            basis = basis @ mix
        best = order(values, self.which)[: self.k].to(basis.device)
        return basis[:, best].T

    def _combine(self, coefficients: Tensor) -> tuple[Tensor, Tensor]:
        """The combinations of the vectors, and those of the products."""
        rows = coefficients.shape[1]
        mix = coefficients.to(self.dtype)
        return mix @ self._basis[:rows], mix @ self._products[:rows]


def _block_diagonal(ones: int, block: Tensor) -> Tensor:
    """The matrix with an identity of size ``ones`` and then ``block`` along its diagonal."""
    full = torch.zeros(ones + block.shape[0], ones + block.shape[1], dtype=block.dtype)
    full[:ones, :ones] = torch.eye(ones, dtype=block.dtype)
    full[ones:, ones:] = block
    return full
