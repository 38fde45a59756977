"""Which place a store is meant by, and whether there is one."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import unquote, urlparse

import zarr
from zarr.errors import ContainsArrayError

from hesstore.errors import CorruptStoreError, StoreError
from hesstore.store.local import LocalPlace
from hesstore.store.origin import ORIGIN
from hesstore.store.place import Place
from hesstore.store.schema import SCHEMA_VERSION
from hesstore.store.zipped import LEFT_OUT, ZipPlace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hesstore.store.s3 import S3Place

Location: TypeAlias = "str | os.PathLike[str] | Place"
"""What names a store: a path, a ``file://`` or ``s3://`` URL, or a place itself."""

JSON_ATTRIBUTES = {"config": dict, "identity": dict, "environment": dict, "runs": list, ORIGIN: dict}
"""Root attributes that are JSON in a string, and of which kind. Older stores, and those not imported, lack some."""


def locate(location: Location) -> Place:
    """The place that a path, a ``file://`` URL or an ``s3://`` URL names; a file ``….zip`` is a packed store.

    Raises
    ------
    StoreError
        For a URL of another scheme or a malformed one, and for ``s3://`` without the packages that it needs.
    """
    if isinstance(location, Place):
        return location
    text = os.fspath(location)
    if text.startswith("s3://"):
        return _s3_place(text)
    path = local_path(location)
    return ZipPlace(path) if path.suffix.lower() == ".zip" and not path.is_dir() else LocalPlace(path)


def local_path(location: str | os.PathLike[str]) -> Path:
    """The local folder that a path or a ``file://`` URL names.

    Raises
    ------
    StoreError
        For a URL of another scheme.
    """
    text = os.fspath(location)
    if not text or "\0" in text:
        raise StoreError(f"{text!r} is not a path")
    if text.startswith("file://"):
        return Path(unquote(urlparse(text).path))
    if text.startswith("s3://"):
        raise StoreError(f"{text}: this works on local folders alone: give a path")
    if "://" in text:
        raise StoreError(f"{text}: a store is a local folder or on S3: give a path, or s3://BUCKET/NAME")
    if isinstance(location, Path) and re.match(r"(s3|file):/", text):
        raise StoreError(f"{text}: is a URL made into a Path, which dropped a slash: give it as text")
    return Path(text).expanduser()


def _s3_place(url: str) -> S3Place:
    try:
        import obstore  # noqa: F401, PLC0415 - an extra, and whoever stores locally does not wait for it
    except ImportError as error:
        raise StoreError(f'{url}: stores on S3 need a further package: pip install "hesstore[s3]"') from error
    from hesstore.store.s3 import S3Place  # noqa: PLC0415

    return S3Place(url)


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
