"""The search behind :func:`~hesstore.linalg.lanczos.lanczos`: chains of Lanczos vectors, and locked pairs.

A search knows nothing of the operator. :attr:`LanczosSearch.wanted` is the vector whose product it needs next, and
:meth:`LanczosSearch.take` takes the product. So many searches can share one operator.

The first chain starts from a random vector and ends when the k outermost Ritz pairs have converged. A chain contains
one copy of each eigenvalue, and only those that its start vector has a component along. Therefore the converged pairs
are locked, and a new chain starts from a random vector in their complement. It ends in one of two ways. Either it has
found pairs that lie further out than the k locked ones: then these are locked too, and another chain follows. Or its
bound (:mod:`~hesstore.linalg.certificate`) shows that no further ones exist.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import TYPE_CHECKING

import torch

from hesstore.linalg.certificate import bound_outside, smallest_component, upper_bound
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
from hesstore.linalg.known_products import KnownProducts

if TYPE_CHECKING:
    from torch import Tensor

    from hesstore.linalg.operators import VectorSpace

SEARCH_STEPS, BOUND_STEPS = 4, 2
"""Steps between two inspections of T, in the first chain and in a complement: an inspection waits for the device."""

LOST_ACCURACY = 0.1
"""If orthogonalisation shrinks a vector below this fraction of its length, it needs a second pass."""

REMEMBERED_SIZE = 4096
"""Up to this P all products are remembered."""

MAX_BOUND_STEPS = 128
"""Steps after which a chain that finds nothing further out ends, whatever bound it has reached."""

COUPLING_SHARE = 0.75
"""Fraction of slack and tolerance that may be spent on locking pairs that have not converged: `_pairs_to_lock`."""

ASYMMETRY = 1e3
"""u·Av and v·Au of a symmetric A differ by less than this many ε of its norm, which is rounding."""


class Ending(Enum):
    """How a search ended."""

    COMPLETE = auto()
    WHOLE_MATRIX = auto()
    LOOSE_BOUND = auto()
    PRODUCT_LIMIT = auto()


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What a search is for; see :func:`~hesstore.linalg.lanczos.lanczos`."""

    k: int
    which: Which
    tol: float
    max_matvecs: int
    eta: float
    slack: float


def _empty() -> Tensor:
    return torch.zeros(0, dtype=torch.float64)


