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
        self._products: list[tuple[Tensor, Tensor]] = []

    def add_product(self, coefficients: Tensor, beta: Tensor) -> None:
        """Add the product of the last vector: the coefficients of all vectors so far, and β, that of the next one."""
        self._products.append((coefficients, beta))

    def last_diagonals(self, steps: int) -> list[Tensor]:
        """The α of the last steps, and then their β, each without a dimension."""
        recent = self._products[len(self._products) - steps :]
        return [coefficients[-1] for coefficients, _ in recent] + [beta for _, beta in recent]

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
        steps, device = mix.shape[1], self._space.device
        parts = [part for coefficients, beta in self._products[:steps] for part in (coefficients, beta[None])]
        entries = torch.cat(parts).double() if parts else torch.zeros(0, dtype=torch.float64, device=device)
        matrix = torch.zeros(steps, self._locked + steps + 1, dtype=torch.float64, device=device)
        is_known = torch.ones_like(matrix, dtype=torch.bool).tril_(self._locked + 1)
        return mix @ matrix.masked_scatter_(is_known, entries)
