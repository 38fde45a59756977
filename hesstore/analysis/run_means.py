"""The mean over runs and its interval: Student's t, whose coverage is right also for two runs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import scipy

from hesstore.analysis.rank_intervals import LEVEL

if TYPE_CHECKING:
    from numpy.typing import NDArray


class RunMean(NamedTuple):
    """The mean over the runs whose value is finite, the ends of its 95 % interval, and the number of these runs."""

    mean: float
    low: float
    high: float
    num_runs: int


def mean_over_runs(values: NDArray[np.float64]) -> RunMean:
    """Return the mean over runs of ``values`` (runs,), with the interval mean ± t s/√n for n values.

    s is their standard deviation and t the quantile of Student's distribution with n − 1 degrees of freedom. The runs
    must be independent, as those of different seeds are. The interval is NaN for one run, and where all values are
    equal: such as a λ of the grid, whose error is then the distance of its neighbours and not zero.
    """
    values = values[np.isfinite(values)]
    count = values.size
    if not count:
        return RunMean(math.nan, math.nan, math.nan, 0)
    mean, spread = float(values.mean()), float(np.ptp(values))
    if not spread:  # of one value, or of equal ones
        return RunMean(mean, math.nan, math.nan, count)
    reach = float(scipy.special.stdtrit(count - 1, (1 + LEVEL) / 2)) * float(values.std(ddof=1)) / math.sqrt(count)
    return RunMean(mean, mean - reach, mean + reach, count)
