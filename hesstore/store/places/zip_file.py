"""A store packed into one ``.zip`` file by :mod:`hesstore.exporting.zip_archive`: read where it lies, never written."""

from __future__ import annotations

import os
import zipfile
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.storage import ZipStore

from hesstore.errors import CorruptStoreError, StoreError
from hesstore.store.places.base import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from zarr.abc.store import ByteRequest, Store
    from zarr.core.buffer import Buffer, BufferPrototype

SUMS = "SHA256SUMS"
BESIDE = ("config.toml", "environment.json", SUMS)
"""Members for people, beside the store's own files."""
LEFT_OUT = "left_out"
"""The root attribute with the names of the arrays that a pack without vectors lacks, a space between two."""

_HEADER = 30
"""Bytes of a member's header before its name."""


class ZipPlace(Place):
    """The file ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def location(self) -> Path:
        """The file."""
        return self.path

    @property
    def address(self) -> str:
        """The file's absolute path."""
        return str(self.path.absolute())

    def is_new(self) -> bool:
        """Whether there is nothing."""
        return not self.path.exists()

    def check_exists(self) -> None:
        """Raise :class:`StoreError` unless there is a zip file with a store in it and nothing that leads outside."""
        if not self.path.exists():
            raise StoreError(f"{self}: no such packed store")
        if "zarr.json" not in self._sizes():
            raise StoreError(f"{self}: is a zip file without a store at its top: it has no zarr.json there")

    def check_creatable(self) -> None:
        """Raise :class:`StoreError`."""
        self.check_writable()

    def check_writable(self) -> NoReturn:
        """Raise :class:`StoreError`."""
        if self.is_new():
            raise StoreError(f"{self}: is the name of a packed store, which is read only: give that of a folder")
        raise StoreError(f"{self}: is a packed store, which is read only: unzip it into a folder first")

    def create(self, write: Callable[[Store], None]) -> NoReturn:  # noqa: ARG002
        """Raise :class:`StoreError`."""
        self.check_writable()

    def zarr_store(self, *, read_only: bool) -> Store:
        """Zarr's store in a zip file, with errors explained; raises :class:`StoreError` if it is to be written."""
        if not read_only:
            self.check_writable()
        return _ZipStore(self.path)

    def claim(self, run_id: int) -> NoReturn:  # noqa: ARG002
        """Raise :class:`StoreError`."""
        self.check_writable()

    def check_claim(self, run_id: int) -> None:
        """Nothing: there are no claims."""

    def names(self) -> list[str]:
        """The members that are files of the store."""
        return sorted(self._sizes())

    def fetch(self, key: str) -> bytes:
        """The member's contents, of which the checksum is right."""
        with _explained(self.path, key), zipfile.ZipFile(self.path) as archive:
            return archive.read(key)

    def put(self, key: str, data: bytes) -> NoReturn:  # noqa: ARG002
        """Raise :class:`StoreError`."""
        self.check_writable()

    def delete(self, key: str) -> NoReturn:  # noqa: ARG002
        """Raise :class:`StoreError`."""
        self.check_writable()

    def size(self) -> int:
        """Bytes of the store's files."""
        return sum(self._sizes().values())

    def _sizes(self) -> dict[str, int]:
        """Bytes of each file of the store, by name."""
        with _explained(self.path), zipfile.ZipFile(self.path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
        for member in members:
            name = member.filename
            if name.startswith("/") or "\\" in name or ":" in name or not {"", ".", ".."}.isdisjoint(name.split("/")):
                raise StoreError(f"{self}: the name of a member, {name!r}, leads out of the store")
        sizes = {member.filename: member.file_size for member in members}
        if len(sizes) < len(members):
            raise StoreError(f"{self}: has two members of one name")
        return {name: size for name, size in sizes.items() if name not in BESIDE}


class _ZipStore(ZipStore):
    """Zarr's store in a zip file, whose errors say what to do, and which reads parts of a member without the rest."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, mode="r")

    def _sync_open(self) -> None:
        with _explained(self.path):
            super()._sync_open()

    def _get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        if not self._is_open:  # unpickled in another process; not every zarr opens it before it comes here
            self._sync_open()
        with _explained(self.path, key):
            member = self._zf.NameToInfo.get(key)
            if byte_range is None or member is None or member.compress_type != zipfile.ZIP_STORED:
                return super()._get(key, prototype, byte_range)
            start, stop = _between(byte_range, member.file_size)
            return prototype.buffer.from_bytes(self._part(member, start, stop))

    def _part(self, member: zipfile.ZipInfo, start: int, stop: int) -> bytes:
        """Some bytes of a member that is not compressed; their own checksum is in them."""
        file: Any = self._zf.fp
        header = os.pread(file.fileno(), _HEADER, member.header_offset)
        if header[:4] != b"PK\3\4":
            raise zipfile.BadZipFile("its header is damaged")
        name, extra = int.from_bytes(header[26:28], "little"), int.from_bytes(header[28:30], "little")
        return os.pread(file.fileno(), max(0, stop - start), member.header_offset + _HEADER + name + extra + start)


def _between(byte_range: ByteRequest, size: int) -> tuple[int, int]:
    """First and last position of what is asked for, of ``size`` bytes."""
    match byte_range:
        case RangeByteRequest(start, end):
            return start, min(end, size)
        case OffsetByteRequest(offset):
            return offset, size
        case SuffixByteRequest(suffix):
            return max(0, size - suffix), size


@contextmanager
def _explained(path: Path, member: str = "") -> Iterator[None]:
    """Turn what reading a damaged zip file raises into an error of ours."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        if member:
            raise CorruptStoreError(f"{path}: its member {member} is damaged ({error}): get it anew") from error
        raise StoreError(f"{path}: is not a zip file, or not all of one ({error}): get it anew") from error
    except IsADirectoryError:
        raise StoreError(f"{path}: is a folder, not a packed store") from None
