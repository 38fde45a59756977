"""Writing an export's files into a folder: what is there already, whether there is room, and all cores at work."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hesstore.errors import ExportError
from hesstore.exporting.manifest import Entry, Manifest, checksum
from hesstore.files import remove_partial, whole_file

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

WAITING = 2
"""Files beside one a core that are written at once: most of their time they wait for the disk."""

SLACK = 0.9
"""Of the estimated bytes: with less than that free, the files surely have no room."""


@dataclass(frozen=True, kw_only=True)
class File:
    """A file to be.

    Attributes
    ----------
    name : str
        Its path in the folder.
    kind : str
        What it holds.
    source : str
        What its contents depend on.
    estimate : float
        About how many bytes it will have.
    write : callable
        Writes it at a given path.
    """

    name: str
    kind: str
    source: str
    estimate: float
    write: Callable[[Path], None]


@dataclass(frozen=True)
class Written:
    """Files that were written, their bytes, and files that were there already."""

    files: int
    bytes: int
    present: int


def write_files(
    folder: Path,
    files: Sequence[File],
    manifest: Manifest,
    *,
    force: bool,
    progress: Callable[[int, int], None],
) -> Written:
    """Write those of ``files`` that are not there, a few at a time; each appears whole or not at all.

    Raises
    ------
    ExportError
        Before anything is written: if a file that this store's export did not write is in the way, unless ``force``;
        if the folder can't be made, or has no room.
    """
    if folder.exists() and not folder.is_dir():
        raise ExportError(f"{folder}: is a file, not a folder: give another with -o")
    to_write = list(files) if force else _missing(folder, files, manifest)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExportError(f"{folder}: can't be made ({error.strerror}): give another folder with -o") from None
    expected = sum(file.estimate for file in to_write)
    check_room(folder, SLACK * expected)
    fingerprint = str(manifest.header.get("fingerprint", ""))
    done = 0
    with manifest, ThreadPoolExecutor(len(os.sched_getaffinity(0)) + WAITING) as pool:
        pending = {pool.submit(_write, folder, file, manifest, fingerprint) for file in to_write}
        try:
            while pending:
                finished, pending = wait(pending, return_when="FIRST_COMPLETED")
                done += sum(future.result() for future in finished)
                progress(done, max(done, round(expected)) if pending else done)
        finally:
            for future in pending:
                future.cancel()
            wait(pending, return_when=FIRST_EXCEPTION)
    return Written(len(to_write), done, len(files) - len(to_write))


def check_room(folder: Path, needed: float) -> None:
    """Raise :class:`ExportError` if the file system of ``folder`` has not so many bytes free."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ExportError(
            f"{folder}: needs about {needed / 1e9:.2f} GB, {free / 1e9:.2f} GB are free there: make room, "
            "give another place with -o, or export less"
        )


def _missing(folder: Path, files: Sequence[File], manifest: Manifest) -> list[File]:
    """The files that are not there and complete."""
    to_write, in_the_way = [], []
    for file in files:
        path, entry = folder / file.name, manifest.entries.get(file.name)
        if not path.exists():
            to_write.append(file)
        elif entry is None or not entry.describes(path):
            in_the_way.append(file.name)
        elif entry.source != file.source:
            own = entry.fingerprint == manifest.header.get("fingerprint")
            (to_write if own else in_the_way).append(file if own else file.name)  # type: ignore[arg-type]
    if in_the_way:
        raise ExportError(
            f"{folder}: {len(in_the_way)} of {len(files)} files are there already and not from this export (such as "
            f"{in_the_way[0]}): pass --force to overwrite them, or -o for another folder"
        )
    return to_write


def _write(folder: Path, file: File, manifest: Manifest, fingerprint: str) -> int:
    remove_partial(folder / file.name)
    with whole_file(folder / file.name) as path:
        file.write(path)
        facts = path.stat()
        manifest.add(
            Entry(
                name=file.name,
                kind=file.kind,
                fingerprint=fingerprint,
                source=file.source,
                bytes=facts.st_size,
                mtime_ns=facts.st_mtime_ns,
                sha256=checksum(path),
            )
        )
    return facts.st_size
