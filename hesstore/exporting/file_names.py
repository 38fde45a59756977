"""How λ is written in the names of exported files."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LEAST_DECIMALS = 5


def l2_decimals(grid: NDArray[np.float64]) -> int:
    """The number of decimals of λ in file names: 5, or as many as are needed to distinguish all values of ``grid``."""
    decimals = LEAST_DECIMALS
    while len({f"{l2:.{decimals}f}" for l2 in grid}) < len(grid):
        decimals += 1
    return decimals


def l2_texts(grid: NDArray[np.float64]) -> list[str]:
    """The values of ``grid`` as file names contain them."""
    decimals = l2_decimals(grid)
    return [f"{l2:.{decimals}f}" for l2 in grid]
