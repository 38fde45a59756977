"""Lanczos with full reorthogonalisation, for a few eigenpairs at one end of a spectrum, multiple ones included.

With Q_m orthonormal, A Q_m = Q_m T_m + β_m q_{m+1} e_mᵀ, T_m tridiagonal. Eigenpairs of T_m give Ritz pairs of A.
A search asks for one product with A after the other; those of several matrices can be searched side by side.

>>> import torch
>>> a = torch.diag(torch.tensor([5.0, -4.0, 1.0, 0.5, 0.1], dtype=torch.float64))
>>> pairs = lanczos(DenseOperator(a), 2, tol=1e-8)
>>> pairs.eigenvalues.shape, pairs.eigenvectors.shape
(torch.Size([2]), torch.Size([2, 5]))

Source: Golub & Van Loan, *Matrix Computations*, 4th ed., §10.1–10.3; Parlett, *The Symmetric Eigenvalue Problem*,
§6, §13; locking: Bai et al., *Templates for the Solution of Algebraic Eigenvalue Problems*, §4.5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
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
    from collections.abc import Generator, Sequence

    from torch import Tensor

    from hesstore.linalg.operators import OperatorStack, SymmetricOperator, VectorSpace

SYNC_EVERY = 8
"""Most steps between two looks at T on the host."""

LOST_ACCURACY = 0.1
"""Reorthogonalisation that shrinks a vector below this share of its length wants a second pass."""

NEARLY_EQUAL = 1e-4
"""Relative distance at which two eigenvalues may be copies of one."""


def lanczos(
    operator: SymmetricOperator,
    k: int,
    *,
    which: Which = "LM",
    tol: float = 1e-3,
    max_matvecs: int = 2000,
    generator: torch.Generator | None = None,
) -> EigenPairs:
    """The k eigenpairs at one end of the spectrum.

    The first chain of Lanczos vectors ends when the k wanted Ritz pairs have residual estimates β_m |s_mi| within
    :func:`~hesstore.linalg.eigenpairs.tolerances`. In exact arithmetic a chain holds one copy of each eigenvalue. Where
    there are signs that one is multiple (a β that almost vanishes, or two Ritz values that almost agree) the converged
    pairs are locked, and further chains start from random directions orthogonal to them, each until its outermost
    Ritz pair has converged, until one brings nothing further out than the k that are locked.

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
        CPU generator of the start vectors; seed 0 by default.

    Raises
    ------
    ValueError
        If k, ``max_matvecs`` or ``which`` is out of range.
    FloatingPointError
        If a product with A is NaN or infinite.

    Notes
    -----
    A multiple eigenvalue of which rounding has brought in no second copy yet leaves no sign and is found once, as in
    every Krylov method that starts from one vector.
    """
    _check(operator.size, k, which, max_matvecs)
    search = _Search(operator, k, which, tol, generator or torch.Generator().manual_seed(0))
    steps = search.run(max_matvecs)
    q = next(steps)
    try:
        while True:
            q = steps.send(operator.matvec(q))
    except StopIteration as end:
        return search.result(end.value)


def lanczos_stack(
    operator: OperatorStack,
    k: int,
    *,
    which: Which = "LM",
    tol: float = 1e-3,
    max_matvecs: int = 2000,
    generators: Sequence[torch.Generator],
) -> list[EigenPairs | FloatingPointError]:
    """As :func:`lanczos`, for each of G matrices whose products are computed together.

    Each search has its own start vectors, T and end. When half of them have ended, the stack is cut to the rest.

    Parameters
    ----------
    operator : OperatorStack
        The matrices.
    k, which, tol, max_matvecs
        As for one.
    generators : sequence of Generator
        One for each matrix.

    Returns
    -------
    list
        The error in place of the pairs of a matrix of which a product was NaN or infinite.

    Raises
    ------
    ValueError
        As for one, or if there are not G generators.
    """
    _check(operator.size, k, which, max_matvecs)
    if len(generators) != operator.copies:
        raise ValueError(f"{len(generators)} generators for {operator.copies} matrices")
    results: dict[int, EigenPairs | FloatingPointError] = {}
    searches = {row: _Search(operator, k, which, tol, generator) for row, generator in enumerate(generators)}
    steps = {row: search.run(max_matvecs) for row, search in searches.items()}
    wanted = {row: next(each) for row, each in steps.items()}
    rows = list(searches)  # of the stack, by their place in it now
    nothing = torch.zeros(operator.size, dtype=operator.dtype, device=operator.device)
    while wanted:
        if 2 * len(wanted) <= len(rows):
            operator = operator.subset([place for place, row in enumerate(rows) if row in wanted])
            rows = list(wanted)
        products = operator.matvec(torch.stack([wanted.get(row, nothing) for row in rows]))
        for row, product in zip(rows, products, strict=True):
            if row not in wanted:
                continue
            try:
                wanted[row] = steps[row].send(product)
                continue
            except StopIteration as end:
                results[row] = searches[row].result(end.value)
            except FloatingPointError as error:
                results[row] = error
            del wanted[row], steps[row], searches[row]  # and with it its vectors
    return [results[row] for row in sorted(results)]


def _check(size: int, k: int, which: Which, max_matvecs: int) -> None:
    if not 1 <= k <= size:
        raise ValueError(f"k: {k} must be between 1 and the operator's size {size}")
    if max_matvecs < k:
        raise ValueError(f"max_matvecs: {max_matvecs} is below k = {k}")
    order(torch.zeros(0), which)  # raises on a bad name before any work


@dataclass
class _Chain:
    """T of one chain of Lanczos vectors, on the host in float64."""

    alpha: Tensor
    beta: Tensor

    @property
    def steps(self) -> int:
        return len(self.alpha)

    def ritz(self) -> tuple[Tensor, Tensor, Tensor]:
        """Ritz values θ, coefficients S (a column each), and residual estimates β_m |s_mi|."""
        if not self.steps:
            return self.alpha, torch.zeros(0, 0, dtype=torch.float64), self.alpha
        off = self.beta[:-1]
        theta, s = torch.linalg.eigh(torch.diag(self.alpha) + torch.diag(off, 1) + torch.diag(off, -1))
        return theta, s, self.beta[-1] * s[-1].abs()


class _Search:
    """Locked pairs and the chain that grows beside them: vectors and their products with A, one a row, on the device.

    It knows of A the space of its vectors alone; :meth:`run` yields each q and is sent A q.

    Rows 0 … locked − 1 are locked Ritz vectors, the chain follows.
    """

    def __init__(
        self,
        space: VectorSpace,
        k: int,
        which: Which,
        tol: float,
        generator: torch.Generator,
    ) -> None:
        self.size, self.dtype, self.device = space.size, space.dtype, space.device
        self.k, self.which, self.tol, self.generator = k, which, tol, generator
        self.num_matvecs = 0
        self.scale = 0.0  # the largest entry of any T so far: within a factor 3 of |μ₁|
        self.locked = torch.zeros(0, dtype=torch.float64)  # their Rayleigh quotients
        self.chain = _Chain(torch.zeros(0, dtype=torch.float64), torch.zeros(0, dtype=torch.float64))
        self._looks: list[tuple[int, float]] = []  # steps of the chain, and its worst residual over its tolerance
        self._basis, self._products = self._empty(64), self._empty(64)

    # -- the search ---------------------------------------------------------------------------------------

    def run(self, max_matvecs: int) -> Generator[Tensor, Tensor, str]:
        """Grow and lock until the k wanted pairs are known; returns how it ended.

        Yields each q that A is to be multiplied with; what is sent back, A q, may be changed in place.
        """
        self._start_chain()
        window = SYNC_EVERY
        while self.num_matvecs < max_matvecs:
            left = self.size - self._rows
            window = yield from self._extend(min(window, left, max_matvecs - self.num_matvecs))
            converged = f"converged to {self.tol:g} after {self.num_matvecs} products"
            if self._rows == self.size:
                return "the Krylov space is the whole space"
            if not self._chain_is_done():
                window = min(window, self._steps_to_go())
                continue
            if len(self.locked) + self.chain.steps >= self.k and self._is_complete():
                return converged
            window = min(self.chain.steps, SYNC_EVERY)  # after an invariant space of few dimensions more such follow
            self._lock()
            self._start_chain()
        return f"stopped at the limit of {max_matvecs} products"

    def result(self, message: str) -> EigenPairs:
        """The k best pairs, converged or not, after :meth:`run` returned ``message``."""
        pairs = eigenpairs(
            *self.ritz(),
            which=self.which,
            tol=self.tol,
            num_matvecs=self.num_matvecs,
            message=message,
            scale=self.scale,
        )
        missing = self.k - int(pairs.converged.sum())
        if missing:
            message += f"; {missing} of {self.k} pairs have not converged"
        if missing and message.startswith("stopped"):
            message += ": raise max_matvecs or tol"
        return replace(padded(pairs, self.k), message=message)

    def _chain_is_done(self) -> bool:
        """Whether the chain is invariant, or has converged in what it is for."""
        if self.chain.beta[-1] == 0:
            return True
        for_ = self.k if not len(self.locked) else 1
        if self.chain.steps < for_:
            return False
        theta, _, estimates = self.chain.ritz()
        wanted = order(theta, self.which)[:for_]
        worst = float((estimates[wanted] / self._tolerances(theta[wanted])).max())
        self._looks = [*self._looks[-1:], (self.chain.steps, worst)]
        return worst <= 1

    def _steps_to_go(self) -> int:
        """A guess at when the chain will be done, from the last two looks: the worst residual falls geometrically."""
        if len(self._looks) < 2:
            return SYNC_EVERY
        (before, high), (now, low) = self._looks
        rate = math.log(high / low) / (now - before) if low < high else 0.0
        return max(1, math.ceil(math.log(low) / rate)) if rate > 0 else SYNC_EVERY

    def _is_complete(self) -> bool:
        """Whether nothing further out than the k best is left to find."""
        theta, _, _ = self.chain.ritz()
        if not len(self.locked):
            return not self._has_signs_of_copies(theta)
        if len(self.locked) < self.k:
            return False
        # A random start finds the outermost eigenvalue of all that is not locked: nothing further out remains.
        outermost = theta[order(theta, self.which)[0]]
        weakest = self.locked[order(self.locked, self.which)[self.k - 1]]
        slack = self._tolerances(outermost)
        return bool(distance(outermost, self.which) <= distance(weakest, self.which) + slack)

    def _has_signs_of_copies(self, theta: Tensor) -> bool:
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
        return len(self.locked) + self.chain.steps

    def _empty(self, rows: int) -> Tensor:
        return torch.empty(rows, self.size, dtype=self.dtype, device=self.device)

    def _reserve(self, rows: int) -> None:
        capacity = len(self._basis)
        if rows <= capacity:
            return
        for name in ("_basis", "_products"):
            grown = self._empty(max(rows, 2 * capacity))
            grown[:capacity] = getattr(self, name)
            setattr(self, name, grown)

    def _orthogonalise(self, w: Tensor, rows: int) -> Tensor:
        """One pass of classical Gram–Schmidt against the first ``rows`` rows, in place."""
        basis = self._basis[:rows]
        return w.addmv_(basis.T, basis @ w, alpha=-1)

    def _start_chain(self) -> None:
        """A random unit vector orthogonal to what is locked begins a new chain."""
        rows = len(self.locked)
        self._reserve(rows + 1)
        w = torch.randn(self.size, generator=self.generator, dtype=torch.float64)
        w = w.to(self.device, self.dtype)
        w /= torch.linalg.vector_norm(w)
        for _ in range(3):  # near the whole space little of w is left; each pass restores what the last one lost
            w = self._orthogonalise(w, rows)
            w /= torch.linalg.vector_norm(w)
        self._basis[rows] = w
        self.chain = _Chain(torch.zeros(0, dtype=torch.float64), torch.zeros(0, dtype=torch.float64))
        self._looks = []

    def _extend(self, steps: int) -> Generator[Tensor, Tensor, int]:
        """Take up to ``steps`` steps, with one host sync at their end; returns how many to take next.

        They are cut back to the first after which nothing is left (β → 0: the chain ends) or orthogonality suffered
        (mended there). After a mend the next look is after one step, then two, four, eight.
        """
        start = self._rows
        self._reserve(start + steps + 1)
        tiny = torch.finfo(self.dtype).tiny ** 0.5  # shorter vectors have squares that underflow
        scalars = []
        for row in range(start, start + steps):
            q = self._basis[row]
            w = yield q
            self._products[row] = w
            alpha = q.dot(w)
            w.sub_(q * alpha)
            if row > len(self.locked):  # β q_{m-1}, measured; with it the one full pass below is a second pass
                w.sub_(self._basis[row - 1] * self._basis[row - 1].dot(w))
            before = torch.linalg.vector_norm(w)
            w = self._orthogonalise(w, row + 1)
            beta = torch.linalg.vector_norm(w)
            self._basis[row + 1] = w / beta.clamp_min(tiny)
            scalars.append(torch.stack([alpha, beta, before]))
        self.num_matvecs += steps
        return self._settle(torch.stack(scalars).to("cpu", torch.float64), steps)

    def _settle(self, scalars: Tensor, steps: int) -> int:
        alpha, beta, before = scalars.T
        if not bool(torch.isfinite(alpha).all()):
            raise FloatingPointError(
                f"a product with the operator is not finite (product {self.num_matvecs} or before)"
            )
        self.scale = max(self.scale, float(torch.cat([alpha.abs(), beta]).max()))
        nothing = absolute_tolerance(self.tol, self.dtype, self.scale)
        suspects = torch.nonzero((beta <= nothing) | (beta < LOST_ACCURACY * before) | ~torch.isfinite(beta))
        taken = int(suspects[0]) + 1 if len(suspects) else steps
        self.chain = _Chain(torch.cat([self.chain.alpha, alpha[:taken]]), torch.cat([self.chain.beta, beta[:taken]]))
        if not len(suspects):
            return min(2 * steps, SYNC_EVERY)
        self._mend(nothing)
        return 1

    def _mend(self, nothing: float) -> None:
        """A second pass for the newest vector; where nothing is left of it, β = 0 ends the chain."""
        row = self._rows
        w = self._orthogonalise(self._basis[row].clone(), row)
        kept = float(torch.linalg.vector_norm(w))
        beta = float(self.chain.beta[-1]) * kept
        self.chain.beta[-1] = beta if beta > nothing else 0.0
        if beta > nothing:
            self._basis[row] = self._orthogonalise(w / kept, row)

    # -- Ritz pairs ---------------------------------------------------------------------------------------

    def ritz(self) -> tuple[Tensor, Tensor]:
        """V and A V, (≤ k, P) each, for the k best of all pairs, locked or not, converged or not."""
        return self._combine(self._coefficients(converged_only=False))

    def _lock(self) -> None:
        """Keep the k best of the locked pairs and the converged ones of the chain; drop all else."""
        vectors, products = self._combine(self._coefficients(converged_only=True))
        rows = len(vectors)
        self._basis[:rows], self._products[:rows] = vectors, products
        self.locked = (vectors * products).sum(1, dtype=torch.float64).cpu()

    def _coefficients(self, *, converged_only: bool) -> Tensor:
        """Orthonormal combinations (≤ k, rows) of the rows that are Ritz pairs of A on their span.

        The chain's own Ritz pairs come from T. What couples them to locked ones is only in A's projection onto both.
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
        rows = coefficients.shape[1]
        mix = coefficients.to(self.dtype)
        return mix @ self._basis[:rows], mix @ self._products[:rows]


def _block_diagonal(ones: int, block: Tensor) -> Tensor:
    """The identity of size ``ones`` and then ``block`` along the diagonal."""
    full = torch.zeros(ones + block.shape[0], ones + block.shape[1], dtype=block.dtype)
    full[:ones, :ones] = torch.eye(ones, dtype=block.dtype)
    full[ones:, ones:] = block
    return full
