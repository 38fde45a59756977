"""Open a store as an xarray Dataset, and check it against its digests."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from hesstore.errors import CorruptStoreError, StoreError
from hesstore.store.checking import RunCheck, check_coordinates, grid_of, promised_files, small_names
from hesstore.store.decoding import decoding
from hesstore.store.identity import identity_of
from hesstore.store.places.location import locate
from hesstore.store.root_group import open_group
from hesstore.store.schema import COORDINATE_ATTRS, Run, axis_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import xarray as xr
    from numpy.typing import NDArray

    from hesstore.store.places.location import Location
    from hesstore.store.places.place import Place

CHECKED = "hesstore_checked"
"""The entry in the ``encoding`` of a Dataset whose small variables were checked."""

_SOURCE = "source"
"""The entry in the ``encoding`` of a Dataset with the location of its store, as xarray names it."""

_TRIES = 3
"""How often the small variables are read at most, because another process may withdraw results meanwhile."""
_PAUSE = 0.05
_READS_AT_ONCE = 8


def open_store(location: Location, *, chunked: bool = True, check: bool = False) -> xr.Dataset:
    """Open a store as the Dataset of ``xr.open_zarr(location)``, after a check of its metadata.

    See :func:`hesstore.open` for the parameters and errors; it adds a repr that describes the sweep, and ``ds.hess``.
    """
    place = locate(location)
    open_group(place)
    ds = _open(place, chunked=chunked)
    if not check:
        return ds
    if not chunked:
        return check_dataset(ds)
    checked = check_dataset(_open(place, chunked=False))  # Dask takes longer for small variables than the check
    small = small_names(map(str, ds.data_vars))
    return checked.assign({name: array for name, array in ds.data_vars.items() if name not in small})


def _open(place: Place, *, chunked: bool) -> xr.Dataset:
    import xarray as xr  # noqa: PLC0415 - a sweep and `hesstore list` need no xarray, which takes a third of a second

    options: dict[str, Any] = {} if chunked else {"chunks": None}
    with decoding(f"{place}: a coordinate"):  # opening reads the coordinates
        ds: xr.Dataset = xr.open_zarr(place.zarr_store(read_only=True), zarr_format=3, **options)
        check_coordinates(str(place), ds.attrs, {name: _values(ds, name) for name in map(str, ds.indexes)})
    ds.encoding[_SOURCE] = place.address
    return ds


def check_dataset(ds: xr.Dataset) -> xr.Dataset:
    """Return ``ds`` with its small variables in memory, after a check against the digests in the store.

    A Dataset that was checked already, or that is not a whole store, is returned as it is.

    Raises
    ------
    CorruptStoreError
        If a value or a file is missing, damaged, or not the one that was recorded. The message names the file.
    """
    if ds.encoding.get(CHECKED) or not _is_whole(ds):
        return ds
    place = _place_of(ds)
    for tried in range(_TRIES):
        loaded = ds.copy()  # it reads again what ds may have in its cache
        try:
            _check(loaded, place)
        except CorruptStoreError:
            if tried and not any(_was_interrupted(place, run) for run in range(ds.sizes["run"])):
                raise  # nobody writes it
            if tried == _TRIES - 1:
                raise
            time.sleep(_PAUSE)
        else:
            break
    loaded.encoding[CHECKED] = True
    return loaded


def _check(ds: xr.Dataset, place: Place | None) -> None:
    where = str(place or "the store")
    with decoding(where):
        rows, labels = _load(ds, small_names(map(str, ds.data_vars))), list(map(str, ds.coords))
        check_coordinates(where, ds.attrs, {name: _values(ds, name) for name in labels if name in COORDINATE_ATTRS})
    identity, grid = identity_of(ds.attrs), ds[axis_of(ds)].values.tolist()
    files: list[str] = []
    for run in _runs(ds):
        of_run = {name: values[run.id] for name, values in rows.items()}
        check = RunCheck(where, identity, run, grid, of_run, partial(_was_interrupted, place, run.id))
        check.check()
        files += [file for file in promised_files(ds.attrs, identity, check) if file.partition("/")[0] in ds]
    lost = place.missing(files) if place else []
    if lost:
        more = f" (and {len(lost) - 1} other files)" if len(lost) > 1 else ""
        raise CorruptStoreError(
            f"{where}: {lost[0]}: is missing or empty{more}: `hesstore verify {where}` lists all damage"
        )


def _load(ds: xr.Dataset, names: list[str]) -> dict[str, NDArray[Any]]:
    """Load variables into ``ds``, the first three before all others; return their values."""
    for name in names[:3]:
        ds.variables[name].load()
    with ThreadPoolExecutor(_READS_AT_ONCE) as pool:
        for _ in pool.map(lambda name: ds.variables[name].load(), names[3:]):
            pass
    return {name: ds.variables[name].values for name in names}


def _runs(ds: xr.Dataset) -> Iterator[Run]:
    for index, (seed, direction) in enumerate(zip(ds["seed"].values, ds["direction"].values, strict=True)):
        yield Run(index, int(seed), str(direction))


def _values(ds: xr.Dataset, name: str) -> NDArray[Any]:
    values: NDArray[Any] = np.asarray(ds.variables[name].values)
    return values


def _is_whole(ds: xr.Dataset) -> bool:
    """Whether this is the whole Dataset of a store, with the values that were read from it."""
    axis = axis_of(ds)
    needed = ("status", "digest", "entries_digest", "seed", "direction", axis)
    if any(name not in ds.variables for name in needed) or ds["status"].dims != ("run", axis):
        return False
    try:
        runs, grid = json.loads(ds.attrs["runs"]), grid_of(identity_of(ds.attrs))
    except (KeyError, ValueError):
        return False
    if ds["run"].values.tolist() != list(range(len(runs))) or (grid and list(grid) != ds[axis].values.tolist()):
        return False
    return all(_is_as_stored(ds.variables[name]) for name in small_names(map(str, ds.data_vars)))


def _is_as_stored(variable: xr.Variable) -> bool:
    """Whether a small variable has the lengths of its chunks: it was read from a store, and nothing was selected."""
    chunks = variable.encoding.get("chunks")
    return chunks is not None and tuple(chunks[2:]) == variable.shape[2:]


def _place_of(ds: xr.Dataset) -> Place | None:
    """The place of the store that a Dataset was opened from, if it is still there."""
    try:
        place = locate(str(ds.encoding[_SOURCE]))
        place.check_exists()
    except (KeyError, StoreError):
        return None
    return place


def _was_interrupted(place: Place | None, run_id: int) -> bool:
    """Whether the last statuses of a run may be missing; a packed store does not have the claims that would show it."""
    return place is None or not place.has_claims or place.holder(run_id) is not None
