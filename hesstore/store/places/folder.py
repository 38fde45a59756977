"""A store in a local folder."""

from __future__ import annotations

import datetime as dt
import errno
import json
import os
import shutil
import stat
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from zarr.storage import LocalStore

from hesstore.config.suggestions import did_you_mean
from hesstore.durable_files import (
    leftover_folders,
    rename,
    set_mode,
    sync_file,
    sync_folder,
    system_call,
    temporary_folder,
    write_file,
)
from hesstore.errors import StoreError, size_text
from hesstore.store.places.claims import Claim, check_locks, parse_holder
from hesstore.store.places.durable_store import DurableLocalStore
from hesstore.store.places.links import refuse_outward_links
from hesstore.store.places.place import LocalPlace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from zarr.abc.store import Store

    from hesstore.store.places.claims import Holder
    from hesstore.store.places.place import HeldRun, Place

_NAMED = 5
"""Stores that a message names at most."""


class FolderPlace(LocalPlace):
    """A store in the folder ``path``."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._claims: dict[int, Claim] = {}

    def is_new(self) -> bool:
        """Whether the folder does not exist or is empty."""
        return not self.path.exists() or (self.path.is_dir() and not any(self.path.iterdir()))

    def check_exists(self) -> None:
        """Raise :class:`StoreError` unless this is a folder with metadata, and without links that lead outside."""
        if not self.path.exists():
            raise StoreError(f"{self}: no such store: make one with `hesstore sweep {self}`{names_nearby(self.path)}")
        if not self.path.is_dir():
            raise StoreError(f"{self}: is a file, not a store")
        if not (self.path / "zarr.json").is_file():
            inside = self.path / "store"  # any name: only its folder counts
            raise StoreError(f"{self}: is not a Zarr store: it has no zarr.json{names_nearby(inside)}")
        refuse_outward_links(self.path)

    def sync(self, key: str) -> None:
        """Make sure that the removal of files in the folder ``key`` survives a power loss."""
        folder = self.path / key
        if folder.is_dir():
            sync_folder(folder)

    def check_space(self, needed: int) -> None:
        """Raise :class:`StoreError` if the file system has fewer than ``needed`` bytes free."""
        free = self.free_space()
        if needed > free:
            raise StoreError(
                f"{self}: the remaining results need about {size_text(needed)}, but only {size_text(free)} are "
                "free there: make room, or give another path"
            )

    def free_space(self) -> int:
        """Free space of the file system, in bytes."""
        folder = self.path if self.path.is_dir() else self.path.absolute().parent
        return shutil.disk_usage(folder).free

    def check_creatable(self) -> None:
        """Raise :class:`StoreError` unless a store can be made here."""
        path = self.path
        if path.is_symlink() or path.resolve() == Path.cwd():
            raise StoreError(f"{path}: is a link or the working folder: give the path of a new folder")
        if path.is_file():
            raise StoreError(f"{path}: is a file, not a store: give another path")
        if path.is_dir() and any(path.iterdir()):
            raise StoreError(f"{path}: is a folder with other contents, not a store: give another path")
        parent = path.absolute().parent
        if not parent.is_dir():
            raise StoreError(f"{path}: the folder {parent} does not exist: create it first")
        try:
            with tempfile.TemporaryFile(dir=parent) as file:
                check_locks(parent, file)
        except OSError as error:
            raise StoreError(f"{path}: can't write in {parent} ({error.strerror}): give another path") from None

    def check_writable(self) -> None:
        """Raise :class:`StoreError` if the file system is read-only, or the folder's permissions forbid it."""
        if os.statvfs(self.path).f_flag & os.ST_RDONLY:
            raise StoreError(f"{self}: lies on a read-only file system: copy the store, or give another path")
        for folder in (self.path, self.path / "status"):
            if folder.exists() and not os.access(folder, os.W_OK):
                raise StoreError(f"{self}: no permission to write in {folder}: change it, or copy the store")

    def create(self, template: Mapping[str, bytes]) -> None:
        """Write the files; see :meth:`creating`."""
        with self.creating() as place:
            place.fill(template)

    @contextmanager
    def creating(self) -> Iterator[FolderPlace]:
        """Make a temporary folder next to the store's path, which is renamed to it when the context ends."""
        path = self.path
        folder = temporary_folder(path)
        try:
            set_mode(folder, 0o777 & ~_umask())
            yield FolderPlace(folder)
            rename(folder, path)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        sync_folder(path.absolute().parent)

    @contextmanager
    def replacing(self) -> Iterator[Place]:
        """Make a folder next to this one, and exchange them at the end by two renames."""
        path = self.path
        template = temporary_folder(path)
        try:
            set_mode(template, path.stat().st_mode & 0o777)
            yield FolderPlace(template)
            self._exchange(template)
        finally:
            shutil.rmtree(template, ignore_errors=True)

    def _exchange(self, template: Path) -> None:
        """Replace the store by two renames, between which :meth:`recover` finds the old one."""
        path, aside = self.path, template.with_suffix(".old")
        with system_call("rename", path):
            path.rename(aside)
        try:
            template.rename(path)
        except OSError as error:
            aside.rename(path)
            raise StoreError(f"{path}: could not be replaced ({error.strerror}), and is unchanged") from error
        sync_folder(path.absolute().parent)
        shutil.rmtree(aside, ignore_errors=True)

    def recover(self) -> None:
        """Restore the old store if the process was killed between the two renames, and remove it otherwise."""
        aside = leftover_folders(self.path, "old")
        if aside and not self.path.exists():
            rename(aside[-1], self.path)
            sync_folder(self.path.absolute().parent)
        for folder in aside:
            shutil.rmtree(folder, ignore_errors=True)

    def adopt(self, source: Place, files: Mapping[str, str]) -> None:
        """Link files of another folder; files are replaced, never changed, so a link is as good as a copy."""
        folders: set[Path] = set()
        for there, here in files.items():
            target = self.path / here
            target.parent.mkdir(parents=True, exist_ok=True)
            _link(Path(source.location) / there, target)
            folders |= {folder for folder in target.parents if folder.is_relative_to(self.path)}
        for folder in folders:
            sync_folder(folder)

    def zarr_store(self, *, read_only: bool) -> Store:
        """Zarr's local store; for writing, one whose writes are flushed to disk."""
        return LocalStore(self.path, read_only=True) if read_only else DurableLocalStore(self.path)

    def claim(self, run_id: int, workers: int = 1) -> AbstractContextManager[HeldRun]:
        """Hold a run by a lock of the operating system; see :class:`hesstore.store.places.claims.Claim`."""
        self._claims[run_id] = Claim(self.path / "status", run_id, workers)
        return self._claims[run_id]

    def check_claim(self, run_id: int) -> None:
        """Raise :class:`StoreBusyError` if the lock was lost, and another process has taken over the run."""
        if run_id in self._claims:
            self._claims[run_id].check()

    def holder(self, run_id: int) -> Holder | None:
        """The process that the file next to the lock names; the lock itself is not touched."""
        try:
            return parse_holder(json.loads(self.fetch(f"status/.claim-{run_id}.json")))
        except (OSError, ValueError):  # the file does not exist, or is being written
            return None

    def last_modified(self, key: str) -> dt.datetime | None:
        """The modification time of the file; None if it can't be read."""
        try:
            return dt.datetime.fromtimestamp((self.path / key).stat().st_mtime, dt.UTC)
        except OSError:
            return None

    def revision(self) -> object:
        """The time of the metadata, the number of the folder, and the time at which it was last moved."""
        try:
            folder, metadata = self.path.stat(), (self.path / "zarr.json").stat()
        except OSError:
            return None
        return metadata.st_mtime_ns, folder.st_ino, folder.st_ctime_ns

    def names(self) -> list[str]:
        """The names of all files, relative to the folder."""
        return sorted(file.relative_to(self.path).as_posix() for file in self.path.rglob("*") if file.is_file())

    def fetch(self, key: str) -> bytes:
        """The contents of a file."""
        return (self.path / key).read_bytes()

    def put(self, key: str, data: bytes) -> None:
        """Write a file atomically, and flush it to disk."""
        write_file(self.path / key, data)

    def delete(self, key: str) -> None:
        """Remove a file."""
        file = self.path / key
        with system_call("unlink", file):
            file.unlink()
        sync_folder(file.parent)

    def remove(self) -> None:
        """Rename the folder, and then delete it."""
        path = self.path
        aside = temporary_folder(path)
        with system_call("rename", path):
            path.rename(aside)
        sync_folder(path.absolute().parent)
        shutil.rmtree(aside, ignore_errors=True)

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Those of ``keys`` whose file does not exist or is empty."""
        top = f"{self.path}/"
        return [key for key in keys if not _size(top + key)]

    def size(self) -> int:
        """Total size of all files, in bytes."""
        return sum(_size(file) for file in self.path.rglob("*"))


def names_nearby(path: Path) -> str:
    """Return the end of a message about a store that does not exist: a similar name, or the stores in its folder."""
    try:
        names = [entry.name for entry in os.scandir(path.absolute().parent) if _looks_like_store(Path(entry.path))]
    except OSError:
        return ""
    hint = did_you_mean(path.name, names)
    if hint or not names:
        return hint
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"; stores in {path.parent}: {', '.join(sorted(names)[:_NAMED])}{more}"


def _looks_like_store(path: Path) -> bool:
    return not path.name.startswith(".") and ((path / "zarr.json").is_file() or path.name.lower().endswith(".zarr.zip"))


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in {errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS}:
            raise
        shutil.copyfile(source, target)  # a file system without links
        sync_file(target)


def _size(file: str | Path) -> int:
    """Size of a file in bytes; 0 for a folder, or for a file that does not exist, even if only for a moment."""
    try:
        found = os.stat(file)  # noqa: PTH116 - for thousands of files, a Path takes longer than the system
    except (FileNotFoundError, NotADirectoryError):
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
