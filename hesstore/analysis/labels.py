"""Names and units of what an analysis gives, so that ``.plot()`` labels itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hesstore.store.schema import COORDINATE_ATTRS

if TYPE_CHECKING:
    from collections.abc import Hashable

    import xarray as xr

Entry = tuple[tuple[str, ...], Any, dict[str, str]]
"""A variable as :class:`xarray.Dataset` takes it: dimensions, values, attributes."""

_LONG_NAMES = {
    **{name: str(attrs["long_name"]) for name, attrs in COORDINATE_ATTRS.items()},
    "l2_other": "other L2 regularisation strength λ",
    "angle": "principal angle, in ascending order",
    "track": "track, by its mode at the first λ",
    "run_direction": "order in which the run visits the strengths",
    "measure": "measure of sharpness",
}


def entry(dims: tuple[str, ...], values: Any, long_name: str, units: str = "1") -> Entry:
    """A variable with its name and its units."""
    return dims, values, {"long_name": long_name, "units": units}


def described(ds: xr.Dataset) -> xr.Dataset:
    """``ds`` with a name and units at each coordinate; those that are there stay."""
    coords = {name: coord.assign_attrs({**_attrs(name), **coord.attrs}) for name, coord in ds.coords.items()}
    return ds.assign_coords(coords)


def scalars(part: xr.Dataset) -> dict[Hashable, xr.Variable]:
    """What ``part`` was selected at, such as its run: coordinates without a dimension."""
    return {name: coord.variable for name, coord in part.coords.items() if not coord.ndim}


def _attrs(name: Hashable) -> dict[str, str]:
    return {"long_name": _LONG_NAMES.get(str(name), str(name)), "units": "1"}
