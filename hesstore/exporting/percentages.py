"""Conversion of fractions to percentages and back, without spurious digits.

A fraction h/n that is stored as a float has a rounding error, and 100 times that float can print as 97.30000000000001.
So the functions recover the exact h/n and round 100·h/n once.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LARGEST = 10**6  # the distances between fractions with denominators up to this exceed rounding errors


def percent(fractions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fractions as percentages: 100·h/n for h/n with n up to a million, 100 times the value otherwise. NaN stays."""
    return np.array([_percent(value) for value in fractions.ravel()]).reshape(fractions.shape)


def fraction(percents: NDArray[np.float64]) -> NDArray[np.float64]:
    """Percentages as fractions: the numbers that :func:`percent` turns into ``percents``, or else the nearest ones."""
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
    candidates = (near, divided, math.nextafter(divided, math.inf), math.nextafter(divided, -math.inf))
    return next((candidate for candidate in candidates if _percent(candidate) == value), divided)
