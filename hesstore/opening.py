"""Opening a store as a Dataset that has the analyses as methods."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hesstore.analysis import accessor  # noqa: F401 - registers ds.hess
from hesstore.store import open as open_store

if TYPE_CHECKING:
    import xarray as xr

    from hesstore.store.paths import Location


def open(location: Location) -> xr.Dataset:  # noqa: A001 - hesstore.open, as in xarray and zarr
    """The store's variables, labelled and lazy, with the analyses of :mod:`hesstore.analysis` as ``ds.hess``.

    Parameters
    ----------
    location : path, ``file://`` URL or ``s3://`` URL
        The store.

    Raises
    ------
    StoreError
        If it is not a store, or has a newer schema.

    Examples
    --------
    >>> ds = open("quickstart.zarr")  # doctest: +SKIP
    >>> ds.hess.transitions().onset.sel(run=0)  # doctest: +SKIP
    """
    return open_store(location)
