"""A folder that holds what a store holds, for what works on files: its own, or a copy of a bucket's or zip file's."""

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

    from hesstore.store.places.base import Place
    from hesstore.store.places.location import Location

Stamp = tuple[int, int]
"""What changes when a file is replaced: its inode and its time."""


@contextmanager
def fetch_to_folder(
    location: Location, *, writable: bool, progress: Callable[[int, int], None] = lambda *_: None
) -> Iterator[Path]:
    """A folder with the store's files, as long as the context lasts.

    Of a store in a bucket it is a copy of all objects, on this machine's disk. If it is writable, the runs are
    claimed, and files that were replaced, made or removed are so in the bucket at the end: first what promises a λ.
    Of a packed store it is a copy of all members, never writable.

    Parameters
    ----------
    location : path or URL
        The store.
    writable : bool
        Whether changes go back.
    progress : callable, optional
        Called with (objects fetched, objects in all).

    Raises
    ------
    StoreBusyError
        If it is writable and a live driver holds one of its runs.
    StoreError
        If there is no store, or no room for the copy; for a packed store that is to be written.
    """
    place = locate(location)
    if isinstance(place, FolderPlace):
        yield place.path
        return
    place.check_exists()
    with ExitStack() as held:
        if writable:
            place.check_writable()
            for run_id in _runs(place):
                held.enter_context(place.claim(run_id))
        folder = Path(held.enter_context(tempfile.TemporaryDirectory())) / _name(place)
        fetched = _fetch(place, folder, progress)
        yield folder
        if writable:
            _give_back(place, folder, fetched)


def _runs(place: Place) -> list[int]:
    """The runs of which anything is there; the store need not be sound enough to be opened."""
    found = (re.match(r"[^/]+/c/(\d+)/", key) for key in place.names())
    return sorted({int(match[1]) for match in found if match})


def _name(place: Place) -> str:
    return str(place).rstrip("/").rsplit("/", 1)[-1]


def _fetch(place: Place, folder: Path, progress: Callable[[int, int], None]) -> dict[str, Stamp]:
    keys = [key for key in place.names() if not _is_claim(key)]
    FolderPlace(Path(tempfile.gettempdir())).check_space(place.size())
    stamps = {}
    for done, key in enumerate(keys, start=1):
        file = folder / key
        if not file.resolve().is_relative_to(folder.resolve()):
            raise StoreError(f"{place}: the name of an object, {key!r}, leads out of the store")
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
