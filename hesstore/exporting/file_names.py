"""How λ, or the value on another axis, is written in the names of exported files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hesstore.config.l2_grid import AXIS

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr
    from numpy.typing import NDArray

LEAST_DECIMALS = 5


def value_decimals(grid: NDArray[np.float64], axis: str) -> int:
    """The number of decimals in file names, as many as are needed to distinguish all values of ``grid``.

    λ has at least 5, as in the files of the original scripts.
    """
    decimals = LEAST_DECIMALS if axis == AXIS else 0
    while len({f"{l2:.{decimals}f}" for l2 in grid}) < len(grid):
        decimals += 1
    return decimals


def value_texts(coordinate: xr.DataArray) -> list[str]:
    """The values of the grid as file names contain them."""
    grid: NDArray[np.float64] = coordinate.values
    decimals = value_decimals(grid, str(coordinate.name))
    return [f"{l2:.{decimals}f}" for l2 in grid]
