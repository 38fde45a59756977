"""Opening a store as a Dataset that has the analyses as methods, ``ds.hess``."""

from hesstore.analysis import accessor  # noqa: F401 - registers ds.hess
from hesstore.store import open  # noqa: A004 - hesstore.open, as in xarray and zarr

__all__ = ["open"]
