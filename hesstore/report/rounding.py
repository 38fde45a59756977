"""Numbers as short as they are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def significant(values: NDArray[np.float64], digits: int) -> NDArray[np.float64]:
    """``values`` to that many significant digits."""
    rounded = [float(f"{value:.{digits}g}") for value in values.ravel().tolist()]
    return np.array(rounded, dtype=np.float64).reshape(values.shape)


def in_thousandths(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """``values`` to a decimal that is at most a thousandth of the largest magnitude at the same first index.

    In a map whose colours end at the largest, less can't be seen.
    """
    largest = np.fmax.reduce(np.abs(values).reshape(len(values), -1), axis=1)
    powers = np.floor(np.log10(largest, out=np.zeros_like(largest), where=largest > 0))
    decimals = (3 - powers).astype(int)
    return np.array([one.round(places) + 0.0 for one, places in zip(values, decimals.tolist(), strict=True)])


def listed(values: NDArray[Any]) -> list[Any]:
    """Nested lists, with None for what is not a finite number, and whole numbers as such."""
    there = np.isfinite(values)
    known = values[there]
    is_whole = bool((known == known.round()).all() and np.abs(known).max(initial=0) < 2**53)
    filled = (np.where(there, values, 0).astype(np.int64) if is_whole else values).astype(object)
    filled[~there] = None
    result: list[Any] = filled.tolist()
    return result
