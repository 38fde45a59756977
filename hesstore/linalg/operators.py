"""What a solver needs to know of a matrix: its size and its product with a vector."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class VectorSpace(Protocol):
    """Where vectors of P entries live, and in which precision."""

    @property
    def size(self) -> int:
        """P."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the vectors."""
        ...

    @property
    def device(self) -> torch.device:
        """Where they are."""
        ...


@runtime_checkable
class SymmetricOperator(VectorSpace, Protocol):
    """A real symmetric matrix A (P × P) known by its products."""

    def matvec(self, v: Tensor) -> Tensor:
        """A v for ``v`` (P,); the result is a new tensor."""
        ...


class OperatorStack(VectorSpace, Protocol):
    """G real symmetric matrices A_g (P × P) whose products are computed together."""

    @property
    def copies(self) -> int:
        """G."""
        ...

    def matvec(self, v: Tensor) -> Tensor:
        """A_g v_g in row g, for ``v`` (G, P); the result is a new tensor."""
        ...

    def subset(self, rows: list[int]) -> OperatorStack:
        """Some of the matrices; this stack is not used again."""
        ...


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
        """P."""
        return self.matrix.shape[0]

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the matrix."""
        return self.matrix.dtype

    @property
    def device(self) -> torch.device:
        """Where the matrix lives."""
        return self.matrix.device

    def matvec(self, v: Tensor) -> Tensor:
        """A v."""
        return self.matrix @ v
