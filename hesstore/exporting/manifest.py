"""The manifest of an export: a list of its files with their contents, sizes and checksums.

``manifest.jsonl`` has one JSON object per line: first facts about the store, then one entry per file, with its SHA-256.
An entry is written just before its file gets its name. So every exported file has an entry, even if the process is
killed at any time; an entry without a file has no meaning.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from importlib import metadata
from threading import Lock
from typing import TYPE_CHECKING, Any, Self

from hesstore.durable_files import remove_partial, sync_file, write_file
from hesstore.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

NAME = "manifest.jsonl"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """The entry of one file.

    Attributes
    ----------
    name : str
        Path of the file, relative to the folder.
    kind : str
        Kind of contents.
    fingerprint : str
        Fingerprint of the store.
    source : str
        Digest of the grid points in the file; see :meth:`hesstore.dataset.point_selection.PointSelection.source`.
    bytes, mtime_ns : int
        Size and modification time. If both are as in the entry, the file is unchanged; if only the time differs, the
        checksum decides.
    sha256 : str
        SHA-256 of the file, in hexadecimal.
    reg_loss : str
        For a table of losses, what ``Train_Reg_Loss`` adds to ``Train_Loss``; see
        :data:`hesstore.exporting.original_csv.REG_LOSSES`. Empty for other files.
    """

    name: str
    kind: str
    fingerprint: str
    source: str
    bytes: int
    mtime_ns: int
    sha256: str
    reg_loss: str = ""

    def describes(self, path: Path) -> bool:
        """Whether the file at ``path`` has not changed since it was written."""
        facts = path.stat()
        if facts.st_size != self.bytes:
            return False
        return facts.st_mtime_ns == self.mtime_ns or checksum(path) == self.sha256


class Manifest:
    """The manifest of a folder. As a context, it adds entries and is rewritten in order at the beginning and the end.

    Parameters
    ----------
    folder : Path
        The folder; it need not exist yet.
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
        entries = [self.entries[name] for name in sorted(self.entries) if (self.path.parent / name).exists()]
        lines = [json.dumps(self.header), *(json.dumps(asdict(entry)) for entry in entries)]
        write_file(self.path, "".join(f"{line}\n" for line in lines).encode())

    def add(self, entry: Entry) -> None:
        """Append the entry of a file that is about to get its name."""
        line = json.dumps(asdict(entry)) + "\n"
        with self._lock:
            self.entries[entry.name] = entry
            with self.path.open("a") as file:
                file.write(line)
            sync_file(self.path)


def read_entries(path: Path) -> list[Entry]:
    """Read the entries of a manifest, without an incomplete last line, which a killed process may have left.

    Raises
    ------
    ExportError
        If the file is not a manifest.
    """
    if not path.exists():
        return []
    entries = []
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    for number, line in enumerate(lines[1:-1], start=2):  # the text after the last line break is incomplete or empty
        try:
            entries.append(Entry(**json.loads(line)))
        except (ValueError, TypeError, RecursionError):
            raise ExportError(
                f"{path}: line {number} is not an entry of a manifest: give another folder, or remove this file and "
                "pass --force"
            ) from None
    return entries


def read_header(path: Path) -> dict[str, Any] | None:
    """Read the facts about the store from a manifest; None if there is no readable manifest."""
    try:
        header = json.loads(path.read_text(encoding="utf-8").split("\n", 1)[0])
    except (OSError, ValueError, RecursionError):
        return None
    return header if isinstance(header, dict) and "fingerprint" in header else None


def header_of(attributes: Mapping[Any, Any]) -> dict[str, Any]:
    """The facts about a store that its manifest contains, from the root attributes of the store."""
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
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
