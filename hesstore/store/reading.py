"""Open a store as an xarray Dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hesstore.store.decoding import decoding
from hesstore.store.places.location import locate
from hesstore.store.root_group import open_group

if TYPE_CHECKING:
    import xarray as xr

    from hesstore.store.places.location import Location


def open_store(location: Location, *, chunked: bool = True) -> xr.Dataset:
    """Open a store as the Dataset of ``xr.open_zarr(location)``, after a check of its metadata.

    See :func:`hesstore.open` for the parameters and errors; it adds a repr that describes the sweep, and ``ds.hess``.
    """
    import xarray as xr  # noqa: PLC0415 - a sweep and `hesstore list` need no xarray, which takes a third of a second

    place = locate(location)
    open_group(place)
    options: dict[str, Any] = {} if chunked else {"chunks": None}
    with decoding(f"{place}: a coordinate"):  # opening reads the coordinates
        ds: xr.Dataset = xr.open_zarr(place.zarr_store(read_only=True), zarr_format=3, **options)
    return ds
