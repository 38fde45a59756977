"""Intervals for means of a few independent samples, by Student's t distribution."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from scipy import special  # scipy.stats takes half a second to import

if TYPE_CHECKING:
    from torch import Tensor

CONFIDENCE = 0.95
"""The probability with which an interval is meant to contain the true value."""


def standard_error(samples: Tensor) -> Tensor:
    """The standard error of the mean over the first axis of ``samples`` (n, …); NaN for one sample."""
    if len(samples) < 2:
        return torch.full_like(samples[0], torch.nan)
    return samples.std(0) / math.sqrt(len(samples))


def half_width(samples: Tensor) -> Tensor:
    """Half the width of the interval for the mean over the first axis of ``samples`` (n, …); NaN for one sample.

    It is t · SE, where SE is the standard error and t the quantile of Student's distribution with n − 1 degrees of
    freedom: 3.2 for n = 4, and 2.1 for n = 16.
    """
    quantile = float(special.stdtrit(max(len(samples) - 1, 1), (1 + CONFIDENCE) / 2))
    return quantile * standard_error(samples)
