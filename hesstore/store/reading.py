"""Open a store as an xarray Dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import xarray as xr

from hesstore.store.decoding import decoding
from hesstore.store.group import open_group
from hesstore.store.places.location import locate

if TYPE_CHECKING:
    from hesstore.store.places.location import Location


def open_store(location: Location, *, chunked: bool = True) -> xr.Dataset:
    """Return the store as a lazy Dataset: the same as ``xr.open_zarr(location)``, after a check.

    ``hesstore.open`` adds a headline to its representation, and the analyses of :mod:`hesstore.analysis`.

    Parameters
    ----------
    location : path, ``file://`` URL or ``s3://`` URL
        The store.
    chunked : bool
        Whether arrays are those of Dask, where it is installed. Reading one grid point after the other is four times
        as fast without.

    Raises
    ------
    CorruptStoreError
        If its metadata or a coordinate is damaged. Other damage is noticed when the variable is read.
    StoreError
        If it is not a store, or has another schema.
    """
    place = locate(location)
    open_group(place)
    options: dict[str, Any] = {} if chunked else {"chunks": None}
    with decoding(f"{place}: a coordinate"):  # opening reads the coordinates
        ds: xr.Dataset = xr.open_zarr(place.zarr_store(read_only=True), zarr_format=3, **options)
    return ds
