"""Atomic and durable writes: a file appears completely or not at all, and it survives a power loss."""

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
    """Make sure that changes of the names in ``folder`` survive a power loss."""
    _sync(folder)


def remove_partial(path: Path) -> None:
    """Remove the temporary files of killed processes that were writing ``path``.

    No other process may be writing it.
    """
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.{'[0-9a-f]' * 32}.partial"):
        leftover.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unobserved(step: str, path: Path) -> None:
    """Do nothing."""


observe: Callable[[str, Path], None] = _unobserved
"""Called before each step of a write (``write``, ``fsync``, ``rename``, ``done``); tests kill the process there."""


@contextmanager
def whole_file(path: Path, *, within: Path | None = None) -> Iterator[Path]:
    """Provide a temporary path, whose file becomes ``path`` when the context ends.

    The file is flushed to disk before it is renamed. If the context raises an exception, the file is removed instead.

    Parameters
    ----------
    path : Path
        The final path of the file. Missing folders are created.
    within : Path, optional
        A folder that must exist, because it and its parents are not created.

    Raises
    ------
    FileNotFoundError
        If ``within`` does not exist.
    """
    missing = [folder for folder in (path.parent, *path.parent.parents) if not folder.exists()]
    if within in missing:
        raise FileNotFoundError(errno.ENOENT, "the folder no longer exists", str(within))
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
            error.filename = str(path)  # errors of write and fsync, such as a full disk, have no file name
        temporary.unlink(missing_ok=True)
        raise
    for folder in (path.parent, *(folder.parent for folder in missing)):
        _sync(folder)
    observe("done", path)


def write_file(path: Path, data: bytes | bytearray | memoryview, *, within: Path | None = None) -> None:
    """Write ``data`` to ``path``, atomically; the file is on disk on return.

    Missing folders are created, and ``within`` must exist; see :func:`whole_file`.
    """
    with whole_file(path, within=within) as temporary:
        temporary.write_bytes(data)
