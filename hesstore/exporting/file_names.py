"""How exported files name λ."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LEAST_DECIMALS = 5


def l2_decimals(grid: NDArray[np.float64]) -> int:
    """Decimals that file names give λ: 5, or as many as it takes to tell all of ``grid`` apart."""
    decimals = LEAST_DECIMALS
    while len({f"{value:.{decimals}f}" for value in grid}) < len(grid):
        decimals += 1
    return decimals


def l2_texts(grid: NDArray[np.float64]) -> list[str]:
    """Each λ as file names give it."""
    decimals = l2_decimals(grid)
    return [f"{value:.{decimals}f}" for value in grid]
