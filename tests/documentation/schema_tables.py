"""Markdown tables of the variables, coordinates and statuses of a store, and of the settings of a sweep."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import xarray as xr

from hesstore import config
from hesstore.store import Status, StoreSpec, SweepStore
from hesstore.store.digest import reference_digest
from hesstore.store.schema import (
    COORDINATE_ATTRS,
    REFERENCES,
    VARIABLES,
    promised_large,
    promised_small,
    required_settings,
)
from hesstore.store.variable import CHUNK_POINTS, Variable
from tests.support.stores import IDENTITY, P, spec


def variables() -> str:
    """Return a table with one row per variable, in alphabetical order."""
    return table(
        ("variable", "dimensions", "dtype", "units", "fill value", "chunk", "if", "meaning"),
        (_variable(each) for each in sorted(VARIABLES, key=lambda each: each.name)),
    )


def _variable(variable: Variable) -> tuple[str, ...]:
    notes = "".join(f"; `{name}` = {value}" for name, value in variable.attrs.items() if name != "comment")
    comment = f"; {variable.attrs['comment']}" if "comment" in variable.attrs else ""
    return (
        f"`{variable.name}`",
        ", ".join(variable.dims),
        variable.dtype,
        variable.units,
        f"{variable.fill}" or '""',
        _chunk(variable),
        ", ".join(f"`{name}`" for name in required_settings(variable)),
        variable.long_name + comment + notes,
    )


def _chunk(variable: Variable) -> str:
    """Return the extent of one chunk, derived from the chunk shape."""
    sizes = {dim: number for number, dim in enumerate(("run", "l2", "mode", "split", "label", "pred", "param"), 2)}
    sizes |= dict.fromkeys({"lowest", "other", "sign", "mu", "statistic", "block", "block_mode"}, 99)
    chunk = dict(zip(variable.dims, variable.chunks(sizes), strict=True))
    if chunk["l2"] > 1:
        return f"{CHUNK_POINTS} grid points"
    if variable.shards(sizes):
        return "one eigenvector; one file per grid point"
    return "one grid point"


def coordinates() -> str:
    """Return a table with one row per coordinate, read from an empty store."""
    ds = _template()
    rows = []
    for name in COORDINATE_ATTRS:
        dtype = "string" if ds[name].dtype.kind in "OT" else f"{ds[name].dtype.kind}{ds[name].dtype.itemsize}"
        dims = ", ".join(map(str, ds[name].dims))
        rows.append((f"`{name}`", dims, dtype, ds[name].attrs.get("units", ""), ds[name].attrs["long_name"]))
    return table(("coordinate", "dimension", "dtype", "units", "meaning"), rows)


def _spec() -> StoreSpec:
    """The description of a store with every optional variable and coordinate."""
    references = dict.fromkeys(REFERENCES, np.zeros(P, np.float32))
    digests = {name: reference_digest(weights) for name, weights in references.items()}
    statistics = [["bn.running_mean", [4]], ["bn.running_var", [4]]]
    return spec(
        identity={**IDENTITY, "polish": 1, "blocks": "layer", "block_k": 3, **digests, "statistics": statistics},
        references=references,
    )


def _template() -> xr.Dataset:
    with TemporaryDirectory() as folder:
        SweepStore.create(Path(folder) / "s.zarr", _spec())
        ds: xr.Dataset = xr.open_zarr(Path(folder) / "s.zarr").load()
    return ds


def promises() -> str:
    """Return a table with one row per status: the variables that it promises, by the digest that covers them."""
    return table(
        ("status", "large variables, covered by `digest`", "small variables, covered by `entries_digest`"),
        (
            (f"{int(status)} {status.name.lower()}", _names(promised_large, status), _names(promised_small, status))
            for status in Status
        ),
    )


def _names(of: Any, status: Status) -> str:
    return ", ".join(f"`{name}`" for name in of(_spec().identity, status)) or "–"


def settings() -> str:
    """Return a table with one row per setting of a sweep."""
    defaults = config.SweepConfig().to_mapping()
    rows = []
    for setting in config.settings():
        default = defaults[setting.name]
        shown = ",".join(map(str, default)) if isinstance(default, list) else str(default)
        unit = setting.metadata.get("unit")
        rows.append((f"`{setting.name}`", f"`{shown}`" * bool(shown), unit or "", setting.metadata["help"]))
    return table(("setting", "default", "unit", "meaning"), rows)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table."""
    lines = [list(head), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    escaped = [[cell.replace("|", r"\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)
