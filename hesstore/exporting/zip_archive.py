"""A store in one ``.zarr.zip`` file, which :func:`hesstore.open`, zarr and xarray read without unpacking it.

The zip file contains the files of the store byte for byte, without further compression. It also contains
``config.toml``, which ``hesstore sweep --config`` accepts, ``environment.json``, and ``SHA256SUMS`` for
``sha256sum -c``.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from typing import TYPE_CHECKING, Any

import tomli_w

from hesstore.durable_files import encode_text, remove_partial, whole_file
from hesstore.errors import CorruptStoreError, ExportError, HesstoreError
from hesstore.exporting.output_folder import check_room
from hesstore.store.chunk_files import are_chunks_sound
from hesstore.store.metadata import SEAL, seal
from hesstore.store.places.folder import FolderPlace
from hesstore.store.places.location import expand_home, locate
from hesstore.store.places.zip_file import EXTRA_MEMBERS, LEFT_OUT, SUMS, ZipPlace
from hesstore.store.reading import open_store
from hesstore.store.root_group import open_group
from hesstore.store.writing import PROMISES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    import zarr

    from hesstore.store.places.location import Location
    from hesstore.store.places.place import Place

_ROOT = "zarr.json"
_DATE = (1980, 1, 1, 0, 0, 0)
"""The date of all members, so that the same store makes the same file: the earliest date in a zip file."""
_TRIES = 20
"""How often status and digests are read at most, if a sweep keeps changing them."""


def pack(
    store: Location,
    out: str | Path,
    *,
    vectors: bool = True,
    force: bool = False,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Path | None:
    """Pack a store into one file, which appears complete or not at all. A sweep may be running on the store.

    Parameters
    ----------
    store : path or URL
        The store.
    out : path
        The file, ``NAME.zarr.zip``; missing folders are created.
    vectors : bool
        Whether to include eigenvectors, gradients, weights, and the labels of the parameters.
    force : bool
        Whether to replace an existing file.
    progress : callable, optional
        Called with (bytes packed, bytes expected in total).

    Returns
    -------
    Path or None
        The file; None if it existed already with the same contents.

    Raises
    ------
    ExportError
        Before anything is written: if another file is in the way, or if there is not enough space.
    CorruptStoreError
        If the store is damaged.
    StoreError
        If the store does not exist or cannot be read.
    """
    place, file = locate(store), expand_home(out)
    group = open_group(place)
    open_store(place, chunked=False, check=True)
    contents = _Contents(place, set() if vectors else _names_of_parameter_arrays(group))
    _check_file(place, file)
    if file.exists() and not force:
        if not contents.are_in(file):
            raise ExportError(
                f"{file}: exists already, with other contents: pass --force to replace it, or -o for another file"
            )
        return None
    expected = (place.size() or 0) if vectors else _nbytes(group, contents.left_out)
    check_room(next(each for each in file.absolute().parents if each.is_dir()), expected)
    remove_partial(file)
    try:
        with whole_file(file) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            done, sums, arrays = 0, [], dict(group.arrays())
            for name, data in contents.members(group.attrs.asdict()):
                _check_chunk(arrays, place, name, data)
                _add_member(archive, name, data)
                sums.append(f"{hashlib.sha256(data).hexdigest()}  {name}\n")
                done += len(data)
                progress(min(done, expected), expected)
            _add_member(archive, SUMS, "".join(sums).encode())
    except OSError as error:
        raise ExportError(f"{file}: cannot be written ({error.strerror or error}): give another file") from error
    progress(expected, expected)
    return file


def _check_chunk(arrays: Mapping[str, zarr.Array[Any]], place: Place, key: str, data: bytes) -> None:
    """Raise :class:`CorruptStoreError` if a file with chunks does not have their checksums."""
    name, separator, _ = key.partition("/c/")
    if separator and name in arrays and not are_chunks_sound(arrays[name], data):
        raise CorruptStoreError(f"{place}: {key} is damaged: `hesstore verify {place}` lists all damage")


def _check_file(place: Place, file: Path) -> None:
    if file.suffix.lower() != ".zip":
        raise ExportError(f"{file}: is not the name of a zip file: give one that ends in .zarr.zip")
    if file.is_dir():
        raise ExportError(f"{file}: is a folder: give a file")
    if isinstance(place, FolderPlace) and file.resolve().is_relative_to(place.path.resolve()):
        raise ExportError(f"{file}: lies in the store that is to be packed: give a file outside of it")


def _add_member(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    member = zipfile.ZipInfo(name, _DATE)
    member.external_attr = 0o644 << 16
    archive.writestr(member, data)


def _names_of_parameter_arrays(group: zarr.Group) -> set[str]:
    """The arrays that have the dimension of the parameters."""
    return {name for name, array in group.arrays() if "param" in (array.metadata.dimension_names or ())}  # type: ignore[union-attr]


def _nbytes(group: zarr.Group, left_out: set[str]) -> int:
    """The approximate size of the other arrays: before compression."""
    return sum(array.nbytes for name, array in group.arrays() if name not in left_out)


class _Contents:
    """The contents of the zip file.

    Parameters
    ----------
    place : Place
        The store.
    left_out : set of str
        The arrays that are left out.
    """

    def __init__(self, place: Place, left_out: set[str]) -> None:
        self.place, self.left_out = place, left_out

    def members(self, attributes: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
        """Name and contents of each member.

        Status and digests are read first, so that the members contain all results that the status promises.
        """
        yield from self._read_promises().items()
        for key in self._keys():  # listed again, because a run may have received its first status since
            if key.partition("/")[0] not in PROMISES:
                yield key, self._read(key)
        yield "config.toml", encode_text(tomli_w.dumps(json.loads(attributes["config"])))
        yield "environment.json", (json.dumps(json.loads(attributes["environment"]), indent=2) + "\n").encode()

    def are_in(self, file: Path) -> bool:
        """Whether a zip file has these contents: it has the same names, metadata, status and digests."""
        packed = ZipPlace(file)
        try:
            names = packed.names()
            compared = [key for key in names if key == _ROOT or key.partition("/")[0] in PROMISES]
            return names == self._keys() and all(packed.fetch(key) == self._read(key) for key in compared)
        except (HesstoreError, OSError):
            return False

    def _keys(self) -> list[str]:
        """The sorted names of the store's files, without claims and temporary files."""
        keys = [key for key in self.place.names() if key not in EXTRA_MEMBERS and "/." not in f"/{key}"]
        return sorted(key for key in keys if key.partition("/")[0] not in self.left_out)

    def _read_promises(self) -> dict[str, bytes]:
        """Read status and digests until two readings agree: then nothing was recorded between them."""
        found: dict[str, bytes] = {}
        for _ in range(_TRIES):
            keys = [key for name in PROMISES for key in self._keys() if key.partition("/")[0] == name]
            before, found = found, {key: self._read(key) for key in keys}
            if found == before:
                break
        return found

    def _read(self, key: str) -> bytes:
        try:
            data = self.place.fetch(key)
        except FileNotFoundError:
            raise ExportError(f"{self.place}: {key} vanished while the store was packed: pack it again") from None
        return self._without_left_out(data) if key == _ROOT and self.left_out else data

    def _without_left_out(self, root: bytes) -> bytes:
        """The metadata of the root without the arrays that are left out, with a list of them and a new seal."""
        try:
            parsed = json.loads(root)
            attributes, arrays = parsed["attributes"], parsed["consolidated_metadata"]["metadata"]
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptStoreError(
                f"{self.place}: its zarr.json is malformed ({error}): `hesstore verify` shows what is damaged"
            ) from error
        for name in self.left_out:
            arrays.pop(name, None)
        attributes[LEFT_OUT] = " ".join(sorted(self.left_out))
        if SEAL in attributes:
            attributes[SEAL] = seal(attributes, arrays)
        return json.dumps(parsed, indent=2).encode()
