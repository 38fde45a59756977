"""Files that appear whole or not at all, and stay."""

from __future__ import annotations

import errno
import glob
import os
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` survive a power loss."""
    _sync(folder)


def remove_partial(path: Path) -> None:
    """Remove what killed processes left of writing ``path``; nobody else may be writing it."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.{'[0-9a-f]' * 32}.partial"):
        leftover.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unobserved(step: str, path: Path) -> None:
    """Nothing happens."""


observe: Callable[[str, Path], None] = _unobserved
"""Called before each step of a write (``write``, ``fsync``, ``rename``, ``done``); tests end the process there."""


@contextmanager
def whole_file(path: Path, *, within: Path | None = None) -> Iterator[Path]:
    """A temporary path to write a file at; when the context ends well it becomes ``path``, on disk, and else vanishes.

    Missing folders are made, but not ``within`` nor what it lies in: if that is gone, :class:`FileNotFoundError`.
    """
    missing = [folder for folder in (path.parent, *path.parent.parents) if not folder.exists()]
    if within in missing:
        raise FileNotFoundError(errno.ENOENT, "the folder has vanished", str(within))
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        observe("write", path)
        yield temporary
        observe("fsync", path)
        _sync(temporary)
        observe("rename", path)
        temporary.replace(path)
    except BaseException as error:
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # a full disk is told of at write or fsync, which know no name
        temporary.unlink(missing_ok=True)
        raise
    for folder in (path.parent, *(folder.parent for folder in missing)):
        _sync(folder)
    observe("done", path)


def write_file(path: Path, data: bytes | bytearray | memoryview, *, within: Path | None = None) -> None:
    """Write ``data`` to ``path`` so that it appears whole or not at all, and is on disk on return.

    Missing folders are made as :func:`whole_file` makes them.
    """
    with whole_file(path, within=within) as temporary:
        temporary.write_bytes(data)
