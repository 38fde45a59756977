"""The attributes of results: a ``long_name``, and ``units`` if there are any, so that ``.plot()`` labels itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import xarray as xr

from hesstore.config.l2_grid import AXIS
from hesstore.store.schema import COORDINATE_ATTRS, axis_attrs, axis_of

if TYPE_CHECKING:
    from collections.abc import Hashable


_LONG_NAMES = {
    **{name: str(attrs["long_name"]) for name, attrs in COORDINATE_ATTRS.items()},
    "angle": "principal angle, in ascending order",
    "track": "track, numbered by its mode at the first grid point",
    "run_direction": "direction of the run along λ",
    "measure": "measure of sharpness",
    "quantity": "quantity along λ",
}


def other_axis(axis: str) -> str:
    """Return the name of the second dimension of a map over pairs of grid points."""
    return f"{axis}_other"


def variable(dims: tuple[str, ...], values: Any, long_name: str, units: str | None = None) -> xr.Variable:
    """Return a variable with its attributes; pure numbers have no units."""
    return xr.Variable(dims, values, variable_attrs(long_name, units))


def follow_axis(result: xr.Dataset, axis: str) -> xr.Dataset:
    """Return a result with the names of a collection: that of its axis in place of ``l2`` and λ."""
    if axis == AXIS:
        return result
    renamed = result.rename({name: str(name).replace(AXIS, axis) for name in result.variables if AXIS in str(name)})
    for array in renamed.variables.values():
        if "λ" in array.attrs.get("long_name", ""):
            array.attrs["long_name"] = array.attrs["long_name"].replace("λ", axis)
    return renamed


def variable_attrs(long_name: str, units: str | None = None) -> dict[str, str]:
    """Return the attributes of a variable; pure numbers have no units."""
    return {"long_name": long_name, **({} if units is None else {"units": units})}


def with_attributes(ds: xr.Dataset) -> xr.Dataset:
    """Return ``ds`` with a ``long_name`` on each coordinate; attributes that exist are kept."""
    axis = axis_of(ds)
    names = {**_LONG_NAMES, axis: axis_attrs(axis)["long_name"]}
    names[other_axis(axis)] = f"other {names[axis]}"
    coords = {
        name: coord.assign_attrs({"long_name": names.get(str(name), str(name)), **coord.attrs})
        for name, coord in ds.coords.items()
    }
    return ds.assign_coords(coords)


def scalar_coordinates(part: xr.Dataset) -> dict[Hashable, xr.Variable]:
    """Return the coordinates without a dimension, such as the run at which ``part`` was selected."""
    return {name: coord.variable for name, coord in part.coords.items() if not coord.ndim}
