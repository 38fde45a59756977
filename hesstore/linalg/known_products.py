"""All products with a small matrix, so that no more than P of them are ever needed."""

from __future__ import annotations

import torch
from torch import Tensor

NEGLIGIBLE = 32.0
"""A component of a unit vector below this many ε is rounding."""


class KnownProducts:
    """Orthonormal vectors that were multiplied with A, and their products.

    A vector within their span needs no further product. Of any other vector, only the component outside the span does.

    Parameters
    ----------
    size : int
        P.
    dtype, device
        Precision and device of the vectors.
    """

    def __init__(self, size: int, dtype: torch.dtype, device: torch.device) -> None:
        self.count = 0
        self._vectors = torch.empty(size, size, dtype=dtype, device=device)
        self._products = torch.empty_like(self._vectors)

    @property
    def vectors(self) -> Tensor:
        """(n, P) the vectors, one in each row."""
        return self._vectors[: self.count]

    @property
    def products(self) -> Tensor:
        """(n, P) their products with A."""
        return self._products[: self.count]

    @property
    def is_whole(self) -> bool:
        """Whether the vectors span the whole space."""
        return self.count == len(self._vectors)

    def add(self, vector: Tensor, product: Tensor) -> None:
        """Add the product of a unit vector that is orthogonal to the others."""
        self._vectors[self.count], self._products[self.count] = vector, product
        self.count += 1

    def new_direction(self, vector: Tensor) -> Tensor | None:
        """The unit vector along the component of a unit ``vector`` outside the span; None if that is rounding."""
        rest = self._outside(vector)
        if float(torch.linalg.vector_norm(rest)) <= NEGLIGIBLE * torch.finfo(vector.dtype).eps:
            return None
        for _ in range(2):  # a short component has lost its orthogonality
            rest = self._outside(rest / torch.linalg.vector_norm(rest))
        direction: Tensor = rest / torch.linalg.vector_norm(rest)
        return direction

    def product(self, vector: Tensor) -> Tensor:
        """A times a ``vector`` within the span."""
        return (self.vectors @ vector) @ self.products

    def _outside(self, vector: Tensor) -> Tensor:
        return vector - (self.vectors @ vector) @ self.vectors
