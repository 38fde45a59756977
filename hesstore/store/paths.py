"""Which path a store is meant by, and whether there is one."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote, urlparse

import zarr

from hesstore.errors import StoreError
from hesstore.store.links import refuse_outward_links
from hesstore.store.schema import SCHEMA_VERSION


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
    if "://" in text:
        raise StoreError(f"{text}: stores are local folders: give a path")
    return Path(text).expanduser()


def open_group(path: Path, store: zarr.storage.LocalStore | None = None) -> zarr.Group:
    """The root group of the store at ``path``, read-only unless ``store`` is given.

    Raises
    ------
    StoreError
        If there is nothing, something else, a store of a newer schema, or one with a link that leads outside.
    """
    if not path.exists():
        raise StoreError(f"{path}: no such store: make one with `hesstore sweep {path}`")
    if not path.is_dir():
        raise StoreError(f"{path}: is a file, not a store")
    refuse_outward_links(path)
    try:
        group = zarr.open_group(
            store or zarr.storage.LocalStore(path, read_only=True), mode="r+" if store else "r", zarr_format=3
        )
    except FileNotFoundError:
        raise StoreError(f"{path}: is not a Zarr store") from None
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path}: its zarr.json can't be read ({error})") from error
    version = group.attrs.get("schema_version")
    if not isinstance(version, int):
        raise StoreError(f"{path}: is a Zarr store, but not one of hesstore")
    if version > SCHEMA_VERSION:
        raise StoreError(f"{path}: has schema {version}, this hesstore reads up to {SCHEMA_VERSION}: upgrade hesstore")
    return group
