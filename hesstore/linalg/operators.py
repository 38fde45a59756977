"""The protocols that solvers work with: a matrix is known by its size and its product with a vector."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class VectorSpace(Protocol):
    """The space of vectors of P entries, with a precision and a device."""

    @property
    def size(self) -> int:
        """P, the number of entries of a vector."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the vectors."""
        ...

    @property
    def device(self) -> torch.device:
        """The device of the vectors."""
        ...


@runtime_checkable
class SymmetricOperator(VectorSpace, Protocol):
    """A real symmetric matrix A (P × P) that is known by its products."""

    def matvec(self, v: Tensor) -> Tensor:
        """A v for ``v`` (P,); the result is a new tensor."""
        ...


class Images(Protocol):
    """Maps that nearly commute with A, such as permutations of nearly equal parts of what A describes.

    The image of an eigenvector is then nearly an eigenvector with the same eigenvalue. Where it is another vector, the
    eigenvalue has copies, or nearly, and the image is a good start for finding them.
    """

    @property
    def levels(self) -> int:
        """Number of families of maps; those of a higher level commute less precisely with A."""
        ...

    def images(self, vectors: Tensor, level: int, generator: torch.Generator) -> Tensor:
        """The image of each row of ``vectors`` (n, P) under a random map, another one for each row."""
        ...


class OperatorStack(VectorSpace, Protocol):
    """G real symmetric matrices A_g (P × P) whose products are computed together."""

    @property
    def copies(self) -> int:
        """G, the number of matrices."""
        ...

    def matvec(self, v: Tensor) -> Tensor:
        """A_g v_g in row g, for ``v`` (G, P); the result is a new tensor."""
        ...

    def subset(self, rows: list[int]) -> OperatorStack:
        """Return the stack of some of the matrices; this stack must not be used again."""
        ...
