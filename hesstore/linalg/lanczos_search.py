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
from dataclasses import dataclass, replace
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
from hesstore.linalg.copy_search import CopySearch
from hesstore.linalg.known_products import KnownProducts
from hesstore.linalg.tridiagonal import Tridiagonal, empty
from hesstore.linalg.vector_rows import VectorRows

if TYPE_CHECKING:
    from torch import Tensor

    from hesstore.linalg.operators import Images, VectorSpace

SEARCH_STEPS, BOUND_STEPS = 4, 2
"""Steps between two inspections of T, in the first chain and in a complement: an inspection waits for the device."""

LOST_ACCURACY = 0.1
"""If orthogonalisation shrinks a vector below this fraction of its length, it needs a second pass."""

REMEMBERED_SIZE = 4096
"""Up to this P all products are remembered."""

MAX_BOUND_STEPS = 128
"""Steps after which a chain that finds nothing further out ends, whatever bound it has reached."""

COUPLING_SHARE = 0.75
"""Fraction of slack and tolerance that may be spent on locking pairs that have not converged: `_worth_locking`."""

PROMISING = 5
"""An image is kept as a copy if its residual norm is within this many tolerances."""

MAX_REFINEMENTS = 4
"""Number of times that pairs which have not converged after locking are refined along their residuals."""

ASYMMETRY = 1e3
"""u·Av and v·Au of a symmetric A differ by less than this many ε of its norm, which is rounding."""


