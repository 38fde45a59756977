"""Where classes are lost, as numbers for a report: for each run, and as means over the runs of a direction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hesstore.analysis import lost_classes
from hesstore.plots.run_data import run_losses, without_parameters
from hesstore.report.rounding import json_list
from hesstore.store.decoding import decoding
from hesstore.store.schema import SPLITS, Status, axis_of

if TYPE_CHECKING:
    import xarray as xr


def losses_of_run(part: xr.Dataset, run: int) -> list[Any] | None:
    """Return [λ, lower end, upper end, reason] of the loss by split and class; None for an import without counts.

    A number is None where it is unknown. The reason is a text where the class has no λ of its loss, otherwise empty.
    """
    by_split, names = [], (f"lost_{axis_of(part)}", "low", "high")
    for split in SPLITS:
        losses = run_losses(part, run, split)
        if losses is None:
            return None
        numbers = json_list(np.stack([losses[name].values for name in names], axis=1))
        reasons = losses["censored"].values.tolist()
        by_split.append([[*row, reason] for row, reason in zip(numbers, reasons, strict=True)])
    return by_split


def mean_losses(ds: xr.Dataset) -> dict[str, dict[str, Any]]:
    """Return the mean λ of the loss over the runs of each direction that has several finished runs.

    Returns
    -------
    dict
        By direction: ``runs``, the number of runs, and ``means``, [λ, lower end, upper end] by split and class. A run
        counts if all of its grid points are complete and have confusion counts.
    """
    axis = axis_of(ds)
    status = ds["status"].transpose("run", axis).values
    with decoding("confusion"):
        counts = ds["confusion"].transpose("run", axis, ...).values
    is_counted = (counts >= 0).reshape(*status.shape, -1).all(2)
    is_whole = ((status == Status.COMPLETE) & is_counted).all(1)
    directions = ds["direction"].values
    found: dict[str, dict[str, Any]] = {}
    for direction in dict.fromkeys(directions[is_whole].tolist()):
        runs = np.flatnonzero(is_whole & (directions == direction))
        if runs.size < 2:
            continue
        part = without_parameters(ds[["status", "confusion"]]).isel(run=runs).load()
        means = [_means(lost_classes(part, split=split), f"lost_{axis}_mean") for split in SPLITS]
        found[direction] = {"runs": int(runs.size), "means": means}
    return found


def _means(losses: xr.Dataset, name: str) -> list[Any]:
    names = (name, f"{name}_low", f"{name}_high")
    return json_list(np.stack([losses[each].isel(direction=0).values for each in names], axis=1))
