"""The running median along λ: the line through the noise of a dense grid of independent fits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hesstore.plots.style import DENSE_GRID

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SHARE = 30
"""A window is about this part of the grid: 15 grid points of 451."""


def median_window(count: int) -> int:
    """Return the number of grid points in a window, which is odd; 1, which changes nothing, for a coarse grid."""
    return 1 if count <= DENSE_GRID else max(3, 2 * (count // (2 * _SHARE)) + 1)


def running_median(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Return the median of the finite values in a window around each one.

    Parameters
    ----------
    values : ndarray
        (n,); NaN where there is no value, which stays NaN.
    window : int
        Number of values in a window, odd; at both ends the window is cut off.

    Returns
    -------
    ndarray
        (n,)
    """
    if window <= 1:
        return values
    half = window // 2
    padded = np.pad(values, half, constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, window)
    medians = np.full_like(values, np.nan)
    known = np.isfinite(values)
    medians[known] = np.nanmedian(windows[known], axis=1)
    return medians
