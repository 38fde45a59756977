"""The search behind :func:`~hesstore.linalg.lanczos.lanczos`: chains of Lanczos vectors, and locked pairs.

A search knows nothing of the operator. :attr:`LanczosSearch.wanted` is the vector whose product it needs next, and
:meth:`LanczosSearch.take` takes the product. So many searches can share one operator, and those whose chains grow can
take a step together (:mod:`~hesstore.linalg.search_stack`).

The first chain starts from a random vector and ends when its pairs among the k outermost have converged. A chain
contains one copy of each eigenvalue, and only those that its start vector has a component along. Other copies may be
found from images of the pairs that have converged (:mod:`~hesstore.linalg.copy_search`). All these pairs are locked,
and a new chain starts from a random vector in their complement. It ends in one of two ways. Either it has found pairs
that lie further out than the k locked ones: then these are locked too, and another chain follows. Or its bound
(:mod:`~hesstore.linalg.chain_bound`) shows that no further ones exist.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from hesstore.linalg.arnoldi_relation import ArnoldiRelation
from hesstore.linalg.chain_bound import ChainBound, part_of_eta
from hesstore.linalg.copy_search import CopySearch
from hesstore.linalg.criteria import Criteria
from hesstore.linalg.eigenpairs import EigenPairs, eigenpairs, padded
from hesstore.linalg.endings import Ending, ending_message
from hesstore.linalg.known_products import KnownProducts
from hesstore.linalg.lanczos_step import next_vector
from hesstore.linalg.long_sums import inner_products
from hesstore.linalg.tridiagonal import Tridiagonal, empty
from hesstore.linalg.vector_rows import VectorRows

if TYPE_CHECKING:
    from torch import Tensor

    from hesstore.linalg.criteria import Goal
    from hesstore.linalg.operators import Images, VectorSpace

SEARCH_STEPS, BOUND_STEPS = 4, 2
"""Steps between two inspections of T, which wait for the device: the most while there is little news; and those of a
chain in a complement at its start, and as long as it has found something beyond the bound that is needed."""

REMEMBERED_SIZE = 4096
"""Up to this P all products are remembered."""

ZERO_BOUND_STEPS = 16
"""Steps after which a chain that finds nothing new ends if the k-th largest magnitude is zero to rounding: no chain can
show more."""

PROMISING = 10
"""An image is kept if its residual norm with the eigenvalue of its source is within this many tolerances."""

TOO_FAR, MAX_RESTARTS = 0.03, 8
"""A locked pair with a larger residual norm, relative to its eigenvalue, is not refined: it is a mixture with
eigenvectors that are not known yet, and a chain that starts from it finds them in fewer products. There are at most so
many of these chains."""

PATIENCE = 8
"""Locked pairs that have not converged are refined, each time by one product for each pair, until so many times in
succession have not reduced their residual norms."""

ASYMMETRY = 1e3
"""u·Av and v·Au of a symmetric A differ by less than this many ε of its norm, which is rounding."""


class LanczosSearch:
    """The locked pairs and the chain that currently grows.

    The vectors are kept on the device: first the locked Ritz vectors, along with their products with A, then the
    vectors of the chain, then the next vector.

    Parameters
    ----------
    space : VectorSpace
        Size, precision and device of the vectors.
    goal : Goal
        What is searched for.
    generator : torch.Generator
        CPU generator of the start vectors.
    images : Images, optional
        Maps that nearly commute with A.
    known : Tensor, optional
        (n, P) approximate eigenvectors, which are multiplied with A and locked before the first chain starts.
    rows : VectorRows, optional
        Where the vectors are kept; memory of its own by default.

    Attributes
    ----------
    num_matvecs : int
        Number of products so far.
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
        rows: VectorRows | None = None,
    ) -> None:
        self.space, self.generator = space, generator
        self.num_matvecs = 0
        self.ending: Ending | None = None
        self._criteria = Criteria(goal, space.dtype)
        self._rows = rows or VectorRows(space)
        self._locked, self._residual_norms = empty(), empty()
        self._chain, self._relation = Tridiagonal(), ArnoldiRelation(space)
        self._new_steps = 0  # steps since the last inspection
        self._window = SEARCH_STEPS
        self._bound = self._earlier_bound = math.inf  # the second is that of all chains before this one
        self._complements = 0  # chains that started in the complement of locked pairs
        self._first_chain: Tridiagonal | None = None  # from a random vector in the whole space, unless it is invariant
        self._first_product: tuple[Tensor, Tensor] | None = None
        small = space.size <= REMEMBERED_SIZE
        self._memory = KnownProducts(space.size, space.dtype, space.device) if small else None
        self._direction: Tensor | None = None  # with such a memory, the vector whose product is needed next
        self._free_steps = 0  # steps that took a product from the memory
        self._copies = CopySearch(images, generator, space) if images is not None and images.levels else None
        self._image: Tensor | None = None  # a vector that may belong to a copy; the chain waits for its product
        self._asked = empty()  # the Ritz values of the pairs of the chain whose images have been asked for
        self._least = -math.inf  # the distance beyond which copies are wanted
        self._extra = self._multiplied = 0  # vectors after the locked ones, and how many of them have products
        # The residual norms of the pairs that are refined: their sum, in tolerances, each time.
        self._misses: list[float] = []
        self._restarts = 0  # chains that started from locked pairs instead of refining these
        self._next_ending: Ending | None = None  # the ending of the search after refinements
        if known is None or not len(known):
            self._start_chain()
        else:
            self._add_extra(torch.linalg.qr(known.double().T)[0].T.to(space.dtype))

    @property
    def goal(self) -> Goal:
        """What is searched for."""
        return self._criteria.goal

    def aim(self, goal: Goal) -> None:
        """Continue, after the end of the search, towards another goal from the locked pairs and the chain."""
        self._criteria.goal = goal
        if self.ending is Ending.WHOLE_MATRIX:
            return
        self.ending = self._next_ending = None
        self._misses = []
        self._bound = self._bound_of_first_chain()  # those of other chains were for the earlier goal
        self._earlier_bound = self._bound
        self._forget_copies()
        loose = self._are_loose(self._locked, self._residual_norms)
        if self.num_matvecs >= goal.max_matvecs:
            self.ending = Ending.PRODUCT_LIMIT
        elif bool(loose.any()) and goal.bound_steps:  # otherwise they are refined, which keeps the bound
            self._start_from(loose)
        elif self._has_close_bound():
            self._end(Ending.COMPLETE)
        elif self._chain.steps:
            self._decide()
        else:
            self._start_chain()
        self._find_direction()

    # -- products -----------------------------------------------------------------------------------------

    @property
    def wanted(self) -> Tensor:
        """(P,) the unit vector whose product with A is needed next."""
        return self._next_vector if self._direction is None else self._direction

    def take(self, product: Tensor) -> None:
        """Take the product of A with the vector that was :attr:`wanted`; the tensor may be changed in place.

        Raises
        ------
        FloatingPointError
            If a product is NaN or infinite, or if A is not symmetric.
        """
        if not self.num_matvecs:
            self.set_unit(float(product.abs().max()))
        self.num_matvecs += 1
        product.div_(self.unit)
        if self._memory is None:
            self._advance(product)
        else:
            self._memory.add(self.wanted, product)
            self._find_direction()

    @property
    def unit(self) -> float:
        """The unit of all products and eigenvalues: they are divided by it, so that A has a norm of about 1."""
        return self._criteria.unit

    def set_unit(self, largest: float) -> None:
        """Choose the unit, from the largest magnitude of an entry of the first product."""
        self._criteria.unit = 2.0 ** round(math.log2(largest)) if 0 < largest < math.inf else 1.0

    def _find_direction(self) -> None:
        """Find the vector whose product is needed next, if products are remembered; use those that follow from them.

        Chains within a large null space, for example, could go on for minutes without a new product. So after P steps
        of that kind, random directions complete the matrix, if the limit on products allows this.
        """
        memory, size = self._memory, self.space.size
        while memory is not None and self.ending is None:
            if memory.is_whole:
                self._solve(memory)
                return
            completes = self._free_steps > size and self.goal.max_matvecs >= size
            self._direction = memory.new_direction(self._random_vector() if completes else self._next_vector)
            if self._direction is not None:
                return
            if not completes:
                self._free_steps += 1
                self._advance(memory.product(self._next_vector))

    def _random_vector(self) -> Tensor:
        """A random vector. It is drawn in float64, so that it is the same in each precision, to rounding."""
        vector = torch.randn(self.space.size, generator=self.generator, dtype=torch.float64)
        return vector.to(self.space.device, self.space.dtype)

    @property
    def _next_vector(self) -> Tensor:
        """The vector whose product the search needs next, known or not."""
        return self._rows.vectors(self.row + 1)[-1] if self._image is None else self._image

    @property
    def row(self) -> int:
        """The row of the next vector."""
        return len(self._locked) + self._multiplied + self._chain.steps + self._new_steps

    def _advance(self, product: Tensor) -> None:
        """Use the product of the next vector."""
        if self._extra:
            self._take_extra(product)
            self._end_at_limit()
        elif self._copies and self._image is not None:
            self._take_image(self._copies, self._image, product)
            self._end_at_limit()
        else:
            self._step(product)
            if self.is_due:
                self.inspect(torch.stack(self.last_diagonals).to("cpu", torch.float64))

    @property
    def _is_at_limit(self) -> bool:
        return self.num_matvecs == self.goal.max_matvecs

    def _end_at_limit(self) -> None:
        if self._is_at_limit and self.ending is None:
            self.ending = self._next_ending or Ending.PRODUCT_LIMIT

    def _solve(self, memory: KnownProducts) -> None:
        """A is known as a whole: its Ritz pairs are its eigenpairs."""
        self._chain, self._new_steps, self._image, self._extra = Tridiagonal(), 0, None, 0
        self._rows.put(0, memory.vectors, memory.products)
        projection = memory.vectors @ memory.products.T
        self._check_finite(projection)
        self._criteria.grow(projection)
        self._check_symmetry(float((projection - projection.T).abs().max()))
        self._locked = self._rows.ritz_pairs(len(projection))
        self._forget_copies()
        self.ending = Ending.WHOLE_MATRIX

    def _add_extra(self, vectors: Tensor) -> None:
        """Multiply ``vectors`` (n, P), which are orthogonal to the locked ones, before anything else."""
        self._chain, self._extra, self._multiplied = Tridiagonal(), len(vectors), 0
        self._rows.put(len(self._locked), vectors)

    def _take_extra(self, product: Tensor) -> None:
        """Take the product of such a vector; after the last one, lock the best pairs on the span of all."""
        self._check_finite(product.abs().max())
        self._rows.put_products(self.row, product[None])
        self._multiplied += 1
        if self._multiplied == self._extra or self._is_at_limit:
            rows, self._extra, self._multiplied = self.row, 0, 0
            self._lock(rows)

    # -- one chain ----------------------------------------------------------------------------------------

    def _start_from(self, chosen: Tensor) -> None:
        """Start a chain from the sum of some of the locked vectors, which are released."""
        rows, device = self._rows, self.space.device
        vectors, products = rows.vectors(len(chosen)), rows.products(len(chosen))
        start, kept = vectors[chosen.to(device)].sum(0), (~chosen).to(device)
        rows.put(0, vectors[kept], products[kept])
        self._locked, self._residual_norms = self._locked[~chosen], self._residual_norms[~chosen]
        self._bound = self._bound_of_first_chain()  # the other bounds allow for the pairs that are released
        self._start_chain(start)

    def _start_chain(self, start: Tensor | None = None) -> None:
        """Start a chain from the component of a vector, by default a random one, orthogonal to the locked ones."""
        rows, space = len(self._locked), self.space
        self._is_random = start is None
        w = self._random_vector() if start is None else start.to(space.device, space.dtype)
        self._rows.put_start(rows, self._rows.unit(w, rows))
        # Invariant spaces of few dimensions tend to follow each other: inspect the next chain as soon.
        steps = BOUND_STEPS if rows >= self.goal.k else SEARCH_STEPS
        self._window = min(self._chain.steps or steps, steps)
        self._chain, self._relation = Tridiagonal(), ArnoldiRelation(space, rows)
        self._earlier_bound = self._bound
        self._complements += rows > 0 and self._is_random
        self._forget_copies()

    @property
    def is_stepping(self) -> bool:
        """Whether the next product makes the chain grow by one step, with a vector that is kept in :attr:`row`."""
        return self._memory is None and not self._extra and self._image is None

    def _step(self, w: Tensor) -> None:
        """Compute the next vector from A q = ``w``, in place."""
        row = self.row
        self._compare_products(w)
        self._rows.reserve(row + 2)
        coefficients, beta = next_vector(w, self._rows.vectors(row + 1), len(self._locked))
        self._rows.put(row + 1, w[None])
        self.end_step(coefficients, beta)

    def begin_step(self, product: Tensor) -> None:
        """Begin a step that the caller takes, with the product of the vector in :attr:`row`, divided by the unit.

        Raises
        ------
        FloatingPointError
            If A is not symmetric.
        """
        self.num_matvecs += 1
        self._compare_products(product)

    def _compare_products(self, product: Tensor) -> None:
        """Check that u·Av = v·Au, if ``product`` is that of v, which starts a chain; u started the first one.

        Both are random.
        """
        if self.row > len(self._locked):
            return
        v = self._next_vector
        if self._first_product is None:
            self._first_product = v.clone(), product.clone()
        else:
            u, product_of_u = self._first_product
            self._check_symmetry(abs(float(inner_products(u, product)) - float(inner_products(v, product_of_u))))

    def end_step(self, coefficients: Tensor, beta: Tensor) -> None:
        """End a step, whose next vector is in the row after :attr:`row`.

        Parameters
        ----------
        coefficients : Tensor
            (row + 1,) the coefficients of all vectors in the product.
        beta : Tensor
            That of the next vector.
        """
        self._relation.add_product(coefficients, beta)
        self._new_steps += 1

    @property
    def is_due(self) -> bool:
        """Whether T must be inspected before the next product."""
        return self._new_steps == self._window or self._is_at_limit

    @property
    def last_diagonals(self) -> list[Tensor]:
        """The α since the last inspection, and then the β: what the next one needs, on the device."""
        return self._relation.last_diagonals(self._new_steps)

    def inspect(self, diagonals: Tensor) -> None:
        """Inspect T and decide how to go on; ``diagonals`` are those of :attr:`last_diagonals`, on the host in float64.

        Raises
        ------
        FloatingPointError
            If they are not finite.
        """
        self._update_chain(*diagonals.chunk(2))
        self._decide()
        self._end_at_limit()

    def _update_chain(self, alpha: Tensor, beta: Tensor) -> None:
        """Append the new steps to T. A chain ends at the first β that is rounding, which becomes zero.

        A chain that gives a bound continues: behind a small β there may be a component of its start vector that is just
        as small, and its eigenvalue shows in the steps that follow. No chain is longer than its space has dimensions.
        """
        self._new_steps = 0
        self._check_finite(torch.cat([alpha, beta]))
        self._criteria.grow(torch.cat([alpha, beta]))
        end = 0.0 if self._gives_bound else self._criteria.rounding
        beta = torch.where(beta <= end, 0.0, beta)
        beta[self.space.size - len(self._locked) - self._chain.steps - 1 :] = 0.0
        self._chain = self._chain.extended(alpha, beta)
        self._criteria.grow(self._chain.ritz[0])

    # -- decisions ----------------------------------------------------------------------------------------

    def _decide(self) -> None:
        """End the search, try an image, lock pairs and start another chain, or let the chain grow."""
        chain, criteria = self._chain, self._criteria
        if self._gives_bound:
            of_chain = self._bound_of_chain()
            self._bound = min(of_chain.bound, self._earlier_bound)
            if self._has_close_bound():
                self._end(Ending.COMPLETE)
                return
            weakest = criteria.weakest(self._locked)
            is_zero = self.goal.which == "LM" and weakest <= criteria.rounding  # so are all further eigenvalues
            budget = ZERO_BOUND_STEPS if is_zero else self.goal.bound_steps
            is_over = chain.is_invariant or chain.steps >= budget
            if is_over and not bool(criteria.further_out(chain.ritz[0], weakest).any()):
                self._end(Ending.LOOSE_BOUND)
                return
            if not chain.is_invariant:
                self._window = self._steps_to_inspection(of_chain.steps_until(criteria.limit(weakest)))
        if self._copies and self._find_image(self._copies):
            return
        if chain.is_invariant or self._has_converged():
            if not len(self._locked) and self._is_random and not chain.is_invariant:
                self._first_chain = chain
            theta, s, estimates = chain.ritz
            others = torch.cat([self._locked, self._copy_values])
            self._lock(self._append(self._rows, s[:, criteria.worth_locking(theta, estimates, others)]))

    @property
    def _gives_bound(self) -> bool:
        """Whether the chain bounds all other eigenvalues: only a random start vector has a component along each."""
        return self._is_random and len(self._locked) >= self.goal.k

    def _has_close_bound(self) -> bool:
        """Whether all wanted pairs are locked, and the bound on others is close enough."""
        has_all = len(self._locked) >= self.goal.k
        return has_all and self._bound <= self._criteria.limit(self._criteria.weakest(self._locked))

    def _has_converged(self) -> bool:
        """Whether all Ritz pairs of the chain that belong to the k outermost have converged, and there are such."""
        theta, _, estimates = self._chain.ritz
        criteria = self._criteria
        known, k = torch.cat([self._locked, self._copy_values]), self.goal.k
        if len(known) + len(theta) < k:
            return False
        needed = criteria.distance(theta) >= criteria.weakest(torch.cat([known, theta]))
        if len(known) >= k:
            needed &= criteria.further_out(theta, criteria.weakest(known))
        converged = criteria.have_converged(theta, estimates)
        return bool(needed.any()) and bool(converged[needed].all())

    def _bound_of_chain(self) -> ChainBound:
        """What the chain says of eigenvalues other than the locked ones."""
        eta = part_of_eta(self._complements) * self.goal.eta
        return ChainBound(self._chain, self.space.size, self._locked, self._residual_norms, self._criteria, eta)

    def _bound_of_first_chain(self) -> float:
        """The distance beyond which no eigenvalue lies at all, from the first chain."""
        if self._first_chain is None:
            return math.inf
        eta = part_of_eta(0) * self.goal.eta
        return ChainBound(self._first_chain, self.space.size, empty(), empty(), self._criteria, eta).bound

    def _steps_to_inspection(self, steps_left: float) -> int:
        """The steps until the next inspection of a chain in a complement, if its bound needs ``steps_left`` steps more.

        They are half of these. A long chain, whose T takes longer to inspect, makes at least one step in a hundred.
        """
        if steps_left == math.inf:
            return BOUND_STEPS
        part = self._chain.steps / 100
        return int(min(max(1.0, part, steps_left / 2), max(SEARCH_STEPS, part)))

    def _end(self, ending: Ending) -> None:
        """End the search, after refining pairs if that is necessary."""
        self._next_ending = ending
        if self._are_loose(self._locked, self._residual_norms).any() and self.num_matvecs < self.goal.max_matvecs:
            self._misses = []
            self._lock(len(self._locked))
        else:
            self.ending = ending

    # -- images of eigenvectors ---------------------------------------------------------------------------

    @property
    def _copy_values(self) -> Tensor:
        """The eigenvalues of the copies that were found from images."""
        return self._copies.values if self._copies else empty()

    def _forget_copies(self) -> None:
        self._asked = empty()
        if self._copies:
            rows = len(self._locked)
            self._copies.restart(self._rows.vectors(rows), self._rows.products(rows))

    def _find_image(self, copies: CopySearch) -> bool:
        """Ask for images of the pairs of the chain that have converged, along with all that lie further out."""
        theta, s, estimates = self._chain.ritz
        criteria = self._criteria
        outward = criteria.order(theta)
        converged = (criteria.have_converged(theta, estimates) & (theta.abs() > PROMISING * criteria.rounding))[outward]
        count = int(converged.long().cumprod(0).sum())
        if count > len(self._asked):
            # A chain can find a second vector of an eigenvalue, among the values whose images have been asked for.
            outermost = theta[outward[:count]]
            new = outward[:count][_without_nearest(outermost, self._asked)]
            copies.add(theta[new], criteria.distance(theta[new]), *self._ritz_vectors(s[:, new]))
            self._asked = outermost
        known, least = torch.cat([self._locked, copies.values, theta[outward[:count]]]), -math.inf
        if len(known) >= self.goal.k:  # copies of the k-th would change nothing
            kth = known[criteria.order(known)[self.goal.k - 1]]
            least = float(criteria.distance(kth) + criteria.tolerances(kth))
        self._image, self._least = copies.next_image(least), least
        return self._image is not None

    def _take_image(self, copies: CopySearch, image: Tensor, product: Tensor) -> None:
        """Keep an image as a copy if it is nearly an eigenvector with the eigenvalue of its source."""
        source = torch.tensor([copies.source], dtype=torch.float64)
        residual_norm = torch.linalg.vector_norm(product - copies.source * image, dtype=torch.float64).cpu()
        self._check_finite(residual_norm)
        is_wanted = bool(self._criteria.distance(inner_products(image, product).double().cpu()) > self._least)
        if is_wanted and bool(residual_norm <= PROMISING * self._criteria.tolerances(source)):
            copies.accept(image, product)
        else:
            copies.reject()
        self._image = None
        self._decide()

    # -- locked pairs -------------------------------------------------------------------------------------

    def _ritz_vectors(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """Ritz vectors of the chain and their products, from their coefficients (steps, n)."""
        vectors, products = map(self._rows.combine, self._ritz_coefficients(s))
        return vectors, products

    def _ritz_coefficients(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """The coefficients of all vectors in Ritz vectors of the chain, and in their products."""
        mix = s.T.to(self.space.device)
        return torch.nn.functional.pad(mix, (len(self._locked), 0)), self._relation.products(mix)

    def _append(self, rows: VectorRows, s: Tensor) -> int:
        """Put Ritz vectors of the chain, and then the copies, after the locked rows; return the number of rows."""
        rows.put_combinations(len(self._locked), self._rows, *self._ritz_coefficients(s))
        count = len(self._locked) + s.shape[1]
        return rows.append_independent(count, *self._copies.pairs) if self._copies else count

    def _are_loose(self, values: Tensor, residual_norms: Tensor) -> Tensor:
        """Which of the pairs are among the k outermost and have not converged."""
        loose = residual_norms > self._criteria.tolerances(values)
        loose[self._criteria.order(values)[self.goal.k :]] = False
        return loose

    def _lock(self, count: int) -> None:
        """Lock the best pairs on the span of the first ``count`` rows. Then refine some, end, or start a chain."""
        rows = self._rows
        values = rows.ritz_pairs(count)
        self._check_finite(values)
        self._criteria.grow(values)
        norms = rows.residual_norms(count, values)
        loose, has_all = self._are_loose(values, norms), count >= self.goal.k
        too_far = loose & (norms > TOO_FAR * values.abs())
        may_restart = has_all and self._next_ending is None and self._restarts < MAX_RESTARTS
        restarts = may_restart and bool(too_far.any())
        if has_all and not restarts and self._is_worth_refining(values[loose], norms[loose], count):
            self._locked, self._residual_norms = values, norms
            residuals = rows.residuals(loose.nonzero()[:, 0].to(self.space.device), values)
            self._add_extra(rows.orthonormal(residuals, count))
            return
        # Without the loose pairs there are fewer than k, so that none behind the k-th would be worth locking.
        others = values[loose] if restarts else empty()
        kept = self._criteria.worth_locking(values, norms, others)
        kept[self._criteria.order(values)[: self.goal.k]] = True
        self._locked, self._residual_norms = values[kept], norms[kept]
        rows.keep(kept)
        if restarts:
            self._misses, self._restarts = [], self._restarts + 1
            self._start_from(too_far[kept])
        elif self._next_ending or self._has_close_bound():  # the k-th eigenvalue may have changed
            self.ending = Ending.COMPLETE if self._has_close_bound() else self._next_ending
            self._chain = Tridiagonal()  # its vectors were overwritten
        else:
            self._misses = []
            self._start_chain()

    def _is_worth_refining(self, values: Tensor, residual_norms: Tensor, count: int) -> bool:
        """Whether there are loose pairs, refining them makes progress, and ``count`` vectors leave room for more."""
        self._misses.append(float((residual_norms / self._criteria.tolerances(values)).sum()))
        recent, before = self._misses[-PATIENCE:], self._misses[:-PATIENCE]
        makes_progress = not before or min(recent) < min(before)
        return 0 < len(values) <= self.space.size - count and makes_progress

    # -- checks -------------------------------------------------------------------------------------------

    def _check_finite(self, values: Tensor) -> None:
        if not bool(torch.isfinite(values).all()):
            raise FloatingPointError(
                f"a product with the operator is not finite (product {self.num_matvecs} or before)"
            )

    def _check_symmetry(self, difference: float) -> None:
        if difference > ASYMMETRY * torch.finfo(self.space.dtype).eps * self._criteria.scale:
            raise FloatingPointError(
                "the operator is not symmetric: u·Av and v·Au differ by "
                f"{difference / self._criteria.scale:.1g} of its norm"
            )

    # -- the result ---------------------------------------------------------------------------------------

    def result(self) -> EigenPairs:
        """The k outermost pairs, converged or not, after the search has ended."""
        theta, s, _ = self._chain.ritz
        criteria = self._criteria
        if len(self._locked) >= self.goal.k:  # other pairs of the chain would only blur locked copies of their value
            chosen = criteria.further_out(theta, criteria.weakest(self._locked)).nonzero()[:, 0]
        else:
            chosen = criteria.order(theta)[: self.goal.k]
        rows, values = self._rows, self._locked
        if len(chosen) or len(self._copy_values):
            rows = VectorRows(self.space)  # the chain stays as it is
            rows.put(0, self._rows.vectors(len(self._locked)), self._rows.products(len(self._locked)))
            values = rows.ritz_pairs(self._append(rows, s[:, chosen]))
        count = len(values)
        outermost = criteria.order(values)[: self.goal.k].tolist()
        unit = self._criteria.unit
        pairs = eigenpairs(
            [rows.vectors(count)[row] for row in outermost],
            [rows.products(count)[row] for row in outermost],
            which=self.goal.which,
            tol=self.goal.tol,
            num_matvecs=self.num_matvecs,
            message="",
            scale=self._criteria.scale,
            resolution=self.goal.resolution / unit,
        )
        if self.ending is Ending.WHOLE_MATRIX:
            bound = float(self._criteria.distance(pairs.eigenvalues)[-1])
        else:
            bound = self._bound
        bound *= -unit if self.goal.which == "SA" else unit
        pairs = replace(
            pairs,
            eigenvalues=pairs.eigenvalues * unit,
            residual_norms=pairs.residual_norms * unit,
            bound=bound,
            message=ending_message(
                self.ending,
                self.goal,
                products=self.num_matvecs,
                unconverged=self.goal.k - int(pairs.converged.sum()),
                bound=bound,
            ),
        )
        return padded(pairs, self.goal.k)


def _without_nearest(values: Tensor, earlier: Tensor) -> Tensor:
    """Which of ``values`` (n,) are left if each of the ``earlier`` ones (m < n,) takes away the nearest one."""
    left = torch.ones(len(values), dtype=torch.bool)
    for value in earlier:
        left[(values - value).abs().where(left, torch.inf).argmin()] = False
    return left
