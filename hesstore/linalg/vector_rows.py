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
    """Orthonormal vectors and their products, in memory that grows as needed. The last vector has no product yet.

    Parameters
    ----------
    space : VectorSpace
        Size, precision and device of the vectors.
    """

    def __init__(self, space: VectorSpace) -> None:
        self._space = space
        self._vectors, self._products = self._empty(64), self._empty(64)

    def vectors(self, count: int) -> Tensor:
        """(count, P) the first vectors."""
        return self._vectors[:count]

    def products(self, count: int) -> Tensor:
        """(count, P) the products of the first vectors."""
        return self._products[:count]

    def reserve(self, count: int) -> None:
        """Make room for ``count`` rows."""
        capacity = len(self._vectors)
        if count <= capacity:
            return
        for name in ("_vectors", "_products"):
            larger = self._empty(max(count, 2 * capacity))
            larger[:capacity] = getattr(self, name)
            setattr(self, name, larger)

    def put(self, first: int, vectors: Tensor, products: Tensor | None = None) -> None:
        """Put vectors (n, P), and their products if these are known, into the rows from ``first`` on."""
        last = first + len(vectors)
        self.reserve(last + 1)
        self._vectors[first:last] = vectors
        if products is not None:
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
        self.put(0, *self.combine(mix.T))
        on_host: Tensor = values.cpu()
        return on_host

    def quotients(self, count: int) -> Tensor:
        """(count,) v·Av of the first vectors, on the host in float64."""
        return (self.vectors(count) * self.products(count)).sum(1, dtype=torch.float64).cpu()

    def orthogonalise(self, w: Tensor, count: int) -> Tensor:
        """Apply one pass of classical Gram–Schmidt to ``w`` against the first ``count`` vectors, in place."""
        vectors = self._vectors[:count]
        return w.addmv_(vectors.T, vectors @ w, alpha=-1)

    def unit(self, w: Tensor, count: int) -> Tensor:
        """The unit vector along the component of ``w`` that is orthogonal to the first ``count`` vectors."""
        w = w / torch.linalg.vector_norm(w)
        for _ in range(3):  # little of w may be left; each pass restores the orthogonality that the last one lost
            w = self.orthogonalise(w, count)
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

    def combine(self, coefficients: Tensor) -> tuple[Tensor, Tensor]:
        """Combinations of the first vectors, and their products, for ``coefficients`` (n, count)."""
        mix, count = coefficients.to(self._vectors), coefficients.shape[1]
        return mix @ self.vectors(count), mix @ self.products(count)

    def _empty(self, count: int) -> Tensor:
        return torch.empty(count, self._space.size, dtype=self._space.dtype, device=self._space.device)
