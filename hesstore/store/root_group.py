"""Open the root group of a store, and check its attributes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import zarr
from zarr.errors import ContainsArrayError

from hesstore.errors import CorruptStoreError, StoreError, first_line
from hesstore.store.import_origin import ORIGIN
from hesstore.store.places.location import locate
from hesstore.store.places.zip_file import LEFT_OUT
from hesstore.store.schema import SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hesstore.store.places.location import Location
    from hesstore.store.places.place import Place

_SCALES = {"half": 0.5, "full": 1.0}
"""The factor of λ‖θ‖² in the objective, by the name of the penalty."""
JSON_ATTRIBUTES = {"config": dict, "identity": dict, "environment": dict, "runs": list, ORIGIN: dict}
"""The root attributes that are JSON in a string, with the type of each. Only imported stores have the last one."""


def open_group(location: Location, *, writable: bool = False) -> zarr.Group:
    """Return the root group of the store at ``location``.

    Raises
    ------
    CorruptStoreError
        If its zarr.json or an attribute in it cannot be understood.
    StoreError
        If there is no store, or it has another schema or a link that leads outside; if it is opened for writing, but
        was packed without some variables.
    """
    place = locate(location)
    place.check_exists()
    try:
        group = zarr.open_group(place.zarr_store(read_only=not writable), mode="r+" if writable else "r", zarr_format=3)
    except FileNotFoundError:
        raise StoreError(f"{place}: is not a Zarr store") from None
    except ContainsArrayError:
        raise StoreError(f"{place}: is an array, not a store: give the folder that it is in") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:  # zarr raises any of these
        raise CorruptStoreError(
            f"{place}: its zarr.json cannot be read ({first_line(error)}): `hesstore verify {place}` lists all damage"
        ) from error
    version = group.attrs.get("schema_version")
    if not isinstance(version, int):
        raise StoreError(f"{place}: is a Zarr store, but not one of hesstore")
    check_version(place, version)
    check_attributes(place, group.attrs.asdict())
    if writable and LEFT_OUT in group.attrs:
        raise StoreError(
            f"{place}: can only be read, because it was packed without {group.attrs[LEFT_OUT]}: use the original store"
        )
    return group


def check_version(place: object, version: int) -> None:
    """Raise :class:`StoreError` unless a store of this schema version can be read."""
    if version != SCHEMA_VERSION:
        raise StoreError(
            f"{place}: has schema {version}, but this hesstore reads only schema {SCHEMA_VERSION}: "
            "use the version of hesstore that made it"
        )


def check_attributes(place: Place, attributes: Mapping[str, Any]) -> None:
    """Raise :class:`CorruptStoreError` unless each of :data:`JSON_ATTRIBUTES` is JSON of its type."""
    for name, kind in JSON_ATTRIBUTES.items():
        if name == ORIGIN and name not in attributes:
            continue
        try:
            is_sound, why = isinstance(json.loads(attributes[name]), kind), "it has another type"
        except KeyError:
            is_sound, why = False, "it is missing"
        except (ValueError, TypeError, RecursionError) as error:
            is_sound, why = False, first_line(error)
        if not is_sound:
            raise CorruptStoreError(
                f"{place}: its attribute {name!r} is damaged ({why}): `hesstore verify {place}` lists all damage"
            )
    _check_penalty_scale(place, attributes)


def _check_penalty_scale(place: Place, attributes: Mapping[str, Any]) -> None:
    """Raise :class:`CorruptStoreError` unless the factor of the penalty is that of the config's penalty."""
    found = attributes.get("penalty_scale")
    expected = _SCALES.get(str(json.loads(attributes["config"]).get("penalty")))
    if found not in ((expected,) if expected else (None, *_SCALES.values())):
        raise CorruptStoreError(
            f"{place}: its attribute 'penalty_scale' is damaged ({found!r}): `hesstore verify {place}` lists all damage"
        )
