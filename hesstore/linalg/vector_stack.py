"""The vectors of several searches in one tensor, so that one operation can use those of all searches."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

import torch

from hesstore.linalg.aligned_rows import row_length
from hesstore.linalg.transfers import to_device
from hesstore.linalg.vector_rows import VectorRows

if TYPE_CHECKING:
    from torch import Tensor

    from hesstore.linalg.operators import VectorSpace

MORE_ROWS = 64
"""The number of rows by which a stack grows. Doubling them would take three times the memory while they are copied."""


class VectorStack:
    """Rows of vectors for G searches, with the same room for each.

    Parameters
    ----------
    space : VectorSpace
        Size, precision and device of the vectors.
    copies : int
        G, the number of searches.
    """

    def __init__(self, space: VectorSpace, copies: int) -> None:
        self._space, self._size = space, space.size
        self._memory = torch.zeros(copies, 0, row_length(space.size), dtype=space.dtype, device=space.device)
        self._rows: list[weakref.ref[VectorRows]] = []  # a search that has ended frees its own

    def make_rows(self) -> list[VectorRows]:
        """The rows of each search; to be called once."""
        rows = [VectorRows(self._space, self) for _ in range(len(self._memory))]
        self._rows = [weakref.ref(each) for each in rows]
        return rows

    def vectors(self, count: int) -> Tensor:
        """(G, count, P) the first vectors of each search."""
        return self._memory[:, :count, : self._size]

    def reserve(self, count: int) -> None:
        """Make room for ``count`` vectors of each search."""
        copies, capacity, length = self._memory.shape
        if count > capacity:
            larger = self._memory.new_zeros(copies, max(count, capacity + MORE_ROWS), length)
            larger[:, :capacity] = self._memory
            self._use(larger)

    def keep(self, places: list[int]) -> None:
        """Keep the searches at some of the places, in this order."""
        self._rows = [self._rows[place] for place in places]
        self._use(torch.stack([self._memory[place] for place in places]))

    def take(self, rows: list[int]) -> Tensor:
        """(G, P) a copy of the vector of each search in the given row."""
        return self._flat.index_select(0, self._indices(dict(enumerate(rows))))[:, : self._size]

    def put(self, rows: dict[int, int], vectors: Tensor) -> None:
        """Put, for the searches at the places that are keys, their vectors among ``vectors`` (G, P) into the rows."""
        if len(rows) < len(vectors):
            vectors = vectors.index_select(0, to_device(torch.tensor(list(rows)), vectors.device))
        self._flat[:, : self._size].index_copy_(0, self._indices(rows), vectors)

    @property
    def _flat(self) -> Tensor:
        return self._memory.flatten(0, 1)

    def _indices(self, rows: dict[int, int]) -> Tensor:
        capacity = self._memory.shape[1]
        indices = [place * capacity + row for place, row in rows.items()]
        return to_device(torch.tensor(indices), self._memory.device)

    def _use(self, memory: Tensor) -> None:
        self._memory = memory
        for reference, part in zip(self._rows, memory, strict=True):
            rows = reference()
            if rows is not None:
                rows.move(part[:, : self._size])
