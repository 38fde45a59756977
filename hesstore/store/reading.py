"""Opening a store as an xarray Dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import xarray as xr

from hesstore.errors import CorruptStoreError
from hesstore.store.group import open_group
from hesstore.store.places.location import locate

if TYPE_CHECKING:
    from hesstore.store.places.location import Location


def open_store(location: Location, *, chunked: bool = True) -> xr.Dataset:
    """The store's variables, labelled and lazy: the same Dataset as ``xr.open_zarr(location)``, after a check.

    ``hesstore.open`` gives it a repr and the analyses of :mod:`hesstore.analysis`.

    Parameters
    ----------
    location : path, ``file://`` URL or ``s3://`` URL
        The store.
    chunked : bool
        Whether arrays are Dask's, where Dask is installed. One λ after the other is read four times as fast without.

    Raises
    ------
    CorruptStoreError
        If its metadata or a coordinate is damaged; other damage shows when it is read.
    StoreError
        If it is not a store, or has a newer schema.
    """
    place = locate(location)
    open_group(place)
    options: dict[str, Any] = {} if chunked else {"chunks": None}
    try:  # this reads the coordinates
        ds: xr.Dataset = xr.open_zarr(place.zarr_store(read_only=True), zarr_format=3, **options)
    except (ValueError, RuntimeError, KeyError) as error:
        raise CorruptStoreError(f"{place}: a coordinate is damaged ({error}): hesstore verify says which") from error
    return ds