@dataclass
class _Chain:
    """T of one chain of Lanczos vectors, on the host in float64: its diagonal α and its off-diagonal β."""

    alpha: Tensor = field(default_factory=_empty)
    beta: Tensor = field(default_factory=_empty)

    @property
    def steps(self) -> int:
        """m, the number of steps taken."""
        return len(self.alpha)

    def extended(self, alpha: Tensor, beta: Tensor) -> _Chain:
        """The chain after further steps."""
        return _Chain(torch.cat([self.alpha, alpha]), torch.cat([self.beta, beta]))

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
    the vectors of the chain, then the next vector.

    Parameters
    ----------
    space : VectorSpace
        Size, precision and device of the vectors.
    goal : Goal
        What is searched for.
    generator : torch.Generator
        CPU generator of the start vectors.
    known : Tensor, optional
        (n, P) approximate eigenvectors, which are multiplied with A and locked before the first chain starts.

    Attributes
    ----------
    wanted : Tensor
        (P,) the unit vector whose product with A is needed next.
    ending : Ending or None
        How the search ended; None until then.
    """

    def __init__(self, space: VectorSpace, goal: Goal, generator: torch.Generator, known: Tensor | None = None) -> None:
        self.size, self.dtype, self.device = space.size, space.dtype, space.device
        self.goal, self.generator = goal, generator
        self.num_matvecs = 0
        self.ending: Ending | None = None
        self._unit = 1.0  # the power of two by which products are divided: their squares must be finite and not zero
        self._scale = 0.0  # the largest entry of any T so far: within a factor 3 of |μ₁|
        self._bound = math.inf
        self._complements = 0  # chains that started in the complement of locked pairs
        self._locked, self._residual_norms = _empty(), _empty()
        self._chain = _Chain()
        self._new_steps: list[Tensor] = []  # (α, β) of the steps since the last inspection, on the device
        self._window = SEARCH_STEPS
        self._first_product: tuple[Tensor, Tensor] | None = None
        self._basis, self._products = self._rows(64), self._rows(64)
        self._memory = KnownProducts(self.size, self.dtype, self.device) if self.size <= REMEMBERED_SIZE else None
        self._given = self._multiplied = 0  # approximate eigenvectors, and how many of them have products
        if known is None or not len(known):
            self._start_chain()
        else:
            self._given = len(known)
            self._reserve(self._given + 1)
            self._basis[: self._given] = torch.linalg.qr(known.double().T)[0].T.to(self._basis)
        self.wanted = self._basis[0]

    # -- products -----------------------------------------------------------------------------------------

    def take(self, product: Tensor) -> None:
        """Take the product of A with the vector that was :attr:`wanted`; the tensor may be changed in place.

        Raises
        ------
        FloatingPointError
            If a product is NaN or infinite, or if A is not symmetric.
        """
        if not self.num_matvecs:
            self._unit = _power_of_two(product)
        self.num_matvecs += 1
        product.div_(self._unit)
        if self._memory is None:
            self._advance(product)
            self.wanted = self._basis[self._row]
            return
        self._memory.add(self.wanted, product)
        while self.ending is None:
            if self._memory.is_whole:
                self._solve(self._memory)
                return
            q = self._basis[self._row]
            direction = self._memory.new_direction(q)
            if direction is not None:
                self.wanted = direction
                return
            self._advance(self._memory.product(q))

    def _solve(self, memory: KnownProducts) -> None:
        """A is known as a whole: its Ritz pairs are its eigenpairs."""
        self._chain, self._new_steps = _Chain(), []
        self._basis, self._products = memory.vectors, memory.products
        projection = self._basis @ self._products.T
        self._check_finite(projection)
        self._scale = float(projection.abs().max())
        self._check_symmetry(float((projection - projection.T).abs().max()))
        self._locked = projection.diagonal().double().cpu()
        self.ending = Ending.WHOLE_MATRIX

    # -- one chain ----------------------------------------------------------------------------------------

    @property
    def _row(self) -> int:
        """The row of the next vector."""
        return self._multiplied or len(self._locked) + self._chain.steps + len(self._new_steps)

    def _start_chain(self) -> None:
        """Start a chain from a random unit vector orthogonal to the locked ones."""
        rows = len(self._locked)
        self._reserve(rows + 1)
        w = torch.randn(self.size, generator=self.generator, dtype=torch.float64).to(self.device, self.dtype)
        w /= torch.linalg.vector_norm(w)
        for _ in range(3):  # little of w is left near the whole space; each pass restores what the last one lost
            w = self._orthogonalise(w, rows)
            w /= torch.linalg.vector_norm(w)
        self._basis[rows] = w
        self._chain, self._bound = _Chain(), math.inf
        self._complements += rows > 0

    def _advance(self, product: Tensor) -> None:
        """Take one step of the chain with the product of its newest vector, and inspect T when it is time."""
        if self._given:
            self._take_given(product)
            return
        self._step(product)
        if len(self._new_steps) == self._window or self.num_matvecs == self.goal.max_matvecs:
            self._update_chain()
            self._decide()

    def _take_given(self, product: Tensor) -> None:
        """Take the product of an approximate eigenvector that was given; lock them all after the last one."""
        self._products[self._multiplied] = product
        self._multiplied += 1
        if self._multiplied < min(self._given, self.goal.max_matvecs):
            return
        rows = slice(self._multiplied)
        self._locked = (self._basis[rows] * self._products[rows]).sum(1, dtype=torch.float64).cpu()
        self._check_finite(self._locked)
        self._scale = float(self._locked.abs().max())
        self._given = self._multiplied = 0
        self._lock()
        self._start_chain()
        if self.num_matvecs == self.goal.max_matvecs:
            self.ending = Ending.PRODUCT_LIMIT

    def _step(self, w: Tensor) -> None:
        """Compute α, β and the next vector from A q = ``w``, without waiting for a GPU."""
        row, tiny = self._row, torch.finfo(self.dtype).tiny
        self._reserve(row + 2)
        self._products[row] = w
        q = self._basis[row]
        if row == len(self._locked):
            self._compare_with_first_product(q, w)
        alpha = q.dot(w)
        w.sub_(q * alpha)
        if row > len(self._locked):  # the measured β_{m-1} q_{m-1}: with it, the full pass below is a second pass
            w.sub_(self._basis[row - 1] * self._basis[row - 1].dot(w))
        before = torch.linalg.vector_norm(w)
        w = self._orthogonalise(w, row + 1)
        beta = torch.linalg.vector_norm(w)
        w = w / beta.clamp_min(tiny)
        if w.device.type != "cpu" or float(beta) < LOST_ACCURACY * float(before):  # a GPU does not wait for the answer
            w = self._orthogonalise(w, row + 1)
            kept = torch.linalg.vector_norm(w)
            w, beta = w / kept.clamp_min(tiny), beta * kept
        self._basis[row + 1] = w
        self._new_steps.append(torch.stack([alpha, beta]))

    def _orthogonalise(self, w: Tensor, rows: int) -> Tensor:
        """Apply one pass of classical Gram–Schmidt against the first ``rows`` rows, in place."""
        basis = self._basis[:rows]
        return w.addmv_(basis.T, basis @ w, alpha=-1)

    def _update_chain(self) -> None:
        """Append the new steps to T. A chain ends at the first β that is rounding, which becomes zero."""
        alpha, beta = torch.stack(self._new_steps).to("cpu", torch.float64).T
        self._new_steps = []
        self._check_finite(torch.cat([alpha, beta]))
        self._scale = max(self._scale, float(torch.cat([alpha.abs(), beta]).max()))
        beta = torch.where(beta <= self._rounding, 0.0, beta)
        ends = torch.nonzero(beta == 0)
        taken = int(ends[0]) + 1 if len(ends) else len(beta)
        self._chain = self._chain.extended(alpha[:taken], beta[:taken])

    # -- decisions ----------------------------------------------------------------------------------------

    def _decide(self) -> None:
        """End the search, lock pairs and start another chain, or let the chain grow."""
        has_all = len(self._locked) >= self.goal.k
        if has_all:
            self._bound = self._bound_of_chain()
            if self._bound <= self._weakest + max(self.goal.slack * abs(self._weakest), self._rounding):
                self.ending = Ending.COMPLETE
                return
        is_invariant = bool(self._chain.beta[-1] == 0)
        if has_all and (is_invariant or self._chain.steps >= MAX_BOUND_STEPS) and not self._has_news():
            self.ending = Ending.LOOSE_BOUND
        elif is_invariant or self._has_converged():
            # Invariant spaces of few dimensions tend to follow each other: inspect the next chain as soon.
            steps = self._chain.steps
            self._lock()
            self._start_chain()
            self._window = min(steps, BOUND_STEPS if len(self._locked) >= self.goal.k else SEARCH_STEPS)
        if self.num_matvecs == self.goal.max_matvecs and self.ending is None:
            self.ending = Ending.PRODUCT_LIMIT

    @property
    def _rounding(self) -> float:
        """The magnitude below which a number cannot be distinguished from rounding."""
        return absolute_tolerance(self.goal.tol, self.dtype, self._scale)

    @property
    def _weakest(self) -> float:
        """The distance of the k-th locked eigenvalue."""
        return float(self._distance(self._locked).sort(descending=True).values[self.goal.k - 1])

    def _distance(self, values: Tensor) -> Tensor:
        return distance(values, self.goal.which)

    def _tolerances(self, theta: Tensor) -> Tensor:
        return tolerances(theta, self.goal.tol, self.dtype, scale=self._scale)

    def _further_out(self, theta: Tensor) -> Tensor:
        """Which Ritz values of the chain lie further out than the k-th locked eigenvalue."""
        return self._distance(theta) > self._weakest + self._tolerances(theta)

    def _has_news(self) -> bool:
        """Whether the chain has found anything that lies further out than the k locked pairs."""
        return bool(self._further_out(self._chain.ritz()[0]).any())

    def _has_converged(self) -> bool:
        """Whether the chain has found what is missing: as many pairs, or all that lie further out than the locked."""
        theta, _, estimates = self._chain.ritz()
        missing = self.goal.k - len(self._locked)
        if missing > self._chain.steps:
            return False
        found = order(theta, self.goal.which)[:missing] if missing > 0 else self._further_out(theta).nonzero()[:, 0]
        return len(found) > 0 and bool((estimates[found] <= self._tolerances(theta[found])).all())

    def _bound_of_chain(self) -> float:
        """The distance beyond which no eigenvalue but the locked ones lies, with the probability of the chain."""
        # Over all chains the probabilities of a wrong bound add up to η.
        eta = self.goal.eta / (self._complements * (self._complements + 1))
        signs = {"LM": (1, -1), "LA": (1,), "SA": (-1,)}[self.goal.which]
        delta = smallest_component(self.size - len(self._locked), eta / len(signs))
        theta, beta = self._chain.ritz()[0].numpy(), self._chain.beta.numpy()
        locked, residual_norms = self._locked.numpy(), self._residual_norms.numpy()
        return max(bound_outside(upper_bound(s * theta, beta, delta), s * locked, residual_norms) for s in signs)

    # -- checks -------------------------------------------------------------------------------------------

    def _check_finite(self, values: Tensor) -> None:
        if not bool(torch.isfinite(values).all()):
            raise FloatingPointError(
                f"a product with the operator is not finite (product {self.num_matvecs} or before)"
            )

    def _compare_with_first_product(self, v: Tensor, product: Tensor) -> None:
        """Check that u·Av = v·Au, where v starts this chain and u started the first one: both are random."""
        if self._first_product is None:
            self._first_product = v.clone(), product.clone()
        else:
            u, product_of_u = self._first_product
            self._check_symmetry(abs(float(u.dot(product)) - float(v.dot(product_of_u))))

    def _check_symmetry(self, difference: float) -> None:
        if difference > ASYMMETRY * torch.finfo(self.dtype).eps * self._scale:
            raise FloatingPointError(
                f"the operator is not symmetric: u·Av and v·Au differ by {difference / self._scale:.1g} of its norm"
            )

    # -- vectors and Ritz pairs ---------------------------------------------------------------------------

    def _rows(self, count: int) -> Tensor:
        return torch.empty(count, self.size, dtype=self.dtype, device=self.device)

    def _reserve(self, rows: int) -> None:
        """Make room for ``rows`` rows."""
        capacity = len(self._basis)
        if rows <= capacity:
            return
        for name in ("_basis", "_products"):
            larger = self._rows(max(rows, 2 * capacity))
            larger[:capacity] = getattr(self, name)
            setattr(self, name, larger)

    def _lock(self) -> None:
        """Replace all rows by Ritz pairs: those of the locked rows and of the chain's pairs that are to be locked."""
        values, s, estimates = self._chain.ritz()
        chosen = self._pairs_to_lock(values, estimates)
        vectors, products = self._combine(self._ritz_coefficients(values[chosen], s[:, chosen]))
        rows = len(vectors)
        self._basis[:rows], self._products[:rows] = vectors, products
        self._locked = (vectors * products).sum(1, dtype=torch.float64).cpu()
        residuals = products.addcmul(vectors, self._locked.to(vectors)[:, None], value=-1)
        self._residual_norms = torch.linalg.vector_norm(residuals, dim=1, dtype=torch.float64).cpu()

    def _pairs_to_lock(self, values: Tensor, estimates: Tensor) -> Tensor:
        """Which Ritz pairs of the chain are locked: the converged ones, and others that make the next bound easier.

        A locked pair with residual norm r that lies behind the k-th raises the bound x by r² / (x − μ), see
        :mod:`~hesstore.linalg.certificate`, and adds as much to the residual norms of pairs that are found later. In
        return the complement no longer contains it, and its chain converges in fewer steps. So pairs are locked, the
        cheapest first, until this cost reaches a fraction of the slack, or of the tolerance if that is smaller.
        """
        converged = estimates <= self._tolerances(values)
        found = self._distance(torch.cat([self._locked, values[converged]]))
        if len(found) < self.goal.k:
            return converged
        weakest = float(found.sort(descending=True).values[self.goal.k - 1])
        allowed = min(self.goal.slack, self.goal.tol) * abs(weakest)
        behind = self._distance(values) < weakest
        cost = torch.where(behind, estimates.square() / (weakest + allowed - self._distance(values)), torch.inf)
        cheapest = cost.argsort()
        chosen = converged & ~behind
        chosen[cheapest[cost[cheapest].cumsum(0) <= COUPLING_SHARE * allowed]] = True
        return chosen

    def _ritz_coefficients(self, values: Tensor, s: Tensor) -> Tensor:
        """Coefficients (n, rows) of the Ritz pairs of A on the span of locked rows and Ritz vectors of the chain.

        The chain's own Ritz pairs come from T. Only the projection of A onto both couples them to the locked ones.

        Parameters
        ----------
        values, s : Tensor
            Ritz values (n,) and coefficients (steps, n) of the chain's pairs.
        """
        basis = torch.block_diag(  # type: ignore[no-untyped-call]
            torch.eye(len(self._locked), dtype=s.dtype), s
        ).to(self.device)
        if len(self._locked):
            small = basis.to(self.dtype)
            rows = len(basis)
            projection = (small.T @ (self._basis[:rows] @ self._products[:rows].T) @ small).double()
            values, mix = torch.linalg.eigh((projection + projection.T) / 2)
            basis = basis @ mix
        coefficients: Tensor = basis[:, order(values, self.goal.which).to(basis.device)].T
        return coefficients

    def _combine(self, coefficients: Tensor) -> tuple[Tensor, Tensor]:
        """Combinations of the rows, and their products with A."""
        rows = coefficients.shape[1]
        mix = coefficients.to(self.dtype)
        return mix @ self._basis[:rows], mix @ self._products[:rows]

    # -- the result ---------------------------------------------------------------------------------------

    def result(self) -> EigenPairs:
        """The k outermost pairs, converged or not, after the search has ended."""
        values, s, _ = self._chain.ritz()
        if len(self._locked) >= self.goal.k:  # other pairs of the chain would only blur locked copies of their value
            found = self._further_out(values)
            values, s = values[found], s[:, found]
        pairs = eigenpairs(
            *self._combine(self._ritz_coefficients(values, s)[: self.goal.k]),
            which=self.goal.which,
            tol=self.goal.tol,
            num_matvecs=self.num_matvecs,
            message="",
            scale=self._scale,
        )
        bound = float(self._distance(pairs.eigenvalues)[-1]) if self.ending == Ending.WHOLE_MATRIX else self._bound
        bound *= -self._unit if self.goal.which == "SA" else self._unit
        pairs = replace(
            pairs,
            eigenvalues=pairs.eigenvalues * self._unit,
            residual_norms=pairs.residual_norms * self._unit,
            bound=bound,
            message=self._message(self.goal.k - int(pairs.converged.sum()), bound),
        )
        return padded(pairs, self.goal.k)

    def _message(self, unconverged: int, bound: float) -> str:
        """How the search ended, in a sentence. A search can be complete although some pairs have not converged."""
        goal, count = self.goal, self.num_matvecs
        further = f": further eigenvalues up to {bound:.3g} are possible" if math.isfinite(bound) else ""
        said = {
            Ending.COMPLETE: f"complete to {goal.slack:.2g} after {count} products",
            Ending.WHOLE_MATRIX: f"complete: the whole matrix is known after {count} products",
            Ending.LOOSE_BOUND: f"not complete to {goal.slack:.2g} after {count} products{further}",
            Ending.PRODUCT_LIMIT: f"stopped at the limit of {count} products{further}",
            None: "not ended",
        }[self.ending]
        return said + (f"; {unconverged} of {goal.k} pairs have not converged" if unconverged else "")


def _power_of_two(product: Tensor) -> float:
    """The power of two nearest to the largest entry of a product; 1 if that is zero or not finite."""
    largest = float(product.abs().max())
    return 2.0 ** round(math.log2(largest)) if 0 < largest < math.inf else 1.0
