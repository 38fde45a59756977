"""A finer grid of λ where the networks of a store change suddenly."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from hesstore.analysis.change_points import THRESHOLD
from hesstore.analysis.transitions import transitions
from hesstore.config.l2_grid import L2_DECIMALS
from hesstore.errors import AnalysisError
from hesstore.store.schema import axis_of

if TYPE_CHECKING:
    import xarray as xr


def refined_l2(ds: xr.Dataset, points: int, threshold: float = THRESHOLD) -> tuple[float, ...]:
    """Return the grid of ``ds`` with ``points`` more values in each gap within a transition of one of the runs.

    Raises
    ------
    AnalysisError
        If an argument is out of range, or the store has no complete grid point.
    """
    if points < 1:
        raise AnalysisError(f"points is {points}: it must be at least 1")
    l2 = ds[axis_of(ds)].values
    found = transitions(ds, threshold=threshold)
    grid = set(l2.tolist())
    for first, last in zip(found["l2_from"].values, found["l2_to"].values, strict=True):
        inside = l2[(l2 >= first) & (l2 <= last)]
        for low, high in itertools.pairwise(inside.tolist()):
            grid |= set(np.linspace(low, high, points + 2)[1:-1].round(L2_DECIMALS).tolist())
    return tuple(sorted(grid))
