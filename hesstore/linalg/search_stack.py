"""Searches in several matrices whose products are computed together.

On a GPU each kernel takes a few microseconds to launch, however little it does. Therefore all chains that grow there
take a step together: one product, one Gram–Schmidt, and one copy of the diagonals of T to the host for all chains that
are due. On a CPU, each chain takes its steps by itself. So does that of a small matrix, because its search remembers
all products and needs no new one for most steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from hesstore.linalg.both_ends import SearchAtBothEnds
from hesstore.linalg.lanczos_step import next_vectors
from hesstore.linalg.transfers import to_device
from hesstore.linalg.vector_stack import VectorStack

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from hesstore.linalg.criteria import Goal
    from hesstore.linalg.eigenpairs import EigenPairs
    from hesstore.linalg.lanczos_search import LanczosSearch
    from hesstore.linalg.operators import OperatorStack
    from hesstore.linalg.vector_rows import VectorRows


class SearchStack:
    """A search in each matrix of a stack; each takes its steps by itself.

    A matrix keeps its place in the stack after its search has ended, until half of the searches have ended.

    Parameters
    ----------
    operator : OperatorStack
        The G matrices.
    goal : Goal
        What is searched for in each of them.
    generators : sequence of Generator
        CPU generators of the start vectors, one for each matrix.
    lowest : int
        Number of algebraically smallest pairs to find in addition.
    rows : sequence of VectorRows, optional
        Where each search keeps its vectors; memory of its own by default.
    """

    def __init__(
        self,
        operator: OperatorStack,
        goal: Goal,
        generators: Sequence[torch.Generator],
        lowest: int,
        rows: Sequence[VectorRows] | None = None,
    ) -> None:
        nothing = [None] * operator.copies
        images = getattr(operator, "each_images", nothing)
        self._operator = operator
        self._searches = {
            matrix: SearchAtBothEnds(operator, goal, generator, lowest, maps, rows=own)
            for matrix, (generator, maps, own) in enumerate(zip(generators, images, rows or nothing, strict=True))
        }
        self._matrices = list(self._searches)  # those at the places of the stack
        self._results: dict[int, EigenPairs | FloatingPointError] = {}

    def solve(self) -> list[EigenPairs | FloatingPointError]:
        """Search in all matrices; return the pairs of each, or the error that ended its search."""
        while self._searches:
            if 2 * len(self._searches) <= len(self._matrices):
                self._keep([place for place, matrix in enumerate(self._matrices) if matrix in self._searches])
            self._take(self._operator.matvec(self._wanted()))
        return [self._results[matrix] for matrix in sorted(self._results)]

    def _keep(self, places: list[int]) -> None:
        """Reduce the stack to the matrices at some of the places."""
        self._operator = self._operator.subset(places)
        self._matrices = [self._matrices[place] for place in places]

    def _wanted(self) -> Tensor:
        """(G, P) the vector whose product each search needs next; zero if the search has ended."""
        operator = self._operator
        nothing = torch.zeros(operator.size, dtype=operator.dtype, device=operator.device)
        searches = self._searches
        return torch.stack([searches[each].wanted if each in searches else nothing for each in self._matrices])

    def _take(self, products: Tensor) -> None:
        """Take the products (G, P) of these vectors."""
        for place in self._active:
            self._attempt(place, SearchAtBothEnds.take, products[place])

    @property
    def _active(self) -> dict[int, SearchAtBothEnds]:
        """The searches that go on, by their places."""
        places = enumerate(self._matrices)
        return {place: self._searches[matrix] for place, matrix in places if matrix in self._searches}

    def _attempt(self, place: int, act: Callable[[SearchAtBothEnds, Tensor], None], values: Tensor) -> None:
        """Have the search at a place do something, and take its result if that ends it."""
        matrix = self._matrices[place]
        search = self._searches[matrix]
        try:
            act(search, values)
        except FloatingPointError as error:
            self._results[matrix] = error.with_traceback(None)  # which would keep the memory of all searches
        else:
            if search.pairs is None:
                return
            self._results[matrix] = search.pairs
        del self._searches[matrix]  # this frees its vectors, if they are its own


class SteppingTogether(SearchStack):
    """A search in each matrix of a stack; the chains that grow take their steps together.

    Parameters
    ----------
    operator, goal, generators, lowest
        As for :class:`SearchStack`; P is too large for all products to be remembered.
    """

    def __init__(self, operator: OperatorStack, goal: Goal, generators: Sequence[torch.Generator], lowest: int) -> None:
        self._vectors = VectorStack(operator, operator.copies)
        super().__init__(operator, goal, generators, lowest, self._vectors.make_rows())
        self._units: Tensor | None = None  # (G, 1)

    def _keep(self, places: list[int]) -> None:
        super()._keep(places)
        self._vectors.keep(places)
        if self._units is not None:
            self._units = self._units.index_select(0, to_device(torch.tensor(places), self._units.device))

    @property
    def _chains(self) -> dict[int, LanczosSearch]:
        """The searches whose chains take the next step, by their places."""
        active = self._active.items()
        return {place: search.search for place, search in active if search.search.is_stepping}

    def _wanted(self) -> Tensor:
        """(G, P) the vector whose product each search needs next; any vector if the search has ended."""
        chains = self._chains
        places = range(len(self._matrices))
        wanted = self._vectors.take([chains[place].row if place in chains else 0 for place in places])
        for place, search in self._active.items():
            if place not in chains:
                wanted[place] = search.wanted
        return wanted

    def _take(self, products: Tensor) -> None:
        if self._units is None:
            self._units = self._choose_units(products)
        chains = self._chains
        for place in self._active:
            if place not in chains:
                self._attempt(place, SearchAtBothEnds.take, products[place])
        products.div_(self._units)
        for place in chains:
            self._attempt(place, SearchAtBothEnds.begin_step, products[place])
        active = self._active
        chains = {place: chain for place, chain in chains.items() if place in active}
        if chains:
            self._step(products, chains)
            self._inspect({place: chain for place, chain in chains.items() if chain.is_due})

    def _choose_units(self, products: Tensor) -> Tensor:
        """Choose the units of the matrices, from the first products; return them as (G, 1)."""
        searches = [search.search for search in self._searches.values()]
        for search, largest in zip(searches, products.abs().amax(1).tolist(), strict=True):
            search.set_unit(largest)
        units = torch.tensor([[search.unit] for search in searches], dtype=products.dtype)
        return to_device(units, products.device)

    def _step(self, products: Tensor, chains: dict[int, LanczosSearch]) -> None:
        """Let chains grow by one step. Whatever is computed at other places is not used."""
        rows = {place: chain.row for place, chain in chains.items()}
        count = max(rows.values()) + 1
        self._vectors.reserve(count + 1)
        coefficients, betas = next_vectors(products, self._vectors.vectors(count))
        self._vectors.put({place: row + 1 for place, row in rows.items()}, products)
        for place, row in rows.items():
            chains[place].end_step(coefficients[place, : row + 1], betas[place])

    def _inspect(self, due: dict[int, LanczosSearch]) -> None:
        """Inspect the chains that are due, with one look at all of their diagonals."""
        if not due:
            return
        diagonals = {place: chain.last_diagonals for place, chain in due.items()}
        together = torch.stack([entry for each in diagonals.values() for entry in each]).to("cpu", torch.float64)
        end = 0
        for place, each in diagonals.items():
            start, end = end, end + len(each)
            self._attempt(place, SearchAtBothEnds.inspect, together[start:end])
