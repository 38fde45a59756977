"""Numbers rounded to what a report shows, as JSON holds them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def round_to_digits(values: NDArray[np.float64], digits: int) -> NDArray[np.float64]:
    """Round ``values`` to a number of significant digits."""
    rounded = [float(f"{value:.{digits}g}") for value in values.ravel().tolist()]
    return np.array(rounded, dtype=np.float64).reshape(values.shape)


def round_to_thousandths(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round ``values`` to at most a thousandth of the largest magnitude with the same first index.

    Smaller differences are invisible in a map whose colours end at the largest magnitude.
    """
    largest = np.fmax.reduce(np.abs(values).reshape(len(values), -1), axis=1)
    powers = np.floor(np.log10(largest, out=np.zeros_like(largest), where=largest > 0))
    decimals = (3 - powers).astype(int)
    return np.array([one.round(places) + 0.0 for one, places in zip(values, decimals.tolist(), strict=True)])


def json_list(values: NDArray[Any]) -> list[Any]:
    """Return nested lists with None for numbers that are not finite, and with integers if all numbers are whole."""
    is_finite = np.isfinite(values)
    known = values[is_finite]
    is_whole = bool((known == known.round()).all() and np.abs(known).max(initial=0) < 2**53)
    filled = (np.where(is_finite, values, 0).astype(np.int64) if is_whole else values).astype(object)
    filled[~is_finite] = None
    result: list[Any] = filled.tolist()
    return result
