"""Text files that are compressed while they are written."""

from __future__ import annotations

import gzip
import importlib.util
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, cast

from hesstore.config.suggestions import did_you_mean
from hesstore.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

METHODS = ("gz", "zst")
_GZIP_LEVEL = 4  # digits shrink to 0.46 of their size at levels 4 to 9, and higher levels are slower
_ZSTD_LEVEL = 3


def check_method(method: str | None) -> None:
    """Raise :class:`ExportError` unless ``method`` is None or a name of :data:`METHODS` whose package is installed."""
    if method is not None and method not in METHODS:
        raise ExportError(f"compress: {method!r} is not one of {', '.join(METHODS)}{did_you_mean(method, METHODS)}")
    if method == "zst" and importlib.util.find_spec("zstandard") is None:
        raise ExportError('compress: zst needs the package zstandard: pip install "hesstore[files]"')


def suffix(method: str | None) -> str:
    """The suffix of the names of files that are compressed by ``method``."""
    return f".{method}" if method else ""


@contextmanager
def open_for_writing(path: Path, method: str | None) -> Iterator[BinaryIO]:
    """Open ``path`` for writing; the same contents give the same file, whatever its name and the time."""
    with path.open("wb") as raw:
        if method == "gz":
            with gzip.GzipFile("", "wb", _GZIP_LEVEL, raw, mtime=0) as file:
                yield cast("BinaryIO", file)
        elif method == "zst":
            import zstandard  # noqa: PLC0415 - an optional dependency

            # A single frame, because some readers stop after the first one.
            with zstandard.ZstdCompressor(_ZSTD_LEVEL, write_checksum=True).stream_writer(raw, closefd=False) as file:
                yield cast("BinaryIO", file)
        else:
            yield raw
