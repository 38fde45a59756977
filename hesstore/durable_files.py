"""The edge to the file system: atomic and durable writes, and errors that name the path, the call and the next step.

A file appears completely or not at all, and it survives a power loss. docs/file-systems.md lists the calls that are
needed, and the consequences where a file system lacks one of them.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import os
import re
import tempfile
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LONGEST_NAME = 255 - len(f"..{'0' * 32}.partial")
"""The length of a name, in bytes, that leaves room for what a temporary name adds: most file systems allow 255."""

_UNSUPPORTED = {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF, errno.EACCES}
"""Errors by which file systems refuse to flush a folder: they keep names in another way, or not at all."""

_COSMETIC = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL}
"""Errors by which file systems refuse to change permissions that they do not have."""

_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free some space, then run the same command again"),
    **dict.fromkeys((errno.EACCES, errno.EPERM), "change its permissions, or give another path"),
    errno.EROFS: "give a path on a file system that can be written",
    errno.EIO: "check the disk or the network mount, then run the same command again",
    errno.ESTALE: "the network mount has changed: mount it again, then run the same command again",
    errno.EBUSY: "another program uses it, or it is a mount point: give a folder within it, or try again later",
    errno.EXDEV: "two file systems meet there: give a path within one of them",
    errno.ENAMETOOLONG: "give a shorter name",
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "allow more open files (ulimit -n)"),
    **dict.fromkeys((errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP), "give a path on another file system"),
}


def describe_system_error(error: OSError) -> str:
    """Return an error of the operating system as one line: the path, the call and the reason, and what to do."""
    remedy = _REMEDIES.get(error.errno or 0, "")
    return f"{error.filename or 'I/O'}: {error.strerror or error}{f': {remedy}' if remedy else ''}"


@contextmanager
def system_call(name: str, path: Path, *others: Path) -> Iterator[None]:
    """Let errors of the operating system in the block name the call and ``path``.

    Parameters
    ----------
    name : str
        The call.
    path : Path
        The path that messages name.
    *others : Path
        Temporary paths that stand for it. An error about any other file passes unchanged.
    """
    try:
        yield
    except OSError as error:
        known = {None, *map(str, (path, *others))}
        if error.errno is None or (error.filename is not None and os.fspath(error.filename) not in known):
            raise
        raise OSError(error.errno, f"{name} failed: {error.strerror}", str(path)) from error


def encode_text(text: str) -> bytes:
    """Return text in UTF-8; bytes of file names that are not text become the replacement character.

    Python represents such bytes by surrogates, also those of an encoding that the locale does not name.
    """
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace").encode("utf-8")


def sync_file(path: Path) -> None:
    """Flush the contents of a file to disk."""
    with system_call("fsync", path):
        _sync(path)


def sync_folder(folder: Path) -> None:
    """Make sure that changes of the names in ``folder`` survive a power loss, if its file system can do that."""
    try:
        with system_call("fsync", folder):
            _sync(folder)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise


def set_mode(path: Path, mode: int) -> None:
    """Set the permissions of ``path``, if its file system has any."""
    try:
        path.chmod(mode)
    except OSError as error:
        if error.errno not in _COSMETIC:
            raise


def rename(source: Path, target: Path) -> None:
    """Rename a file or folder; errors name ``target``."""
    with system_call("rename", target, source):
        source.replace(target)


def temporary_folder(path: Path) -> Path:
    """Make a folder next to ``path`` whose name says what it is for, and return it."""
    folder = path.absolute().parent
    with system_call("mkdir", folder):
        return Path(tempfile.mkdtemp(prefix=f".{_short(path.name)}.", suffix=".partial", dir=folder))


def leftover_folders(path: Path, suffix: str) -> list[Path]:
    """Temporary folders next to a store that an interrupted command has left there.

    Parameters
    ----------
    path : Path
        The store.
    suffix : str
        ``partial`` for folders that were to become the store when it was made or grown, ``old`` for the store as it
        was before it was grown.
    """
    whole = path.absolute()
    pattern = re.compile(rf"\.{re.escape(_short(whole.name))}\.[a-z0-9_]{{8}}\.{suffix}")
    return sorted(entry for entry in whole.parent.glob(".*") if pattern.fullmatch(entry.name) and entry.is_dir())


def remove_partial(path: Path) -> None:
    """Remove the temporary files of killed processes that were writing ``path``.

    No other process may be writing it.
    """
    for leftover in path.parent.glob(f".{glob.escape(_short(path.name))}.{'[0-9a-f]' * 32}.partial"):
        leftover.unlink(missing_ok=True)


def _short(name: str) -> str:
    """The part of temporary names that stands for ``name``: its digest, if the name is too long to be extended."""
    encoded = os.fsencode(name)
    return name if len(encoded) <= _LONGEST_NAME else hashlib.sha256(encoded).hexdigest()


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
    temporary = path.with_name(f".{_short(path.name)}.{uuid.uuid4().hex}.partial")
    try:
        with system_call("write", path, temporary):
            observe("write", path)
            yield temporary
        with system_call("fsync", path, temporary):
            observe("fsync", path)
            _sync(temporary)
        observe("rename", path)
        rename(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):  # the first error is the one to report
            temporary.unlink(missing_ok=True)
        raise
    for folder in (path.parent, *(folder.parent for folder in missing)):
        sync_folder(folder)
    observe("done", path)


def write_file(path: Path, data: bytes | bytearray | memoryview, *, within: Path | None = None) -> None:
    """Write ``data`` to ``path``, atomically; the file is on disk on return.

    Missing folders are created, and ``within`` must exist; see :func:`whole_file`.
    """
    with whole_file(path, within=within) as temporary:
        temporary.write_bytes(data)
