"""Diagonal blocks of a symmetric matrix that is known by its products."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from hesstore.linalg.operators import SymmetricOperator


@dataclass(frozen=True)
class Submatrix:
    """The block S A Sᵀ of some rows and the same columns of A. Each product with it is one with A.

    Parameters
    ----------
    operator : SymmetricOperator
        A, P × P.
    rows : Tensor
        (n,) the indices of the rows.
    """

    operator: SymmetricOperator
    rows: Tensor

    @property
    def size(self) -> int:
        """The number of rows."""
        return len(self.rows)

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the products."""
        return self.operator.dtype

    @property
    def device(self) -> torch.device:
        """The device of the products."""
        return self.operator.device

    def matvec(self, v: Tensor) -> Tensor:
        """Return the product of the block with ``v`` (n,)."""
        whole = v.new_zeros(self.operator.size)
        whole[self.rows] = v
        return self.operator.matvec(whole)[self.rows]
