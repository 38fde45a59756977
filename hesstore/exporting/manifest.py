"""The list of the files of an export: what each holds, its size and its checksum.

``manifest.jsonl`` is a JSON object a line: first the store's facts, then a file each, with its SHA-256. A line is
written just before its file gets its name, so that a file that was exported has one whatever a kill interrupts; a line
without its file means nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from importlib import metadata
from threading import Lock
from typing import TYPE_CHECKING, Any, Self

from hesstore.errors import ExportError
from hesstore.files import remove_partial, write_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

NAME = "manifest.jsonl"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One file.

    Attributes
    ----------
    name : str
        Its path in the folder.
    kind : str
        What it holds.
    fingerprint, source : str
        Of the store, and of the λ in it; see :meth:`hesstore.dataset.point_selection.PointSelection.source`.
    bytes, mtime_ns : int
        Its size and time. A file with both is as it was written; with another time its checksum decides.
    sha256 : str
        Hex.
    """

    name: str
    kind: str
    fingerprint: str
    source: str
    bytes: int
    mtime_ns: int
    sha256: str

    def describes(self, path: Path) -> bool:
        """Whether the file at ``path`` is as it was written."""
        facts = path.stat()
        if facts.st_size != self.bytes:
            return False
        return facts.st_mtime_ns == self.mtime_ns or checksum(path) == self.sha256


class Manifest:
    """The manifest of a folder, to which entries are added; a context that writes it whole and in order when left.

    Parameters
    ----------
    folder : Path
        The folder; it may not be there yet.
    header : mapping
        Facts about the store.
    """

    def __init__(self, folder: Path, header: Mapping[str, Any]) -> None:
        self.path, self.header = folder / NAME, header
        self.entries = {entry.name: entry for entry in read_entries(self.path)}
        self._lock = Lock()

    def __enter__(self) -> Self:
        remove_partial(self.path)
        self._write()
        return self

    def __exit__(self, *_: object) -> None:
        self._write()

    def _write(self) -> None:
        there = [self.entries[name] for name in sorted(self.entries) if (self.path.parent / name).exists()]
        lines = [json.dumps(self.header), *(json.dumps(asdict(entry)) for entry in there)]
        write_file(self.path, "".join(f"{line}\n" for line in lines).encode())

    def add(self, entry: Entry) -> None:
        """Note a file that is about to get its name."""
        line = json.dumps(asdict(entry)) + "\n"
        with self._lock:
            self.entries[entry.name] = entry
            with self.path.open("a") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())


def read_entries(path: Path) -> list[Entry]:
    """What a manifest lists; a last line that a kill cut off is left out.

    Raises
    ------
    ExportError
        If it is no manifest.
    """
    if not path.exists():
        return []
    entries = []
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    for number, line in enumerate(lines[1:-1], start=2):  # what follows the last newline is cut off, or empty
        try:
            entries.append(Entry(**json.loads(line)))
        except (ValueError, TypeError):
            raise ExportError(
                f"{path}: line {number} is no entry of a manifest: give another folder, or remove it and pass --force"
            ) from None
    return entries


def read_header(path: Path) -> dict[str, Any] | None:
    """The store's facts in a manifest, if there is one and they can be read."""
    try:
        header = json.loads(path.read_text(encoding="utf-8").split("\n", 1)[0])
    except (OSError, ValueError):
        return None
    return header if isinstance(header, dict) and "fingerprint" in header else None


def header_of(attributes: Mapping[Any, Any]) -> dict[str, Any]:
    """What a manifest says of a store with these root attributes."""
    facts = {
        name: attributes[name] for name in ("fingerprint", "schema_version", "penalty_scale") if name in attributes
    }
    parsed = {
        name: json.loads(attributes[name])
        for name in ("identity", "config", "runs", "environment")
        if name in attributes
    }
    return {"hesstore": metadata.version("hesstore"), **facts, **parsed}


def checksum(path: Path) -> str:
    """SHA-256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
