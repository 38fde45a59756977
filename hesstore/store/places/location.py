"""Find the place that a path or URL names."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import unquote, urlparse

from hesstore.errors import StoreError
from hesstore.store.places.folder import FolderPlace
from hesstore.store.places.place import Place
from hesstore.store.places.zip_file import ZipPlace

if TYPE_CHECKING:
    from hesstore.store.places.s3 import S3Place

Location: TypeAlias = "str | os.PathLike[str] | Place"
"""The location of a store: a path, a ``file://`` or ``s3://`` URL, or a place itself."""


def locate(location: Location) -> Place:
    """Return the place that a path, a ``file://`` URL or an ``s3://`` URL names.

    A path that ends with ``.zip`` names a packed store, unless it is a folder.

    Raises
    ------
    StoreError
        If the URL is malformed or has another scheme, or if the packages that ``s3://`` needs are not installed.
    """
    if isinstance(location, Place):
        return location
    text = os.fspath(location)
    if text.startswith("s3://"):
        return _s3_place(text)
    path = local_path(location)
    return ZipPlace(path) if path.suffix.lower() == ".zip" and not path.is_dir() else FolderPlace(path)


def local_path(location: str | os.PathLike[str]) -> Path:
    """Return the local path that a path or a ``file://`` URL names.

    Raises
    ------
    StoreError
        If the URL has another scheme.
    """
    text = os.fspath(location)
    if not text or "\0" in text:
        raise StoreError(f"{text!r} is not a path")
    if text.startswith("file://"):
        return Path(unquote(urlparse(text).path))
    if text.startswith("s3://"):
        raise StoreError(f"{text}: this works only on local folders: give a path")
    if "://" in text:
        raise StoreError(f"{text}: a store is a local folder or on S3: give a path, or s3://BUCKET/NAME")
    if isinstance(location, Path) and re.match(r"(s3|file):/", text):
        raise StoreError(f"{text}: is a URL that was turned into a Path, which drops a slash: give it as text")
    return Path(text).expanduser()


def _s3_place(url: str) -> S3Place:
    try:
        import obstore  # noqa: F401, PLC0415 - an extra, which local stores should not wait for
    except ImportError as error:
        raise StoreError(f'{url}: stores on S3 need a further package: pip install "hesstore[s3]"') from error
    from hesstore.store.places.s3 import S3Place  # noqa: PLC0415

    return S3Place(url)
