"""The values of a variable along λ, run by run, where they are complete."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hesstore.analysis.selection import require_split, require_variables
from hesstore.errors import AnalysisError
from hesstore.store.schema import Status, axis_of

if TYPE_CHECKING:
    import xarray as xr


def run_series(ds: xr.Dataset, name: str, split: str) -> xr.DataArray:
    """Return a variable (run, l2, …) of the split in float64, in memory; NaN at grid points that are not complete.

    Raises
    ------
    AnalysisError
        If the store lacks the variable or has no complete grid point, if the variable is not a small numeric one along
        run and λ, or if the split is unknown.
    """
    require_variables(ds, name, "status")
    require_split(split)
    return complete_values(ds, ds[name], split)


def complete_values(ds: xr.Dataset, values: xr.DataArray, split: str) -> xr.DataArray:
    """Return ``values`` of the split (run, l2, …) in float64, in memory; NaN at grid points that are not complete."""
    axis = axis_of(ds)
    if not {"run", axis} <= set(values.dims) or "param" in values.dims or values.dtype.kind not in "fiu":
        raise AnalysisError(
            f"{values.name} is not a small numeric variable along runs and grid points: choose one that is, such as "
            "accuracy or trace"
        )
    status = ds["status"].transpose("run", axis).load()
    if not (status == Status.COMPLETE).any():
        raise AnalysisError("no grid point of the store is complete: run the sweep first")
    values = values.sel(split=split) if "split" in values.dims else values
    values = values.transpose("run", axis, ...).load().astype(np.float64)
    return values.where(status == Status.COMPLETE)
