"""Functions that compare the results of sweeps, and an observer that interrupts a sweep."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import xarray as xr

from hesstore.engine.sweep import SweepEvent

TIMES = ["fit_seconds", "analysis_seconds", "entries_digest"]
"""Variables that differ between equal sweeps: durations, and the digest that covers them."""


def untimed(files: Mapping[str, bytes]) -> dict[str, object]:
    """The files of a store by name, without durations and without the time at which it was made."""
    root = json.loads(files["zarr.json"])
    del root["attributes"]["seal"]
    environment = json.loads(root["attributes"].pop("environment"))
    assert environment.pop("time")
    kept = {name: data for name, data in files.items() if name.partition("/")[0] not in TIMES or "/c/" not in name}
    return {**kept, "zarr.json": (root, environment)}


def results(path: Path) -> xr.Dataset:
    """Everything in a store that must be the same however its sweep was interrupted."""
    ds: xr.Dataset = xr.open_zarr(path).drop_vars(TIMES, errors="ignore").load()
    return ds.drop_attrs(deep=False)


class Stop(BaseException):
    """Interrupts a sweep."""


def stop_at(count: int) -> Callable[[SweepEvent], None]:
    """An observer that interrupts the sweep at its ``count``-th event."""
    seen = 0

    def observe(_: SweepEvent) -> None:
        nonlocal seen
        seen += 1
        if seen == count:
            raise Stop

    return observe
