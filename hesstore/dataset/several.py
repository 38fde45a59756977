"""Several stores as one Dataset, whose runs are those of all stores."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from hesstore.config import settings
from hesstore.errors import AnalysisError
from hesstore.store.schema import BY_NAME, REFERENCES, axis_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SETTING = "config_"
"""The prefix of coordinates of settings that differ between stores."""

_OF_GRID = frozenset({"l2", "seeds", "direction"})
"""Settings that the coordinates l2, seed and direction show already."""


def store_names(locations: Sequence[str]) -> list[str]:
    """Return a short, unique name of each location: its last part, or the whole location if two parts are equal.

    Examples
    --------
    >>> store_names(["a/one.zarr", "s3://bucket/two.zarr/"])
    ['one', 'two']
    >>> store_names(["a/one.zarr", "b/one.zarr"])
    ['a/one.zarr', 'b/one.zarr']
    """
    short = [each.rstrip("/").rpartition("/")[2].removesuffix(".zip").removesuffix(".zarr") for each in locations]
    names = short if len(set(short)) == len(short) else list(locations)
    if len(set(names)) < len(names):
        raise AnalysisError(f"{next(name for name in names if names.count(name) > 1)} is given twice: open it once")
    return names


def combine(stores: Sequence[xr.Dataset], names: Sequence[str], *, with_large: bool) -> xr.Dataset:
    """Return one Dataset with the runs of several stores, on the union of their grids.

    Parameters
    ----------
    stores : sequence of Dataset
        The stores.
    names : sequence of str
        Their names.
    with_large : bool
        Whether to keep variables with one value per parameter.

    Returns
    -------
    Dataset
        The runs have new numbers. Their coordinates ``store`` and ``store_run`` name the store and the run in it, and
        coordinates such as ``config_lr`` have the settings that differ. Grid points that a store does not have are
        pending.
    """
    axes = [axis_of(each) for each in stores]
    if not _are_equal(axes):
        raise AnalysisError(f"the stores have different grids ({', '.join(dict.fromkeys(axes))}): open one at a time")
    configs = [json.loads(str(ds.attrs["config"])) for ds in stores]
    identities = [json.loads(str(ds.attrs["identity"])) for ds in stores]
    has_one_network = with_large and _are_equal([identity["parameters"] for identity in identities])
    first, parts = 0, []
    for ds, name, config in zip(stores, names, configs, strict=True):
        count = ds.sizes["run"]
        part = ds if has_one_network else ds.drop_dims("param")
        unlike = [each for each in REFERENCES if each in part and not _are_equal([i.get(each) for i in identities])]
        coordinates: dict[str, Any] = {
            "run": np.arange(first, first + count, dtype=ds["run"].dtype),
            "store": ("run", np.full(count, name, dtype=object)),
            "store_run": ("run", ds["run"].values),
            **{f"{SETTING}{key}": ("run", _values(config[key], count)) for key in _differing(configs)},
        }
        parts.append(part.drop_vars(unlike).assign_coords(coordinates))
        first += count
    fills = {str(name): BY_NAME[str(name)].fill for part in parts for name in part.data_vars if name in BY_NAME}
    fills = {name: np.nan if isinstance(fill, str) else fill for name, fill in fills.items()}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Increasing number of chunks")  # Dask, of the masks of joined grids
        ds = xr.concat(
            parts,
            dim="run",
            data_vars="all",
            coords="minimal",
            compat="override",  # coordinates without the dimension run are equal, or are on the joined axes
            join="outer",
            fill_value=fills,
            combine_attrs="drop_conflicts",
        )
    common = {"config": json.dumps(_common(configs)), "identity": json.dumps(_common(identities))}
    return ds.sortby(axes[0]).assign_attrs(common)


def _differing(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the settings that decide the results and differ between the stores."""
    names = [setting.name for setting in settings() if setting.metadata["identity"] and setting.name not in _OF_GRID]
    return [name for name in names if not _are_equal([config.get(name) for config in configs])]


def _common(mappings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the items that all mappings have."""
    first, *others = mappings
    return {key: value for key, value in first.items() if all(key in o and o[key] == value for o in others)}


def _are_equal(values: Sequence[object]) -> bool:
    return all(value == values[0] for value in values)


def _values(value: Any, count: int) -> Any:
    """Return the coordinate of a setting; lists become text."""
    text = ",".join(map(str, value)) if isinstance(value, list) else value
    return np.full(count, text, dtype=object if isinstance(text, str) else None)
