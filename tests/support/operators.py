"""Symmetric matrices for tests of the eigensolvers."""

from __future__ import annotations

import torch
from torch import Tensor


class DenseOperator:
    """A symmetric matrix that is held in full.

    Parameters
    ----------
    matrix : Tensor
        (P, P), symmetric.
    """

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix

    @property
    def size(self) -> int:
        """P, the number of rows."""
        return self.matrix.shape[0]

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the matrix."""
        return self.matrix.dtype

    @property
    def device(self) -> torch.device:
        """The device of the matrix."""
        return self.matrix.device

    def matvec(self, v: Tensor) -> Tensor:
        """A v for ``v`` (P,)."""
        return self.matrix @ v


def symmetric(eigenvalues: Tensor, seed: int = 0) -> Tensor:
    """A matrix with these eigenvalues and random eigenvectors."""
    n = len(eigenvalues)
    generator = torch.Generator().manual_seed(seed)
    q, _ = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))
    a: Tensor = (q * eigenvalues.double()) @ q.T
    return (a + a.T) / 2


class ReflectedDiagonal:
    """The symmetric matrix R D R with a diagonal D and a reflection R = I − 2 u uᵀ, or D itself.

    Its eigenvalues are known exactly, and a product takes O(P) operations.

    Parameters
    ----------
    eigenvalues : Tensor
        (P,) the diagonal of D; its precision is that of the products.
    direction : Tensor, optional
        (P,) the unit vector u; by default there is no reflection.
    """

    def __init__(self, eigenvalues: Tensor, direction: Tensor | None = None) -> None:
        self.eigenvalues, self.direction = eigenvalues, direction

    @property
    def size(self) -> int:
        """P, the number of rows."""
        return len(self.eigenvalues)

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the products."""
        return self.eigenvalues.dtype

    @property
    def device(self) -> torch.device:
        """The device of the products."""
        return self.eigenvalues.device

    def matvec(self, v: Tensor) -> Tensor:
        """A v for ``v`` (P,)."""
        return self._reflect(self.eigenvalues * self._reflect(v))

    def _reflect(self, v: Tensor) -> Tensor:
        return v if self.direction is None else v - 2 * self.direction.dot(v) * self.direction


class DiagonalStack:
    """Diagonal matrices whose products are computed together, by one kernel.

    Parameters
    ----------
    diagonals : Tensor
        (G, P) the diagonals.

    Attributes
    ----------
    products : list of int
        The number of vectors in each product, those of subsets included.
    """

    def __init__(self, diagonals: Tensor) -> None:
        self.diagonals = diagonals
        self.products: list[int] = []

    @property
    def copies(self) -> int:
        """G, the number of matrices."""
        return len(self.diagonals)

    @property
    def size(self) -> int:
        """P, the number of rows of each."""
        return self.diagonals.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the matrices."""
        return self.diagonals.dtype

    @property
    def device(self) -> torch.device:
        """The device of the matrices."""
        return self.diagonals.device

    def matvec(self, v: Tensor) -> Tensor:
        """The product of each matrix with its row of ``v`` (G, P)."""
        self.products.append(len(v))
        return self.diagonals * v

    def subset(self, rows: list[int]) -> DiagonalStack:
        """Some of the matrices."""
        part = DiagonalStack(torch.stack([self.diagonals[row] for row in rows]))
        part.products = self.products
        return part
