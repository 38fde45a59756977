"""A store in one ``.zarr.zip`` file, to hand on: :func:`hesstore.open`, zarr and xarray read it where it lies.

The store's files are in it byte for byte and uncompressed, as they are already, and beside them what people look for:
``config.toml``, which ``hesstore sweep --config`` takes, ``environment.json``, and ``SHA256SUMS`` for ``sha256sum -c``.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w

from hesstore.errors import CorruptStoreError, ExportError, HesstoreError
from hesstore.exporting.output_folder import check_room
from hesstore.files import remove_partial, whole_file
from hesstore.store.group import open_group
from hesstore.store.metadata import SEAL, seal
from hesstore.store.places.folder import FolderPlace
from hesstore.store.places.location import locate
from hesstore.store.places.zip_file import EXTRA_MEMBERS, LEFT_OUT, SUMS, ZipPlace
from hesstore.store.writing import PROMISES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import zarr

    from hesstore.store.places.base import Place
    from hesstore.store.places.location import Location

_ROOT = "zarr.json"
_LONG_AGO = (1980, 1, 1, 0, 0, 0)
"""The first date that a zip file can tell: the same store makes the same file."""
_TRIES = 20


def pack(
    store: Location,
    out: str | Path,
    *,
    vectors: bool = True,
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Path | None:
    """Pack a store into one file, which appears whole or not at all. A sweep may be at work on the store.

    Parameters
    ----------
    store : path or URL
        The store.
    out : path
        The file, ``NAME.zarr.zip``; missing folders are made.
    vectors : bool
        Whether eigenvectors, gradients, weights, and the labels of parameters are in it.
    force : bool
        Replace a file that is there.
    progress : callable, optional
        Called with (bytes packed, bytes expected in all).

    Returns
    -------
    Path or None
        The file; None if it was there already, with the same contents.

    Raises
    ------
    ExportError
        Before anything is written: if another file is in the way, or there is no room.
    StoreError
        If there is no store, or it can't be read.
    """
    place, file = locate(store), Path(out).expanduser()
    group = open_group(place)
    source = _Source(place, set() if vectors else _of_parameters(group))
    _check(place, file)
    if file.exists() and not force:
        if not source.is_in(file):
            raise ExportError(
                f"{file}: is there already, with other contents: pass --force to replace it, or -o for another"
            )
        return None
    expected = place.size() if vectors else _bytes(group, source.left_out)
    check_room(next(there for there in file.absolute().parents if there.is_dir()), expected)
    tell = progress or (lambda *_: None)
    remove_partial(file)
    try:
        with whole_file(file) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            done, sums = 0, []
            for name, data in source.members(group.attrs.asdict()):
                _put(archive, name, data)
                sums.append(f"{hashlib.sha256(data).hexdigest()}  {name}\n")
                done += len(data)
                tell(min(done, expected), expected)
            _put(archive, SUMS, "".join(sums).encode())
    except OSError as error:
        raise ExportError(f"{file}: can't be written ({error.strerror or error}): give another file") from error
    tell(expected, expected)
    return file


def _check(place: Place, file: Path) -> None:
    if file.suffix.lower() != ".zip":
        raise ExportError(f"{file}: is not the name of a zip file: give one that ends in .zarr.zip")
    if file.is_dir():
        raise ExportError(f"{file}: is a folder: give a file")
    if isinstance(place, FolderPlace) and file.resolve().is_relative_to(place.path.resolve()):
        raise ExportError(f"{file}: lies in the store that is to be packed: give a file outside of it")


def _put(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    member = zipfile.ZipInfo(name, _LONG_AGO)
    member.external_attr = 0o644 << 16
    archive.writestr(member, data)


def _of_parameters(group: zarr.Group) -> set[str]:
    """The arrays over the parameters."""
    return {name for name, array in group.arrays() if "param" in (array.metadata.dimension_names or ())}  # type: ignore[union-attr]


def _bytes(group: zarr.Group, left_out: set[str]) -> int:
    """About the bytes of the other arrays, before they are compressed."""
    return sum(array.nbytes for name, array in group.arrays() if name not in left_out)


class _Source:
    """What of a store goes into the file.

    Parameters
    ----------
    place : Place
        The store.
    left_out : set of str
        Arrays that do not.
    """

    def __init__(self, place: Place, left_out: set[str]) -> None:
        self.place, self.left_out = place, left_out

    def members(self, attributes: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
        """Name and contents of each file: first what promises a λ, so that what it promises is all in the others."""
        yield from self._promises().items()
        for key in self._keys():  # looked up only now; a run may have got its first status meanwhile
            if key.partition("/")[0] not in PROMISES:
                yield key, self._fetch(key)
        yield "config.toml", tomli_w.dumps(json.loads(attributes["config"])).encode()
        yield "environment.json", (json.dumps(json.loads(attributes["environment"]), indent=2) + "\n").encode()

    def is_in(self, file: Path) -> bool:
        """Whether a file is a pack of this: of the same metadata and promises; digests are among them."""
        packed = ZipPlace(file)
        try:
            names = packed.names()
            compared = [key for key in names if key == _ROOT or key.partition("/")[0] in PROMISES]
            return names == self._keys() and all(packed.fetch(key) == self._fetch(key) for key in compared)
        except (HesstoreError, OSError):
            return False

    def _keys(self) -> list[str]:
        """The store's files in order, without claims and temporary files."""
        keys = [key for key in self.place.names() if key not in EXTRA_MEMBERS and "/." not in f"/{key}"]
        return sorted(key for key in keys if key.partition("/")[0] not in self.left_out)

    def _promises(self) -> dict[str, bytes]:
        """What says that a λ is there, the status first; if it can be had, of a moment when no λ was being recorded."""
        found: dict[str, bytes] = {}
        for _ in range(_TRIES):
            keys = [key for name in PROMISES for key in self._keys() if key.partition("/")[0] == name]
            before, found = found, {key: self._fetch(key) for key in keys}
            if found == before:
                break
        return found

    def _fetch(self, key: str) -> bytes:
        try:
            data = self.place.fetch(key)
        except FileNotFoundError:
            raise ExportError(f"{self.place}: {key} vanished while it was packed: pack it again") from None
        return self._without_left_out(data) if key == _ROOT and self.left_out else data

    def _without_left_out(self, root: bytes) -> bytes:
        """The root's metadata, with a remark of what was left out, and sealed again."""
        try:
            parsed = json.loads(root)
            attributes, arrays = parsed["attributes"], parsed["consolidated_metadata"]["metadata"]
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptStoreError(f"{self.place}: its zarr.json can't be understood ({error})") from error
        for name in self.left_out:
            arrays.pop(name, None)
        attributes[LEFT_OUT] = " ".join(sorted(self.left_out))
        if SEAL in attributes:
            attributes[SEAL] = seal(attributes, arrays)
        return json.dumps(parsed, indent=2).encode()
