"""Vectors on the device and their products with A, one in each row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from hesstore.linalg.eigenpairs import order

if TYPE_CHECKING:
    from torch import Tensor

    from hesstore.linalg.eigenpairs import Which
    from hesstore.linalg.operators import VectorSpace


INDEPENDENT = 0.5
"""A unit vector is independent of others if its component outside their span has at least this length."""


class VectorRows:
    """Orthonormal vectors, the last of which has no product yet, in memory that grows as needed.

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

    def replace(self, vectors: Tensor, products: Tensor) -> None:
        """Replace the rows from the first one on."""
        self.reserve(len(vectors) + 1)
        self._vectors[: len(vectors)], self._products[: len(vectors)] = vectors, products

    def append_independent(self, count: int, vectors: Tensor, products: Tensor) -> int:
        """Append the component of each of ``vectors`` outside the first ``count`` rows; return the new count.

        Components shorter than :data:`INDEPENDENT` are left out.
        """
        for vector, product in zip(vectors, products, strict=True):
            for _ in range(2):
                overlap = self.vectors(count) @ vector
                vector, product = vector - overlap @ self.vectors(count), product - overlap @ self.products(count)
            length = torch.linalg.vector_norm(vector)
            if float(length) > INDEPENDENT:
                self.replace_row(count, vector / length, product / length)
                count += 1
        return count

    def replace_row(self, row: int, vector: Tensor, product: Tensor) -> None:
        """Replace one row."""
        self.reserve(row + 1)
        self._vectors[row], self._products[row] = vector, product

    def ritz_pairs(self, count: int, which: Which) -> None:
        """Replace the first ``count`` rows by the Ritz vectors of A on their span, in the order of ``which``."""
        projection = (self.vectors(count) @ self.products(count).T).double()
        values, mix = torch.linalg.eigh((projection + projection.T) / 2)
        self.replace(*self.combine(mix.T[order(values, which)]))

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

    def combine(self, coefficients: Tensor) -> tuple[Tensor, Tensor]:
        """Combinations of the first vectors, and their products, for ``coefficients`` (n, count)."""
        mix, count = coefficients.to(self._vectors), coefficients.shape[1]
        return mix @ self.vectors(count), mix @ self.products(count)

    def _empty(self, count: int) -> Tensor:
        return torch.empty(count, self._space.size, dtype=self._space.dtype, device=self._space.device)
