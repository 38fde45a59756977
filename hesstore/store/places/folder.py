"""A store in a folder."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from zarr.storage import LocalStore

from hesstore.errors import StoreError
from hesstore.files import sync_folder, write_file
from hesstore.store.places.base import Place
from hesstore.store.places.claims import claim, holder_of
from hesstore.store.places.durable_store import DurableLocalStore
from hesstore.store.places.links import refuse_outward_links

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from zarr.abc.store import Store

    from hesstore.store.places.claims import Holder


class FolderPlace(Place):
    """The folder ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def location(self) -> Path:
        """The folder."""
        return self.path

    @property
    def address(self) -> str:
        """The folder's absolute path."""
        return str(self.path.absolute())

    def is_new(self) -> bool:
        """Whether there is nothing, or an empty folder."""
        return not self.path.exists() or (self.path.is_dir() and not any(self.path.iterdir()))

    def check_exists(self) -> None:
        """Raise :class:`StoreError` unless there is a folder, without a link that leads outside."""
        if not self.path.exists():
            raise StoreError(f"{self}: no such store: make one with `hesstore sweep {self}`")
        if not self.path.is_dir():
            raise StoreError(f"{self}: is a file, not a store")
        refuse_outward_links(self.path)

    def sync(self, key: str) -> None:
        """Make the removal of files in the folder ``key`` survive a power loss."""
        folder = self.path / key
        if folder.is_dir():
            sync_folder(folder)

    def check_space(self, needed: int) -> None:
        """Compare with what the file system has free."""
        free = self.free_space()
        if needed > free:
            raise StoreError(
                f"{self}: needs about {needed / 1e9:.2f} GB for what is left to compute, {free / 1e9:.2f} GB are free "
                "there: make room, or give another path"
            )

    def free_space(self) -> int:
        """Bytes that the file system has free."""
        there = self.path if self.path.is_dir() else self.path.absolute().parent
        return shutil.disk_usage(there).free

    def check_creatable(self) -> None:
        """Raise :class:`StoreError` unless a store can be made here."""
        path = self.path
        if path.is_symlink() or path.resolve() == Path.cwd():
            raise StoreError(f"{path}: is a link or the working folder: give a path of its own")
        if path.is_file():
            raise StoreError(f"{path}: is a file, not a store: give another path")
        if path.is_dir() and any(path.iterdir()):
            raise StoreError(f"{path}: is a folder with other contents, not a store: give another path")
        parent = path.absolute().parent
        if not parent.is_dir():
            raise StoreError(f"{path}: the folder {parent} does not exist: create it first")
        try:
            with tempfile.TemporaryFile(dir=parent):
                pass
        except OSError as error:
            raise StoreError(f"{path}: can't write in {parent} ({error.strerror}): give another path") from None

    def check_writable(self) -> None:
        """Raise :class:`StoreError` if the folder's permissions forbid it."""
        if not os.access(self.path, os.W_OK):
            raise StoreError(f"{self}: no permission to write")

    def create(self, write: Callable[[Store], None]) -> None:
        """Write beside the folder's name, then rename."""
        path = self.path
        template = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.absolute().parent))
        try:
            template.chmod(0o777 & ~_umask())
            write(DurableLocalStore(template))
            template.rename(path)
        except BaseException:
            shutil.rmtree(template, ignore_errors=True)
            raise
        sync_folder(path.absolute().parent)

    def zarr_store(self, *, read_only: bool) -> Store:
        """Zarr's local store; for writing, one that flushes."""
        return LocalStore(self.path, read_only=True) if read_only else DurableLocalStore(self.path)

    def claim(self, run_id: int) -> AbstractContextManager[object]:
        """A lock of the operating system; see :func:`hesstore.store.places.claims.claim`."""
        return claim(self.path / "status", run_id)

    def check_claim(self, run_id: int) -> None:
        """Nothing: such a lock is not lost while its process lives."""

    def holder(self, run_id: int) -> Holder | None:
        """The process that the file beside the lock names; the lock itself is not touched."""
        try:
            return holder_of(json.loads(self.fetch(f"status/.claim-{run_id}.json")))
        except (OSError, ValueError):  # none, or one that is being written
            return None

    def written(self, key: str) -> dt.datetime | None:
        """The file's time of modification."""
        try:
            return dt.datetime.fromtimestamp((self.path / key).stat().st_mtime, dt.UTC)
        except OSError:
            return None

    def names(self) -> list[str]:
        """All files, relative to the folder."""
        return sorted(file.relative_to(self.path).as_posix() for file in self.path.rglob("*") if file.is_file())

    def fetch(self, key: str) -> bytes:
        """The file's contents."""
        return (self.path / key).read_bytes()

    def put(self, key: str, data: bytes) -> None:
        """Write the file, flushed."""
        write_file(self.path / key, data)

    def delete(self, key: str) -> None:
        """Remove the file."""
        (self.path / key).unlink()
        sync_folder((self.path / key).parent)

    def size(self) -> int:
        """Bytes of all files."""
        return sum(_size(file) for file in self.path.rglob("*"))


def beside(path: Path, suffix: str) -> list[Path]:
    """Folders next to a store that making (``partial``) or growing it (``partial``, ``old``) has left."""
    whole = path.absolute()
    pattern = re.compile(rf"\.{re.escape(whole.name)}\.[a-z0-9_]{{8}}\.{suffix}")
    return sorted(entry for entry in whole.parent.glob(".*") if pattern.fullmatch(entry.name) and entry.is_dir())


def _size(file: Path) -> int:
    """Bytes of a file; 0 for a folder, or for a file that a running sweep has just replaced."""
    try:
        return file.stat().st_size if file.is_file() else 0
    except FileNotFoundError:
        return 0


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
