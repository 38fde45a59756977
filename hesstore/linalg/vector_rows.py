"""Vectors on the device and their products with A, one in each row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from hesstore.linalg.aligned_rows import row_length
from hesstore.linalg.long_sums import (
    inner_products,
    inner_products_each,
    lengths,
    subtract_combination,
    subtract_combinations,
)

if TYPE_CHECKING:
    from torch import Tensor

    from hesstore.linalg.operators import VectorSpace
    from hesstore.linalg.vector_stack import VectorStack


TOGETHER = 2**24
"""The number of entries of residuals that are computed together."""

COLUMNS = 2**14
"""The number of columns of vectors that are combined together, so that they stay in a processor's cache."""

INDEPENDENT = 0.5
"""A unit vector is independent of others if its component outside their span has at least this length."""


class VectorRows:
    """Orthonormal vectors, and the products of the first of them, in memory that grows as needed.

    Parameters
    ----------
    space : VectorSpace
        Size, precision and device of the vectors.
    stack : VectorStack, optional
        The stack that the vectors, but not the products, are a part of.
    """

    def __init__(self, space: VectorSpace, stack: VectorStack | None = None) -> None:
        self._space, self._stack = space, stack
        self._vectors, self._products = self._empty(0), self._empty(0)

    def vectors(self, count: int) -> Tensor:
        """(count, P) the first vectors."""
        return self._vectors[:count]

    def products(self, count: int) -> Tensor:
        """(count, P) the products of the first vectors."""
        return self._products[:count]

    def reserve(self, count: int) -> None:
        """Make room for ``count`` vectors."""
        if self._stack is None:
            self._vectors = self._enlarged(self._vectors, count)
        else:
            self._stack.reserve(count)

    def move(self, vectors: Tensor) -> None:
        """Use other memory (R, P), which has a copy of the vectors."""
        self._vectors = vectors

    def put(self, first: int, vectors: Tensor, products: Tensor | None = None) -> None:
        """Put vectors (n, P), and their products if these are known, into the rows from ``first`` on."""
        last = first + len(vectors)
        self.reserve(last + 1)
        self._vectors[first:last] = vectors
        if products is not None:
            self.put_products(first, products)

    def put_products(self, first: int, products: Tensor) -> None:
        """Put the products of the vectors in the rows from ``first`` on."""
        last = first + len(products)
        self._products = self._enlarged(self._products, last)
        self._products[first:last] = products

    def put_start(self, row: int, vector: Tensor) -> None:
        """Put the first vector of a chain (P,) into a row. In a stack, the rows after it become zero."""
        self.put(row, vector[None])
        if self._stack is not None:
            self._vectors[row + 1 :] = 0

    def append_independent(self, count: int, vectors: Tensor, products: Tensor) -> int:
        """Append the component of each of ``vectors`` outside the first ``count`` rows; return the new count.

        Components shorter than :data:`INDEPENDENT` are left out.
        """
        known, known_products, first = self.vectors(count), self.products(count), count
        for _ in range(2):
            overlap = inner_products(vectors, known)
            vectors, products = vectors - overlap @ known, products - overlap @ known_products
        for vector, product in zip(vectors, products, strict=True):
            outside, product_outside = vector, product
            for _ in range(2):
                overlap = inner_products(self.vectors(count)[first:], outside)
                outside = outside - overlap @ self.vectors(count)[first:]
                product_outside = product_outside - overlap @ self.products(count)[first:]
            length = lengths(outside)
            if float(length) > INDEPENDENT:
                self.put(count, outside[None] / length, product_outside[None] / length)
                count += 1
        return count

    def ritz_pairs(self, count: int) -> Tensor:
        """Replace the first ``count`` rows by the Ritz vectors of A on their span; return the Ritz values, on the host.

        The values have the precision of the products.
        """
        projection = inner_products(self.vectors(count), self.products(count)).double()
        values, mix = torch.linalg.eigh((projection + projection.T) / 2)
        mix = mix.T.to(projection.device, self._space.dtype)
        for rows in (self.vectors(count), self.products(count)):
            for columns in self._column_blocks:
                rows[:, columns] = mix @ rows[:, columns]
        on_host: Tensor = values.cpu()
        return on_host

    def residual_norms(self, count: int, values: Tensor) -> Tensor:
        """(count,) ‖A v − μ v‖ of the first vectors, for ``values`` μ, on the host in float64."""
        together = max(1, TOGETHER // self._space.size)
        groups = [slice(first, min(first + together, count)) for first in range(0, count, together)]
        norms = [lengths(self.residuals(rows, values)) for rows in groups]
        return torch.cat(norms).to("cpu", torch.float64)

    def residuals(self, rows: slice | Tensor, values: Tensor) -> Tensor:
        """(n, P) A v − μ v of the vectors in some of the rows; ``values`` are those of all rows."""
        vectors = self._vectors[rows]
        return self._products[rows].addcmul(vectors, values.to(vectors)[rows, None], value=-1)

    def keep(self, kept: Tensor) -> None:
        """Keep those of the first vectors for which ``kept`` (count,) is true, and their products."""
        for new, old in enumerate(kept.nonzero()[:, 0].tolist()):
            if new < old:
                self._vectors[new], self._products[new] = self._vectors[old], self._products[old]

    def quotients(self, count: int) -> Tensor:
        """(count,) v·Av of the first vectors, on the host in float64."""
        return (self.vectors(count) * self.products(count)).sum(1, dtype=torch.float64).cpu()

    def unit(self, w: Tensor, count: int) -> Tensor:
        """The unit vector along the component of ``w`` that is orthogonal to the first ``count`` vectors."""
        w = w / lengths(w)
        for _ in range(3):  # little of w may be left; each pass restores the orthogonality that the last one lost
            orthogonalise(w, self.vectors(count))
            w /= lengths(w)
        return w

    def orthonormal(self, directions: Tensor, count: int) -> Tensor:
        """Orthonormal combinations of ``directions`` (n, P), orthogonal to the first ``count`` vectors.

        They are put into the rows after these vectors.
        """
        for row, direction in enumerate(directions, count):
            self.put(row, self.unit(direction, row)[None])
        return self.vectors(count + len(directions))[count:]

    def combine(self, coefficients: Tensor) -> Tensor:
        """Combinations of the first vectors, for ``coefficients`` (n, count)."""
        combined: Tensor = coefficients.to(self._vectors) @ self.vectors(coefficients.shape[1])
        return combined

    def put_combinations(self, first: int, source: VectorRows, vectors: Tensor, products: Tensor) -> None:
        """Put combinations of the first vectors of ``source``, which may be these rows, into rows from ``first`` on.

        Parameters
        ----------
        first : int
            The first row.
        source : VectorRows
            The vectors that are combined.
        vectors, products : Tensor
            (n, …) the coefficients of the vectors, and those of their products.
        """
        last = first + len(vectors)
        self.reserve(last + 1)
        self._products = self._enlarged(self._products, last)
        pairs = [(mix.to(self._vectors), to) for mix, to in ((vectors, self._vectors), (products, self._products))]
        for columns in self._column_blocks:
            combined = [mix @ source.vectors(mix.shape[1])[:, columns] for mix, _ in pairs]
            for (_, to), part in zip(pairs, combined, strict=True):
                to[first:last, columns] = part

    @property
    def _column_blocks(self) -> list[slice]:
        """The columns in blocks, so that rows can be replaced by their combinations without a copy of all of them."""
        size = self._space.size
        return [slice(first, first + COLUMNS) for first in range(0, size, COLUMNS)]

    def _enlarged(self, rows: Tensor, count: int) -> Tensor:
        capacity = len(rows)
        if count <= capacity:
            return rows
        larger = self._empty(max(count, 64, 2 * capacity))
        larger[:capacity] = rows
        return larger

    def _empty(self, count: int) -> Tensor:
        space, size = self._space, self._space.size
        length = size if space.device.type == "cpu" else row_length(size)
        return torch.empty(count, length, dtype=space.dtype, device=space.device)[:, :size]


def orthogonalise(w: Tensor, vectors: Tensor) -> Tensor:
    """Apply one pass of classical Gram–Schmidt to ``w`` against ``vectors`` (n, P), in place.

    Returns the coefficients (n,) of the vectors, which were subtracted.
    """
    coefficients = inner_products(vectors, w)
    subtract_combination(w, coefficients, vectors)
    return coefficients


def orthogonalise_each(w: Tensor, vectors: Tensor) -> Tensor:
    """Apply :func:`orthogonalise` to each row of ``w`` (G, P), against its own ``vectors`` (G, n, P).

    Returns the coefficients (G, n).
    """
    coefficients = inner_products_each(vectors, w)
    subtract_combinations(w, coefficients, vectors)
    return coefficients
