"""The attributes of results: a ``long_name``, and ``units`` if there are any, so that ``.plot()`` labels itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import xarray as xr

from hesstore.store.schema import AXIS, COORDINATE_ATTRS

if TYPE_CHECKING:
    from collections.abc import Hashable

OTHER_AXIS = f"{AXIS}_other"
"""The second dimension of a map over pairs of grid points."""

_LONG_NAMES = {
    **{name: str(attrs["long_name"]) for name, attrs in COORDINATE_ATTRS.items()},
    OTHER_AXIS: "other L2 regularisation strength λ",
    "angle": "principal angle, in ascending order",
    "track": "track, numbered by its mode at the first grid point",
    "run_direction": "direction of the run along λ",
    "measure": "measure of sharpness",
    "quantity": "quantity along λ",
}


def variable(dims: tuple[str, ...], values: Any, long_name: str, units: str | None = None) -> xr.Variable:
    """Return a variable with its attributes; pure numbers have no units."""
    return xr.Variable(dims, values, variable_attrs(long_name, units))


def variable_attrs(long_name: str, units: str | None = None) -> dict[str, str]:
    """Return the attributes of a variable; pure numbers have no units."""
    return {"long_name": long_name, **({} if units is None else {"units": units})}


def with_attributes(ds: xr.Dataset) -> xr.Dataset:
    """Return ``ds`` with a ``long_name`` on each coordinate; attributes that exist are kept."""
    coords = {
        name: coord.assign_attrs({"long_name": _LONG_NAMES.get(str(name), str(name)), **coord.attrs})
        for name, coord in ds.coords.items()
    }
    return ds.assign_coords(coords)


def scalar_coordinates(part: xr.Dataset) -> dict[Hashable, xr.Variable]:
    """Return the coordinates without a dimension, such as the run at which ``part`` was selected."""
    return {name: coord.variable for name, coord in part.coords.items() if not coord.ndim}
