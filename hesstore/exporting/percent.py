"""Fractions as percentages, and back, without a digit too many.

A fraction h/n that is stored as a float is off by a rounding, and a hundred times that can print as 97.30000000000001.
So h/n is found again, and 100·h/n rounded once.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LARGEST = 10**6  # fractions with denominators up to this are further apart than a rounding


def percent(fractions: NDArray[np.float64]) -> NDArray[np.float64]:
    """100·h/n for each h/n, n up to a million; another number is multiplied by 100. NaN stays."""
    return np.array([_percent(value) for value in fractions.ravel()]).reshape(fractions.shape)


def fraction(percents: NDArray[np.float64]) -> NDArray[np.float64]:
    """What :func:`percent` turns into ``percents``, wherever there is such a number, or else the nearest to it."""
    return np.array([_fraction(value) for value in percents.ravel()]).reshape(percents.shape)


def _percent(value: float) -> float:
    if not math.isfinite(value):
        return value
    near = Fraction(value).limit_denominator(_LARGEST)
    return float(100 * near) if float(near) == value else 100 * value


def _fraction(value: float) -> float:
    if not math.isfinite(value):
        return value
    near = float((Fraction(value) / 100).limit_denominator(_LARGEST))
    divided = value / 100
    tries = (near, divided, math.nextafter(divided, math.inf), math.nextafter(divided, -math.inf))
    return next((candidate for candidate in tries if _percent(candidate) == value), divided)
