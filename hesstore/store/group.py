"""Opening the root group of a store, with a check of its attributes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import zarr
from zarr.errors import ContainsArrayError

from hesstore.errors import CorruptStoreError, StoreError
from hesstore.store.origin import ORIGIN
from hesstore.store.places.location import locate
from hesstore.store.places.zip_file import LEFT_OUT
from hesstore.store.schema import SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hesstore.store.places.base import Place
    from hesstore.store.places.location import Location

JSON_ATTRIBUTES = {"config": dict, "identity": dict, "environment": dict, "runs": list, ORIGIN: dict}
"""Root attributes that are JSON in a string, and of which kind. Older stores, and those not imported, lack some."""


def open_group(location: Location, *, writable: bool = False) -> zarr.Group:
    """The root group of the store at ``location``.

    Raises
    ------
    CorruptStoreError
        If its zarr.json or an attribute in it can't be understood.
    StoreError
        If there is nothing, something else, a store of a newer schema, or one with a link that leads outside; if it is
        to be written, and was packed without its large arrays.
    """
    place = locate(location)
    place.check_exists()
    try:
        group = zarr.open_group(place.zarr_store(read_only=not writable), mode="r+" if writable else "r", zarr_format=3)
    except FileNotFoundError:
        raise StoreError(f"{place}: is not a Zarr store") from None
    except ContainsArrayError:
        raise StoreError(f"{place}: is an array, not a store: give the folder that it is in") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # whatever zarr makes of what is no metadata
        raise CorruptStoreError(
            f"{place}: its zarr.json can't be read ({error}): hesstore verify says what else is damaged"
        ) from error
    version = group.attrs.get("schema_version")
    if not isinstance(version, int):
        raise StoreError(f"{place}: is a Zarr store, but not one of hesstore")
    if version > SCHEMA_VERSION:
        raise StoreError(f"{place}: has schema {version}, this hesstore reads up to {SCHEMA_VERSION}: upgrade hesstore")
    check_attributes(place, group.attrs.asdict())
    if writable and LEFT_OUT in group.attrs:
        raise StoreError(f"{place}: can only be read: when it was packed, {group.attrs[LEFT_OUT]} were left out")
    return group


def check_attributes(place: Place, attributes: Mapping[str, Any]) -> None:
    """Raise :class:`CorruptStoreError` unless each of :data:`JSON_ATTRIBUTES` that is there is JSON of its kind."""
    for name, kind in JSON_ATTRIBUTES.items():
        if name not in attributes:
            continue
        try:
            is_sound, why = isinstance(json.loads(attributes[name]), kind), "is JSON of another kind"
        except (ValueError, TypeError) as error:
            is_sound, why = False, str(error)
        if not is_sound:
            raise CorruptStoreError(
                f"{place}: its attribute {name!r} is damaged ({why}): hesstore verify says what else is"
            )
