"""A local folder with the files of a store: its own folder, or a copy of a bucket or a zip file."""

from __future__ import annotations

import re
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hesstore.errors import StoreError
from hesstore.store.places.folder import FolderPlace
from hesstore.store.places.location import locate
from hesstore.store.writing import PROMISES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hesstore.store.places.location import Location
    from hesstore.store.places.place import Place

Stamp = tuple[int, int]
"""The inode and the time of a file, which change when it is replaced."""


@contextmanager
def fetch_to_folder(
    location: Location, *, writable: bool, progress: Callable[[int, int], None] = lambda *_: None
) -> Iterator[Path]:
    """Return a context whose value is a folder with the store's files, which exists as long as the context lasts.

    For a store in a bucket it is a copy of all objects on the local disk. If it is writable, the runs are claimed, and
    files that were replaced, created or removed are so in the bucket at the end, beginning with those that promise
    results. For a packed store it is a copy of all members, which is never writable.

    Parameters
    ----------
    location : path or URL
        The store.
    writable : bool
        Whether changes are written back.
    progress : callable, optional
        Called with (objects fetched, objects in total).

    Raises
    ------
    StoreBusyError
        If it is writable and a live driver holds one of its runs.
    StoreError
        If there is no store, no space for the copy, or a packed store that must be writable.
    """
    place = locate(location)
    if isinstance(place, FolderPlace):
        yield place.path
        return
    place.check_exists()
    with ExitStack() as held:
        if writable:
            place.check_writable()
            place.recover()
            for run_id in _runs(place):
                held.enter_context(place.claim(run_id))
        folder = Path(held.enter_context(tempfile.TemporaryDirectory())) / _name(place)
        fetched = _fetch(place, folder, progress)
        yield folder
        if writable:
            _give_back(place, folder, fetched)


def _runs(place: Place) -> list[int]:
    """Return the IDs of the runs that have any file. The store may be too damaged to be opened."""
    found = (re.match(r"[^/]+/c/(\d+)/", key) for key in place.names())
    return sorted({int(match[1]) for match in found if match})


def _name(place: Place) -> str:
    return str(place).rstrip("/").rsplit("/", 1)[-1]


def _fetch(place: Place, folder: Path, progress: Callable[[int, int], None]) -> dict[str, Stamp]:
    keys = [key for key in place.names() if not _is_claim(key)]
    FolderPlace(Path(tempfile.gettempdir())).check_space(place.size() or 0)
    stamps = {}
    for done, key in enumerate(keys, start=1):
        file = folder / key
        if not file.resolve().is_relative_to(folder.resolve()):
            raise StoreError(f"{place}: the name of an object, {key!r}, leads out of the store: do not use it")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(place.fetch(key))
        stamps[key] = _stamp(file)
        progress(done, len(keys))
    return stamps


def _give_back(place: Place, folder: Path, fetched: dict[str, Stamp]) -> None:
    there = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
    changed = [key for key, file in there.items() if not _is_claim(key) and fetched.get(key) != _stamp(file)]
    for key in sorted(changed, key=_promises_first):
        place.put(key, there[key].read_bytes())
    for key in sorted(fetched.keys() - there.keys(), key=_promises_first):
        place.delete(key)


def _promises_first(key: str) -> tuple[bool, str]:
    return key.partition("/")[0] not in PROMISES, key


def _is_claim(key: str) -> bool:
    return key.rpartition("/")[2].startswith(".claim-")


def _stamp(file: Path) -> Stamp:
    facts = file.stat()
    return facts.st_ino, facts.st_mtime_ns
