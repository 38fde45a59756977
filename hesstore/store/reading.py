"""Opening a store as an xarray Dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING

import xarray as xr

from hesstore.store.paths import local_path, open_group

if TYPE_CHECKING:
    import os


def open_store(location: str | os.PathLike[str]) -> xr.Dataset:
    """The store's variables, labelled and lazy: the same Dataset as ``xr.open_zarr(location)``, after a check.

    Parameters
    ----------
    location : path or ``file://`` URL
        The store.

    Raises
    ------
    StoreError
        If it is not a store, or has a newer schema.
    """
    path = local_path(location)
    open_group(path)
    ds: xr.Dataset = xr.open_zarr(path)
    return ds
