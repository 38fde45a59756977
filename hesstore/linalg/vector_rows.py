"""Vectors on the device and their products with A, one in each row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from hesstore.linalg.operators import VectorSpace


INDEPENDENT = 0.5
"""A unit vector is independent of others if its component outside their span has at least this length."""


class VectorRows:
    """Orthonormal vectors, and the products of the first of them, in memory that grows as needed.

    Parameters
    ----------
    space : VectorSpace
        Size, precision and device of the vectors.
    """

    def __init__(self, space: VectorSpace) -> None:
        self._space = space
        self._vectors, self._products = self._empty(0), self._empty(0)

    def vectors(self, count: int) -> Tensor:
        """(count, P) the first vectors."""
        return self._vectors[:count]

    def products(self, count: int) -> Tensor:
        """(count, P) the products of the first vectors."""
        return self._products[:count]

    def reserve(self, count: int) -> None:
        """Make room for ``count`` vectors."""
        self._vectors = self._enlarged(self._vectors, count)

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

    def append_independent(self, count: int, vectors: Tensor, products: Tensor) -> int:
        """Append the component of each of ``vectors`` outside the first ``count`` rows; return the new count.

        Components shorter than :data:`INDEPENDENT` are left out.
        """
        known, known_products, first = self.vectors(count), self.products(count), count
        for _ in range(2):
            overlap = vectors @ known.T
            vectors, products = vectors - overlap @ known, products - overlap @ known_products
        for vector, product in zip(vectors, products, strict=True):
            outside, product_outside = vector, product
            for _ in range(2):
                overlap = self.vectors(count)[first:] @ outside
                outside = outside - overlap @ self.vectors(count)[first:]
                product_outside = product_outside - overlap @ self.products(count)[first:]
            length = torch.linalg.vector_norm(outside)
            if float(length) > INDEPENDENT:
                self.put(count, outside[None] / length, product_outside[None] / length)
                count += 1
        return count

    def ritz_pairs(self, count: int) -> Tensor:
        """Replace the first ``count`` rows by the Ritz vectors of A on their span; return the Ritz values, on the host.

        The values have the precision of the products.
        """
        projection = (self.vectors(count) @ self.products(count).T).double()
        values, mix = torch.linalg.eigh((projection + projection.T) / 2)
        self.put(0, self.combine(mix.T), mix.T.to(self._products) @ self.products(count))
        on_host: Tensor = values.cpu()
        return on_host

    def quotients(self, count: int) -> Tensor:
        """(count,) v·Av of the first vectors, on the host in float64."""
        return (self.vectors(count) * self.products(count)).sum(1, dtype=torch.float64).cpu()

    def unit(self, w: Tensor, count: int) -> Tensor:
        """The unit vector along the component of ``w`` that is orthogonal to the first ``count`` vectors."""
        w = w / torch.linalg.vector_norm(w)
        for _ in range(3):  # little of w may be left; each pass restores the orthogonality that the last one lost
            orthogonalise(w, self.vectors(count))
            w /= torch.linalg.vector_norm(w)
        return w

    def orthonormal(self, directions: Tensor, count: int) -> Tensor:
        """Orthonormal combinations of ``directions`` (n, P), made orthogonal to the first ``count`` vectors."""
        vectors = self.vectors(count)
        directions = directions / torch.linalg.vector_norm(directions, dim=1, keepdim=True)
        for _ in range(2):
            directions = directions - (directions @ vectors.T) @ vectors
            directions = torch.linalg.qr(directions.T)[0].T
        return directions

    def combine(self, coefficients: Tensor) -> Tensor:
        """Combinations of the first vectors, for ``coefficients`` (n, count)."""
        combined: Tensor = coefficients.to(self._vectors) @ self.vectors(coefficients.shape[1])
        return combined

    def _enlarged(self, rows: Tensor, count: int) -> Tensor:
        capacity = len(rows)
        if count <= capacity:
            return rows
        larger = self._empty(max(count, 64, 2 * capacity))
        larger[:capacity] = rows
        return larger

    def _empty(self, count: int) -> Tensor:
        return torch.empty(count, self._space.size, dtype=self._space.dtype, device=self._space.device)


def orthogonalise(w: Tensor, vectors: Tensor) -> Tensor:
    """Apply one pass of classical Gram–Schmidt to ``w`` against ``vectors`` (n, P), in place.

    Returns the coefficients (n,) of the vectors, which were subtracted.
    """
    coefficients = vectors @ w
    w.addmv_(vectors.T, coefficients, alpha=-1)
    return coefficients
