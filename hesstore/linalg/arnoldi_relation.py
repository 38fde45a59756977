"""The products of A with the vectors of a chain, as combinations of the vectors themselves.

Gram–Schmidt subtracts from A qⱼ its components along all vectors up to qⱼ, and scales what is left to the unit vector
qⱼ₊₁. So, with the coefficients hᵢⱼ that were subtracted and hⱼ₊₁ⱼ = βⱼ,

    A qⱼ = Σᵢ hᵢⱼ qᵢ,  i ≤ j + 1,

to the rounding of the subtraction, whether the vectors are orthogonal or not. Thus a search need not keep the products,
which saves half of its memory. The diagonals of T are the largest of the coefficients, αⱼ = hⱼⱼ and βⱼ.

Source: Saad, *Numerical Methods for Large Eigenvalue Problems*, 2nd ed., §6.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from hesstore.linalg.operators import VectorSpace


class ArnoldiRelation:
    """The coefficients hᵢⱼ, on the device of the vectors.

    Parameters
    ----------
    space : VectorSpace
        Precision and device of the vectors.
    locked : int
        Number of vectors before those of the chain.
    """

    def __init__(self, space: VectorSpace, locked: int = 0) -> None:
        self._space, self._locked = space, locked
        self._steps = 0
        self._coefficients = self._zeros(0)

    def add_product(self, row: int) -> Tensor:
        """Add a product; return a view of its coefficients, zeros (row + 2,), which the caller sets.

        The coefficients are those of all vectors up to the next one, and ``row`` is the row of the vector that was
        multiplied.
        """
        if self._steps == len(self._coefficients):
            larger = self._zeros(max(32, 2 * self._steps))
            larger[: self._steps, : self._coefficients.shape[1]] = self._coefficients
            self._coefficients = larger
        self._steps += 1
        return self._coefficients[self._steps - 1, : row + 2]

    def last_diagonals(self, steps: int) -> tuple[Tensor, Tensor]:
        """The α and β (steps,) of the last steps, on the host in float64."""
        first = self._steps - steps
        recent = self._coefficients[first : self._steps, self._locked + first :].to("cpu", torch.float64)
        return recent.diagonal(), recent.diagonal(1)

    def products(self, mix: Tensor) -> Tensor:
        """The coefficients of all vectors in the products of combinations of the vectors of the chain.

        Parameters
        ----------
        mix : Tensor
            (n, steps) the coefficients of the first vectors of the chain, in float64 on the device.

        Returns
        -------
        Tensor
            (n, locked + steps + 1) in float64.
        """
        steps = mix.shape[1]
        return mix @ self._coefficients[:steps, : self._locked + steps + 1].double()

    def _zeros(self, steps: int) -> Tensor:
        return torch.zeros(steps, self._locked + steps + 1, dtype=self._space.dtype, device=self._space.device)