LOG=[];RND=[]
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

    def __init__(
        self,
        space: VectorSpace,
        goal: Goal,
        generator: torch.Generator,
        images: Images | None = None,
        known: Tensor | None = None,
    ) -> None:
        self.size, self.dtype, self.device = space.size, space.dtype, space.device
        self.goal, self.generator = goal, generator
        self.num_matvecs = 0
        self.ending: Ending | None = None
        self._unit = 1.0  # the power of two by which products are divided: their squares must be finite and not zero
        self._scale = 0.0  # the largest entry or Ritz value of any T so far, nearly |μ₁|
        self._rows = VectorRows(space)
        self._locked, self._residual_norms = empty(), empty()
        self._chain = Tridiagonal()
        self._new_steps: list[Tensor] = []  # (α, β) of the steps since the last inspection, on the device
        self._window = SEARCH_STEPS
        self._bound = math.inf
        self._complements = 0  # chains that started in the complement of locked pairs
        self._first_product: tuple[Tensor, Tensor] | None = None
        self._memory = KnownProducts(self.size, self.dtype, self.device) if self.size <= REMEMBERED_SIZE else None
        self._copies = CopySearch(images, generator, space) if images is not None and images.levels else None
        self._image: Tensor | None = None  # a vector that may belong to a copy; the chain waits for its product
        self._asked = 0  # pairs of the chain whose images have been asked for
        self._extra = self._multiplied = 0  # vectors after the locked ones, and how many of them have products
        self._refinements = 0
        if known is None or not len(known):
            self._start_chain()
        else:
            self._add_extra(torch.linalg.qr(known.double().T)[0].T.to(self.dtype))
        self.wanted = self._next_vector

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
            self.wanted = self._next_vector
            return
        self._memory.add(self.wanted, product)
        while self.ending is None:
            if self._memory.is_whole:
                self._solve(self._memory)
                return
            direction = self._memory.new_direction(self._next_vector)
            if direction is not None:
                self.wanted = direction
                return
            self._advance(self._memory.product(self._next_vector))

    @property
    def _next_vector(self) -> Tensor:
        """The vector whose product is needed next, unless that is known already."""
        return self._rows.vectors(self._row + 1)[-1] if self._image is None else self._image

    @property
    def _row(self) -> int:
        """The row of the next vector."""
        return len(self._locked) + self._multiplied + self._chain.steps + len(self._new_steps)

    def _advance(self, product: Tensor) -> None:
        """Use the product of the next vector."""
        is_last = self.num_matvecs == self.goal.max_matvecs
        if self._extra:
            self._take_extra(product, is_last=is_last)
        elif self._copies and self._image is not None:
            self._take_image(self._copies, self._image, product)
        else:
            self._step(product)
            if len(self._new_steps) == self._window or is_last:
                self._update_chain()
                self._decide()
        if is_last and self.ending is None:
            self.ending = Ending.PRODUCT_LIMIT

    def _solve(self, memory: KnownProducts) -> None:
        """A is known as a whole: its Ritz pairs are its eigenpairs."""
        self._chain, self._new_steps = Tridiagonal(), []
        self._rows.replace(memory.vectors, memory.products)
        projection = memory.vectors @ memory.products.T
        self._check_finite(projection)
        self._scale = float(projection.abs().max())
        self._check_symmetry(float((projection - projection.T).abs().max()))
        self._locked = projection.diagonal().double().cpu()
        self.ending = Ending.WHOLE_MATRIX

    def _add_extra(self, vectors: Tensor) -> None:
        """Multiply ``vectors`` (n, P), which are orthogonal to the locked ones, before anything else."""
        self._chain, self._extra, self._multiplied = Tridiagonal(), len(vectors), 0
        rows = len(self._locked) + self._extra
        self._rows.reserve(rows)
        self._rows.vectors(rows)[len(self._locked) :] = vectors

    def _take_extra(self, product: Tensor, *, is_last: bool) -> None:
        """Take the product of such a vector; after the last one, keep the best pairs on the span of all."""
        self._rows.products(self._row + 1)[-1] = product
        self._multiplied += 1
        if self._multiplied == self._extra or is_last:
            rows, self._extra, self._multiplied = self._row, 0, 0
            self._lock(rows)

    # -- one chain ----------------------------------------------------------------------------------------

    def _start_chain(self) -> None:
        """Start a chain from a random unit vector orthogonal to the locked ones."""
        rows = len(self._locked)
        self._rows.reserve(rows + 1)
        w = torch.randn(self.size, generator=self.generator, dtype=torch.float64).to(self.device, self.dtype)
        self._rows.vectors(rows + 1)[-1] = self._rows.unit(w, rows)
        # Invariant spaces of few dimensions tend to follow each other: inspect the next chain as soon.
        steps = BOUND_STEPS if rows >= self.goal.k else SEARCH_STEPS
        self._window = min(self._chain.steps or steps, steps)
        self._chain, self._bound = Tridiagonal(), math.inf
        self._complements += rows > 0
        self._asked = self._refinements = 0
        if self._copies:
            self._copies.restart(self._rows.vectors(rows), self._rows.products(rows))

    def _step(self, w: Tensor) -> None:
        """Compute α, β and the next vector from A q = ``w``, without waiting for a GPU."""
        rows, row, tiny = self._rows, self._row, torch.finfo(self.dtype).tiny
        rows.reserve(row + 2)
        rows.products(row + 1)[-1] = w
        vectors = rows.vectors(row + 2)
        q = vectors[row]
        if row == len(self._locked):
            self._compare_with_first_product(q, w)
        alpha = q.dot(w)
        w.sub_(q * alpha)
        if row > len(self._locked):  # the measured β_{m-1} q_{m-1}: with it, the full pass below is a second pass
            w.sub_(vectors[row - 1] * vectors[row - 1].dot(w))
        before = torch.linalg.vector_norm(w)
        w = rows.orthogonalise(w, row + 1)
        beta = torch.linalg.vector_norm(w)
        w = w / beta.clamp_min(tiny)
        if w.device.type != "cpu" or float(beta) < LOST_ACCURACY * float(before):  # a GPU does not wait for the answer
            w = rows.orthogonalise(w, row + 1)
            kept = torch.linalg.vector_norm(w)
            w, beta = w / kept.clamp_min(tiny), beta * kept
        vectors[row + 1] = w
        self._new_steps.append(torch.stack([alpha, beta]))

    def _update_chain(self) -> None:
        """Append the new steps to T. A chain ends at the first β that is rounding, which becomes zero."""
        alpha, beta = torch.stack(self._new_steps).to("cpu", torch.float64).T
        self._new_steps = []
        self._check_finite(torch.cat([alpha, beta]))
        self._scale = max(self._scale, float(torch.cat([alpha.abs(), beta]).max()))
        self._chain = self._chain.extended(alpha, torch.where(beta <= self._rounding, 0.0, beta))
        self._scale = max(self._scale, float(self._chain.ritz[0].abs().max()))

    # -- decisions ----------------------------------------------------------------------------------------

    def _decide(self) -> None:
        """End the search, lock pairs and start another chain, try an image, or let the chain grow."""
        has_all = len(self._locked) >= self.goal.k
        if has_all:
            self._bound = self._bound_of_chain()
            if self._bound <= self._weakest + max(self.goal.slack * abs(self._weakest), self._rounding):
                self.ending = Ending.COMPLETE
                return
        chain = self._chain
        if has_all and (chain.is_invariant or chain.steps >= MAX_BOUND_STEPS) and not self._has_news():
            self.ending = Ending.LOOSE_BOUND
        elif self._copies and self._try_image(self._copies):
            pass
        elif chain.is_invariant or self._has_converged():
            theta, s, estimates = chain.ritz
            self._lock(self._append(s[:, self._worth_locking(theta, estimates, torch.cat([self._locked, self._copy_values]))]))
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
        return 0.7*tolerances(theta, self.goal.tol, self.dtype, scale=self._scale)

    def _further_out(self, theta: Tensor) -> Tensor:
        """Which Ritz values of the chain lie further out than the k-th locked eigenvalue."""
        return self._distance(theta) > self._weakest + self._tolerances(theta)

    def _has_news(self) -> bool:
        """Whether the chain has found anything that lies further out than the k locked pairs."""
        return bool(self._further_out(self._chain.ritz[0]).any())

    @property
    def _copy_values(self) -> Tensor:
        """The eigenvalues of the copies that were found from images."""
        if not self._copies or not self._copies.found:
            return empty()
        vectors, products = self._copies.copies
        return (vectors * products).sum(1, dtype=torch.float64).cpu()

    def _has_converged(self) -> bool:
        """Whether all Ritz pairs of the chain that belong to the k outermost have converged, and there are such."""
        theta, _, estimates = self._chain.ritz
        found = self._among_outermost(theta)
        return len(found) > 0 and bool((estimates[found] <= self._tolerances(theta[found])).all())

    def _among_outermost(self, theta: Tensor) -> Tensor:
        """The places of the Ritz values of the chain among the k outermost of all; the outermost first."""
        outward, k = order(theta, self.goal.which), self.goal.k
        if len(self._locked) >= k and not len(self._copy_values):
            return outward[self._further_out(theta[outward])]
        known = torch.cat([self._locked, self._copy_values, theta])
        if len(known) < k:
            return outward[:0]
        weakest = self._distance(known).sort(descending=True).values[k - 1]
        return outward[self._distance(theta[outward]) >= weakest]

    # -- images of eigenvectors ---------------------------------------------------------------------------

    def _try_image(self, copies: CopySearch) -> bool:
        """Try an image of a pair of the chain that has converged, along with all that lie further out."""
        theta, s, estimates = self._chain.ritz
        outward = order(theta, self.goal.which)
        converged = estimates <= self._tolerances(theta)
        count = int(converged[outward].long().cumprod(0).sum())
        known = self._distance(torch.cat([self._locked, self._copy_values, theta[outward[:count]]]))
        if len(known) >= self.goal.k:  # copies of the k-th would change nothing
            weakest = known.sort(descending=True).values[self.goal.k-1]
            tol = self._tolerances(theta[outward])
            count = min(count, int((self._distance(theta[outward]) > weakest + tol).sum()))
        if count > self._asked:
            copies.add(*self._ritz_vectors(s[:, outward[self._asked : count]]))
            self._asked = count
        image = copies.next_image()
        self._image = image
        return image is not None

    def _take_image(self, copies: CopySearch, image: Tensor, product: Tensor) -> None:
        """Keep an image as a copy if its residual norm is small."""
        theta = image.dot(product)
        residual = float(torch.linalg.vector_norm(product - theta * image))
        value = theta.double().cpu()[None]
        self._check_finite(value)
        LOG.append((1,float(theta),residual if residual <= PROMISING * float(self._tolerances(value)) else -residual))
        if residual <= PROMISING * float(self._tolerances(value)):
            copies.accept(image, product)
        else:
            copies.reject()
        self._image = None
        self._decide()

    def _bound_of_chain(self) -> float:
        """The distance beyond which no eigenvalue but the locked ones lies, with the probability of the chain."""
        # Over all chains the probabilities of a wrong bound add up to η.
        eta = self.goal.eta / (self._complements * (self._complements + 1))
        signs = {"LM": (1, -1), "LA": (1,), "SA": (-1,)}[self.goal.which]
        delta = smallest_component(self.size - len(self._locked), eta / len(signs))
        theta, beta = self._chain.ritz[0].numpy(), self._chain.beta.numpy()
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

    def _ritz_vectors(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """Ritz vectors of the chain and their products, from their coefficients (steps, n)."""
        coefficients = torch.nn.functional.pad(s.T, (len(self._locked), 0))
        return self._rows.combine(coefficients)

    def _append(self, s: Tensor) -> int:
        """Put Ritz vectors of the chain, and the copies, after the locked rows; return the number of rows."""
        vectors, products = self._ritz_vectors(s)
        rows, first = self._rows, len(self._locked)
        rows.reserve(first + len(vectors))
        count = first + len(vectors)
        rows.vectors(count)[first:], rows.products(count)[first:] = vectors, products
        return rows.append_independent(count, *self._copies.copies) if self._copies else count

    def _lock(self, count: int) -> None:
        """Lock the best pairs on the span of the first ``count`` rows. Refine them if necessary, or start a chain."""
        RND.append((self._chain.steps,len(self._locked),self._copies and self._copies.found, count, self._refinements))
        self._rows.ritz_pairs(count, self.goal.which)
        vectors, products = self._rows.vectors(count), self._rows.products(count)
        values = (vectors * products).sum(1, dtype=torch.float64).cpu()
        self._check_finite(values)
        self._scale = max(self._scale, float(values.abs().max()))
        residuals = products.addcmul(vectors, values.to(vectors)[:, None], value=-1)
        norms = torch.linalg.vector_norm(residuals, dim=1, dtype=torch.float64).cpu()
        k = self.goal.k
        loose = (norms > self._tolerances(values))[:k]
        if count >= k and bool(loose.any()) and self._refinements < MAX_REFINEMENTS:
            self._refinements += 1
            self._locked, self._residual_norms = values, norms
            self._add_extra(self._orthonormal(residuals[:k][loose.to(self.device)]))
            return
        kept = self._worth_locking(values, norms, empty())
        self._locked, self._residual_norms = values[kept], norms[kept]
        self._rows.replace(vectors[kept.to(self.device)], products[kept.to(self.device)])
        self._start_chain()

    def _orthonormal(self, directions: Tensor) -> Tensor:
        """Orthonormal vectors in the span of ``directions`` (n, P), orthogonal to the locked ones."""
        locked = self._rows.vectors(len(self._locked))
        directions = directions / torch.linalg.vector_norm(directions, dim=1, keepdim=True)
        for _ in range(2):
            directions = directions - (directions @ locked.T) @ locked
            directions = torch.linalg.qr(directions.T)[0].T
        return directions

    def _worth_locking(self, values: Tensor, residual_norms: Tensor, others: Tensor) -> Tensor:
        """Which Ritz pairs to lock: the converged ones, and others that make the next bound easier.

        A locked pair with residual norm r that lies behind the k-th raises the bound x by r² / (x − μ), see
        :mod:`~hesstore.linalg.certificate`, and adds as much to the residual norms of pairs that are found later. In
        return the complement no longer contains it, and its chain converges in fewer steps. So pairs are locked, the
        cheapest first, until this cost reaches a fraction of the slack, or of the tolerance if that is smaller.

        Parameters
        ----------
        values, residual_norms : Tensor
            (n,) the Ritz values and the norms of their residuals, or estimates of them.
        others : Tensor
            Eigenvalues that will be locked, too.
        """
        converged = residual_norms <= self._tolerances(values)
        found = self._distance(torch.cat([others, values[converged]]))
        if len(found) < self.goal.k:
            return converged
        weakest = float(found.sort(descending=True).values[self.goal.k - 1])
        allowed = min(self.goal.slack, self.goal.tol) * abs(weakest)
        behind = self._distance(values) < weakest
        cost = torch.where(behind, residual_norms.square() / (weakest + allowed - self._distance(values)), torch.inf)
        cheapest = cost.argsort()
        chosen = converged & ~behind
        chosen[cheapest[cost[cheapest].cumsum(0) <= COUPLING_SHARE * allowed]] = True
        return chosen

    # -- the result ---------------------------------------------------------------------------------------

    def result(self) -> EigenPairs:
        """The k outermost pairs, converged or not, after the search has ended."""
        theta, s, _ = self._chain.ritz
        if len(self._locked) >= self.goal.k:  # other pairs of the chain would only blur locked copies of their value
            chosen = self._further_out(theta)
        else:
            chosen = order(theta, self.goal.which)[: self.goal.k]
        count = self._append(s[:, chosen])
        self._rows.ritz_pairs(count, self.goal.which)
        count = min(count, self.goal.k)
        pairs = eigenpairs(
            self._rows.vectors(count),
            self._rows.products(count),
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
