"""A store that :mod:`hesstore.exporting.zip_archive` packed into one ``.zip`` file.

It is read without unpacking, and it is never written.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.storage import ZipStore

from hesstore.errors import CorruptStoreError, StoreError, size_text
from hesstore.store.places.folder import names_nearby
from hesstore.store.places.place import LocalPlace, ReadOnlyPlace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from zarr.abc.store import ByteRequest, Store
    from zarr.core.buffer import Buffer, BufferPrototype

SUMS = "SHA256SUMS"
EXTRA_MEMBERS = ("config.toml", "environment.json", SUMS)
"""Members of the zip file that are meant for people, and are not part of the store."""
LEFT_OUT = "left_out"
"""The root attribute that lists the variables which were left out of a pack, separated by spaces."""

_GET_AGAIN = "copy or download the zip file again"

_MOST_EXPANSION, _LARGE = 100, 1 << 20
"""The factor by which a member of at least as many bytes may expand: a small file could otherwise fill the memory."""

_HEADER = 30
"""Length of a member's local header before the member's name, in bytes."""


class ZipPlace(ReadOnlyPlace, LocalPlace):
    """A store in the zip file ``path``; it can only be read."""

    def is_new(self) -> bool:
        """Whether the file does not exist."""
        return not self.path.exists()

    def check_exists(self) -> None:
        """Raise :class:`StoreError` unless this is a zip file that contains a store and no unsafe member names."""
        if not self.path.exists():
            raise StoreError(f"{self}: no such packed store{names_nearby(self.path)}")
        if "zarr.json" not in self._sizes():
            raise StoreError(f"{self}: is a zip file without a store at its top: it has no zarr.json there")

    def check_writable(self) -> NoReturn:
        """Raise :class:`StoreError`: a packed store is never written."""
        if self.is_new():
            raise StoreError(f"{self}: is the name of a packed store, which is read only: give the name of a folder")
        raise StoreError(f"{self}: is a packed store, which is read only: unzip it into a folder first")

    def readable_store(self) -> Store:
        """Zarr's store in the zip file."""
        return _ZipStore(self.path)

    def names(self) -> list[str]:
        """The names of the members that belong to the store."""
        return sorted(self._sizes())

    def fetch(self, key: str) -> bytes:
        """The contents of a member, after a check of its checksum."""
        with _translating_errors(self.path, key), zipfile.ZipFile(self.path) as archive:
            return archive.read(key)

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Those of ``keys`` whose member does not exist or is empty."""
        sizes = self._sizes()
        return [key for key in keys if not sizes.get(key)]

    def size(self) -> int:
        """Total size of the store's files, in bytes."""
        return sum(self._sizes().values())

    def _sizes(self) -> dict[str, int]:
        """The size in bytes of each file of the store, by name."""
        with _translating_errors(self.path), zipfile.ZipFile(self.path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
        for member in members:
            name = member.filename
            if name.startswith("/") or "\\" in name or ":" in name or not {"", ".", ".."}.isdisjoint(name.split("/")):
                raise StoreError(f"{self}: the name of a member, {name!r}, leads out of the store")
            if member.file_size > _LARGE and member.file_size > _MOST_EXPANSION * member.compress_size:
                raise StoreError(
                    f"{self}: its member {name!r} expands from {size_text(member.compress_size)} to "
                    f"{size_text(member.file_size)}, which no results do: do not use it"
                )
        sizes = {member.filename: member.file_size for member in members}
        if len(sizes) < len(members):
            raise StoreError(f"{self}: has two members with the same name")
        return {name: size for name, size in sizes.items() if name not in EXTRA_MEMBERS}


class _ZipStore(ZipStore):
    """Zarr's store in a zip file, with errors that say what to do.

    It also reads a range of bytes of an uncompressed member without reading the rest.
    """

    path: Path

    def __init__(self, path: Path) -> None:
        super().__init__(path, mode="r")

    def _sync_open(self) -> None:
        with _translating_errors(self.path):
            super()._sync_open()

    def _get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        if not self._is_open:  # it was unpickled in another process, and not every zarr version opens it first
            self._sync_open()
        with _translating_errors(self.path, key):
            member = self._zf.NameToInfo.get(key)
            if byte_range is None or member is None or member.compress_type != zipfile.ZIP_STORED:
                return super()._get(key, prototype, byte_range)
            start, stop = _between(byte_range, member.file_size)
            return prototype.buffer.from_bytes(self._part(member, start, stop))

    def _part(self, member: zipfile.ZipInfo, start: int, stop: int) -> bytes:
        """A range of bytes of an uncompressed member; the chunk's own codec checks them."""
        file: Any = self._zf.fp
        header = os.pread(file.fileno(), _HEADER, member.header_offset)
        if header[:4] != b"PK\3\4":
            raise zipfile.BadZipFile("its header is damaged")
        name, extra = int.from_bytes(header[26:28], "little"), int.from_bytes(header[28:30], "little")
        return os.pread(file.fileno(), max(0, stop - start), member.header_offset + _HEADER + name + extra + start)


def _between(byte_range: ByteRequest, size: int) -> tuple[int, int]:
    """The first position of a byte range, and the one after its last, in ``size`` bytes."""
    match byte_range:
        case RangeByteRequest(start, end):
            return start, min(end, size)
        case OffsetByteRequest(offset):
            return offset, size
        case SuffixByteRequest(suffix):
            return max(0, size - suffix), size


@contextmanager
def _translating_errors(path: Path, member: str = "") -> Iterator[None]:
    """Raise errors about a damaged zip file as :class:`StoreError`, or :class:`CorruptStoreError` for a member."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        if member:
            raise CorruptStoreError(f"{path}: its member {member} is damaged ({error}): {_GET_AGAIN}") from error
        raise StoreError(f"{path}: is not a zip file, or an incomplete one ({error}): {_GET_AGAIN}") from error
    except IsADirectoryError:
        raise StoreError(f"{path}: is a folder, not a packed store") from None
