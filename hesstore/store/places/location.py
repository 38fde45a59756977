"""Find the place that a path or URL names."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import unquote

from hesstore.errors import StoreError
from hesstore.store.places.folder import FolderPlace
from hesstore.store.places.place import Place
from hesstore.store.places.zip_file import ZipPlace

if TYPE_CHECKING:
    from hesstore.store.places.http import HttpPlace
    from hesstore.store.places.s3 import S3Place

Location: TypeAlias = "str | os.PathLike[str] | Place"
"""The location of a store: a path, a ``file://``, ``s3://`` or ``http(s)://`` URL, or a place itself."""


def locate(location: Location) -> Place:
    """Return the place that a path, a ``file://``, ``s3://`` or ``http(s)://`` URL names.

    A path that ends with ``.zip`` names a packed store, unless it is a folder.

    Raises
    ------
    StoreError
        If the URL is malformed or has another scheme, or if the package that its scheme needs is not installed.
    """
    if isinstance(location, Place):
        return location
    text = os.fspath(location)
    if text.startswith("s3://"):
        return _s3_place(text)
    if text.startswith(("http://", "https://")):
        return _http_place(text)
    path = local_path(location)
    return ZipPlace(path) if path.suffix.lower() == ".zip" and not path.is_dir() else FolderPlace(path)


def local_path(location: str | os.PathLike[str]) -> Path:
    """Return the local path that a path or a ``file://`` URL names.

    Raises
    ------
    StoreError
        If the URL is malformed, has another scheme, or names another machine.
    """
    text = os.fspath(location)
    if not text or "\0" in text:
        raise StoreError(f"{text!r} is not a path")
    if text.startswith("file://"):
        return _path_of_url(text)
    if text.startswith(("s3://", "http://", "https://")):
        raise StoreError(f"{text}: this works only on local folders: give a path")
    if "://" in text:
        raise StoreError(
            f"{text}: a store is a local folder, on S3, or on a web server: give a path, s3://BUCKET/NAME or https://SERVER/NAME"
        )
    if isinstance(location, Path) and re.match(r"(s3|file|https?):/", text):
        raise StoreError(f"{text}: is a URL that was turned into a Path, which drops a slash: give it as text")
    return expand_home(text)


def expand_home(path: str | os.PathLike[str]) -> Path:
    """Return a path whose ``~`` or ``~user`` is replaced by that home folder.

    Raises
    ------
    StoreError
        If there is no such user, or no home folder.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise StoreError(
            f"{os.fspath(path)}: the home folder that ~ stands for is not known: write the whole path, "
            "or ./~… for a name that begins with ~"
        ) from None


def _path_of_url(url: str) -> Path:
    """The path in a ``file://`` URL; ``%20`` is a blank, and every other character stands for itself."""
    host, slash, path = url.removeprefix("file://").partition("/")
    if host not in {"", "localhost"}:
        raise StoreError(f"{url}: is on the server {host!r}: give file:///PATH, or the path where it is mounted")
    if "?" in path or "#" in path:
        raise StoreError(f"{url}: has ? or #, which end the path of a URL: write %3F or %23, or give a plain path")
    text = unquote(slash + path, errors="surrogateescape")
    if text in {"", "/"} or "\0" in text:
        raise StoreError(f"{url}: does not name a path: give file:///PATH")
    return Path(text)


def _http_place(url: str) -> HttpPlace:
    _require_obstore(url, "a web server")
    from hesstore.store.places.http import HttpPlace  # noqa: PLC0415

    return HttpPlace(url)


def _require_obstore(url: str, where: str) -> None:
    try:
        import obstore  # noqa: F401, PLC0415 - an extra, which local stores should not wait for
    except ImportError as error:
        raise StoreError(f'{url}: stores on {where} need a further package: pip install "hesstore[s3]"') from error


def _s3_place(url: str) -> S3Place:
    _require_obstore(url, "S3")
    from hesstore.store.places.s3 import S3Place  # noqa: PLC0415

    return S3Place(url)
