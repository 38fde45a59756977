"""Write the files of an export into a folder, several at a time, and skip those that exist already."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING

from hesstore.durable_files import remove_partial, whole_file
from hesstore.errors import ExportError, size_text
from hesstore.exporting.manifest import Entry, Manifest, checksum

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

EXTRA_THREADS = 2
"""Threads in addition to one per core: a thread that writes a file mostly waits for the disk."""

CERTAIN_SHARE = 0.9
"""The share of the estimated size that is certainly needed: with less free space, the export does not begin."""


@dataclass(frozen=True, kw_only=True)
class File:
    """A file to write.

    Attributes
    ----------
    name : str
        Its path, relative to the folder.
    kind : str
        Kind of contents.
    source : str
        Digest of the grid points that it contains.
    estimate : float
        Its approximate size in bytes.
    write : callable
        Function that writes it to a given path.
    reg_loss : str
        For a table of losses, what ``Train_Reg_Loss`` adds to ``Train_Loss``; empty for other files.
    """

    name: str
    kind: str
    source: str
    estimate: float
    write: Callable[[Path], None]
    reg_loss: str = ""


@dataclass(frozen=True)
class WriteSummary:
    """The number of files that were written, their total size in bytes, and the number of files that existed."""

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
) -> WriteSummary:
    """Write those of ``files`` that do not exist yet, several at a time; each appears complete or not at all.

    Raises
    ------
    ExportError
        Before anything is written: if a file of another origin is in the way and ``force`` is false, if the folder
        cannot be created, or if there is not enough space.
    """
    if folder.exists() and not folder.is_dir():
        raise ExportError(f"{folder}: is a file, not a folder: give another folder with -o")
    to_write = list(files) if force else _files_to_write(folder, files, manifest)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExportError(f"{folder}: cannot be created ({error.strerror}): give another folder with -o") from None
    expected = sum(file.estimate for file in to_write)
    check_room(folder, CERTAIN_SHARE * expected)
    fingerprint = str(manifest.header.get("fingerprint", ""))
    done = 0
    with manifest, ThreadPoolExecutor(len(os.sched_getaffinity(0)) + EXTRA_THREADS) as pool:
        futures = [pool.submit(_write, folder, file, manifest, fingerprint) for file in to_write]
        ended: SimpleQueue[Future[int]] = SimpleQueue()  # an interrupt never leaves its lock held
        try:
            for future in futures:
                future.add_done_callback(ended.put)
            for left in reversed(range(len(futures))):
                future = ended.get()
                if future.exception():
                    break
                done += future.result()
                progress(done, max(done, round(expected)) if left else done)
        finally:
            for future in futures:
                future.cancel()
    for future in futures:
        if not future.cancelled():
            future.result()  # raises the error of the first file of several that have one
    return WriteSummary(len(to_write), done, len(files) - len(to_write))


def check_room(folder: Path, needed: float) -> None:
    """Raise :class:`ExportError` if the file system of ``folder`` has fewer than ``needed`` bytes of free space."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ExportError(
            f"{folder}: the export needs about {size_text(needed)}, but only {size_text(free)} are free: "
            "free some space, give another place with -o, or export less"
        )


def _files_to_write(folder: Path, files: Sequence[File], manifest: Manifest) -> list[File]:
    """The files that do not exist, or that this store's export wrote before their grid points changed."""
    to_write, in_the_way = [], []
    for file in files:
        path, entry = folder / file.name, manifest.entries.get(file.name)
        if not path.exists():
            to_write.append(file)
        elif entry is None or not entry.describes(path):
            in_the_way.append(file)
        elif (entry.source, entry.reg_loss) != (file.source, file.reg_loss):
            is_own = entry.fingerprint == manifest.header.get("fingerprint")
            (to_write if is_own else in_the_way).append(file)
    if in_the_way:
        raise ExportError(
            f"{folder}: {len(in_the_way)} of {len(files)} files exist already and are not from this export (such as "
            f"{in_the_way[0].name}): pass --force to overwrite them, or -o for another folder"
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
                reg_loss=file.reg_loss,
            )
        )
    return facts.st_size
