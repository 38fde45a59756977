"""The files to import, with the run ID and λ of each, which its name gives."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hesstore.errors import ImportFilesError
from hesstore.exporting.manifest import NAME as MANIFEST
from hesstore.exporting.manifest import read_header
from hesstore.importing.accuracy_tables import is_accuracy_table
from hesstore.importing.file_names import (
    KINDS_OF,
    TableName,
    is_checkpoint,
    is_text_table,
    parse_classic_name,
    parse_other_table_name,
    parse_table_name,
)
from hesstore.importing.table_runs import assign_runs
from hesstore.store.places.location import expand_home

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence
    from pathlib import Path
    from typing import Any

    from hesstore.importing.file_names import OtherTableName

KINDS = ("accuracy", "eigenvalues", "eigenvectors", "gradients", "weights")
MOST_RUNS = 1000
_LARGEST = 2**31  # above every size of a parameter


@dataclass
class Sources:
    """The files to import.

    Attributes
    ----------
    tables : dict of int to Path
        For each run ID, the file with losses and accuracies at all λ.
    files : dict of str to dict of (int, str) to Path
        The files of each other kind, by run ID and by λ as it is written in the name.
    numbers : dict of int to (int or None)
        For each run ID whose table has no ID in its name, the number in that name, if it has one.
    replaced : dict of int to Path
        For each run ID, the table without class accuracies that another table replaces.
    ignored : list of Path
        Other files in the same folders.
    header : dict, optional
        The first line of the manifest: facts about the store that the files were exported from.
    """

    tables: dict[int, Path] = field(default_factory=dict)
    files: dict[str, dict[tuple[int, str], Path]] = field(
        default_factory=lambda: {kind: {} for kind in KINDS_OF.values()}
    )
    numbers: dict[int, int | None] = field(default_factory=dict)
    replaced: dict[int, Path] = field(default_factory=dict)
    ignored: list[Path] = field(default_factory=list)
    header: dict[str, Any] | None = None

    @property
    def all(self) -> list[Path]:
        """All files to import."""
        return [*self.tables.values(), *(path for paths in self.files.values() for path in paths.values())]

    @property
    def runs(self) -> list[int]:
        """The IDs of the runs, in ascending order."""
        return sorted({*self.tables, *(run for paths in self.files.values() for run, _ in paths)})

    @property
    def bytes(self) -> int:
        """The total size of the files."""
        return sum(path.stat().st_size for path in self.all)

    def digest(self) -> str:
        """A digest of names and sizes: it changes when a file is added, removed or renamed, or changes its size."""
        facts = sorted((path.name, path.stat().st_size) for path in self.all)
        return hashlib.blake2b(repr(facts).encode(), digest_size=16).hexdigest()


def find_sources(given: Sequence[str | os.PathLike[str]]) -> Sources:
    """Find the files to import in folders and among files.

    Parameters
    ----------
    given : sequence of path
        Folders of CSV and weight files, or single files of these kinds.

    Raises
    ------
    ImportFilesError
        If there is nothing to import, or if two files have the same kind, run and λ.
    """
    paths = [expand_home(each) for each in given]
    for path in paths:
        if not path.exists():
            raise ImportFilesError(f"{path}: no such file or folder")
    sources = Sources()
    series: dict[str, Path] = {}
    others: dict[Path, OtherTableName] = {}
    for path in list_files(paths):
        _add(path, sources, series, others)
    _add_other_tables(others, sources)
    if not sources.all:
        raise ImportFilesError(_nothing_to_import(paths, sources))
    folders = {path.parent for path in sources.all}
    headers = [header for folder in sorted(folders) if (header := _header_of(folder / MANIFEST)) is not None]
    sources.header = headers[0] if len(headers) == 1 else None
    _check_runs(sources)
    return sources


def _header_of(manifest: Path) -> dict[str, Any] | None:
    """The first line of a manifest, whose identity must be one of a store; None if there is no readable manifest."""
    header = read_header(manifest)
    if header is not None and not _is_identity(header.get("identity", {})):
        raise ImportFilesError(
            f"{manifest}: line 1 is damaged: its identity is not that of a store: restore or remove the file"
        )
    return header


def _is_identity(identity: Any) -> bool:
    """Whether the parts of an identity that an import reads have the right types."""
    if not isinstance(identity, dict):
        return False
    texts = (identity.get(name, "") for name in ("axis", "data_digest"))
    parameters = identity.get("parameters", [])
    return (
        all(isinstance(text, str) for text in texts)
        and isinstance(parameters, list)
        and all(map(_is_shape, parameters))
    )


def _is_shape(entry: Any) -> bool:
    match entry:
        case [str(), [*sizes]]:
            return all(isinstance(size, int) and 0 < size < _LARGEST for size in sizes)
    return False


def list_files(paths: Iterable[Path]) -> list[Path]:
    """The files that are given, and those in the folders that are given, in the order of their names."""
    listed: list[Path] = []
    for path in paths:
        listed += sorted(each for each in path.iterdir() if each.is_file()) if path.is_dir() else [path]
    return [path for path in dict.fromkeys(listed) if path.name != MANIFEST and not path.name.startswith(".")]


def _add(path: Path, sources: Sources, series: dict[str, Path], others: dict[Path, OtherTableName]) -> None:
    if name := parse_classic_name(path):
        _add_unique(sources.files[name.kind], (name.run, name.l2), path)
        first, other = series.setdefault(name.series, path), next(iter(series.values()))
        if len(series) > 1:
            raise ImportFilesError(
                f"{first}: belongs to another series than {other}: import the files of each series alone"
            )
    elif table := parse_table_name(path):
        _add_table(path, table, sources)
    elif is_text_table(path) and is_accuracy_table(path):
        others[path] = parse_other_table_name(path)
    else:
        sources.ignored.append(path)


def _add_other_tables(others: dict[Path, OtherTableName], sources: Sources) -> None:
    """Add the tables without a run ID in their names, which follows from the IDs in those of the other files."""
    if not others:
        return
    for path, run in assign_runs(others, sources.runs).items():
        sources.numbers[run] = others[path].number
        _add_table(path, TableName(run, others[path].has_classes), sources)


def _add_table(path: Path, name: TableName, sources: Sources) -> None:
    """Add a table; of two tables of a run, the one with class columns is used."""
    run, has_classes = name
    other = sources.tables.get(run)
    if other is None:
        sources.tables[run] = path
    elif ("_split_" in other.name) == has_classes or run in sources.replaced:
        raise duplicate_error(other, path)
    elif has_classes:
        sources.tables[run], sources.replaced[run] = path, other
    else:
        sources.replaced[run] = path


def _add_unique(files: dict[tuple[int, str], Path], key: tuple[int, str], path: Path) -> None:
    if key in files:
        raise duplicate_error(files[key], path)
    files[key] = path


def duplicate_error(first: Path, second: Path) -> ImportFilesError:
    """The error for two files that have the same run and λ."""
    return ImportFilesError(f"{second}: has the same run and λ as {first}: give only one of them")


def _nothing_to_import(paths: Sequence[Path], sources: Sources) -> str:
    checkpoints = [path for path in sources.ignored if is_checkpoint(path)]
    if checkpoints:
        return (
            f"{checkpoints[0]}: the name does not have the form model_weights-ID-L2.pth: compute everything from "
            "checkpoints with other names with `hesstore analyse`"
        )
    return (
        f"{', '.join(map(str, paths))}: nothing to import: expected files such as Hessian-eigenvalues-0-0.00100.csv "
        "or Model-0_split_accuracy.csv"
    )


def _check_runs(sources: Sources) -> None:
    largest = sources.runs[-1]
    if largest >= MOST_RUNS:
        raise ImportFilesError(
            f"run ID {largest} is above the limit of {MOST_RUNS - 1}: rename the files, because a store has room for "
            "every run from 0 up to the largest ID"
        )
