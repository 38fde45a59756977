"""Analyses of a store whose small variables were compared with their digests."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from hesstore.store.reading import check_dataset

if TYPE_CHECKING:
    from collections.abc import Callable

    import xarray as xr

_P = ParamSpec("_P")
_R = TypeVar("_R")


def checked(function: Callable[Concatenate[xr.Dataset, _P], _R]) -> Callable[Concatenate[xr.Dataset, _P], _R]:
    """Return ``function`` with a check of the Dataset of a whole store, as by ``hesstore.open(…, check=True)``."""

    @wraps(function)
    def of_checked(ds: xr.Dataset, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        return function(check_dataset(ds), *args, **kwargs)

    return of_checked
