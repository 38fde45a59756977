"""The files to import, with the run ID and λ of each, which its name gives."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hesstore.config.l2_grid import L2_DECIMALS
from hesstore.errors import ImportFilesError
from hesstore.exporting.manifest import NAME as MANIFEST
from hesstore.exporting.manifest import read_header

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence
    from typing import Any

KINDS = ("accuracy", "eigenvalues", "eigenvectors", "gradients", "weights")
MOST_RUNS = 1000

_PREFIXES = {
    "Hessian-eigenvalues": "eigenvalues",
    "Hessian-eigenvectors": "eigenvectors",
    "gradients": "gradients",
    "model_weights": "weights",
}
_NUMBER = r"\d+(?:\.\d+)?(?:[eE][+-]?\d+)?"
_BY_L2 = re.compile(rf"({'|'.join(_PREFIXES)})-(\d+)-({_NUMBER})\.(?:csv(?:\.gz|\.zst)?|pth|pt|safetensors)")
_ACCURACY = re.compile(r"Model-(\d+)(_split_accuracy)?\.csv(?:\.gz|\.zst)?")
_CHECKPOINTS = (".pth", ".pt", ".safetensors")
_LABELLED = re.compile(rf"(?:l2|lambda|lam|weight_?decay|wd)[-_=]?({_NUMBER})", re.IGNORECASE)
_REAL = re.compile(r"\d+\.\d+(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+")
_WHOLE = re.compile(r"\d+")
_RUN = re.compile(r"(?:seed|run)[-_=]?(\d+)", re.IGNORECASE)


@dataclass
class Sources:
    """The files to import.

    Attributes
    ----------
    style : str
        ``classic`` or ``checkpoints``.
    tables : dict of int to Path
        For each run ID, the file with losses and accuracies at all λ.
    files : dict of str to dict of (int, str) to Path
        The files of each other kind, by run ID and by λ as it is written in the name.
    ignored : list of Path
        Other files in the same folders.
    header : dict, optional
        The first line of the manifest: facts about the store that the files were exported from.
    """

    style: str = "classic"
    tables: dict[int, Path] = field(default_factory=dict)
    files: dict[str, dict[tuple[int, str], Path]] = field(
        default_factory=lambda: {kind: {} for kind in _PREFIXES.values()}
    )
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


def find_sources(
    given: Sequence[str | os.PathLike[str]], *, l2_from_name: bool = False, l2: Sequence[float] | None = None
) -> Sources:
    """Find the files to import in folders and among files.

    Parameters
    ----------
    given : sequence of path
        Folders of CSV and weight files, single files of these kinds, or checkpoints.
    l2_from_name : bool
        Whether the files are checkpoints whose names contain λ.
    l2 : sequence of float, optional
        λ of the checkpoints, in the order in which they are given.

    Raises
    ------
    ImportFilesError
        If there is nothing to import, or if two files have the same kind, run and λ.
    """
    paths = [Path(each).expanduser() for each in given]
    for path in paths:
        if not path.exists():
            raise ImportFilesError(f"{path}: no such file or folder")
    if l2_from_name or l2 is not None:
        return _find_checkpoints(paths, l2)
    sources = Sources()
    for path in _list_files(paths):
        _add(path, sources)
    if not sources.all:
        raise ImportFilesError(_nothing_to_import(paths, sources))
    folders = {path.parent for path in sources.all}
    headers = [header for folder in sorted(folders) if (header := read_header(folder / MANIFEST)) is not None]
    sources.header = headers[0] if len(headers) == 1 else None
    _check_runs(sources)
    return sources


def _list_files(paths: Iterable[Path]) -> list[Path]:
    listed: list[Path] = []
    for path in paths:
        listed += sorted(each for each in path.iterdir() if each.is_file()) if path.is_dir() else [path]
    return [path for path in dict.fromkeys(listed) if path.name != MANIFEST and not path.name.startswith(".")]


def _add(path: Path, sources: Sources) -> None:
    if match := _BY_L2.fullmatch(path.name):
        kind, key = _PREFIXES[match[1]], (int(match[2]), match[3])
        _add_unique(sources.files[kind], key, path)
    elif match := _ACCURACY.fullmatch(path.name):
        _add_table(path, int(match[1]), sources, has_classes=bool(match[2]))
    else:
        sources.ignored.append(path)


def _add_table(path: Path, run: int, sources: Sources, *, has_classes: bool) -> None:
    """Add a table; of two tables of a run, the one with class columns is used: it contains the other."""
    other = sources.tables.get(run)
    if other is None:
        sources.tables[run] = path
    elif ("_split_" in other.name) == has_classes:
        raise duplicate_error(other, path)
    elif has_classes:
        sources.tables[run] = path
        sources.ignored.append(other)
    else:
        sources.ignored.append(path)


def _add_unique(files: dict[tuple[int, str], Path], key: tuple[int, str], path: Path) -> None:
    if key in files:
        raise duplicate_error(files[key], path)
    files[key] = path


def duplicate_error(first: Path, second: Path) -> ImportFilesError:
    """The error for two files that have the same run and λ."""
    return ImportFilesError(f"{second}: has the same run and λ as {first}: give only one of them")


def _nothing_to_import(paths: Sequence[Path], sources: Sources) -> str:
    checkpoints = [path for path in sources.ignored if path.suffix in _CHECKPOINTS]
    if checkpoints:
        return (
            f"{checkpoints[0]}: the name does not have the form model_weights-ID-L2.pth: pass --l2-from-name, "
            "or --l2 A,B,…"
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


# -- checkpoints ------------------------------------------------------------------------------------------


def _find_checkpoints(paths: Sequence[Path], l2: Sequence[float] | None) -> Sources:
    endings = ", ".join(_CHECKPOINTS)
    listed = [path for path in _list_files(paths) if path.suffix in _CHECKPOINTS]
    wrong = [path for path in paths if path.is_file() and path.suffix not in _CHECKPOINTS]
    if wrong:
        raise ImportFilesError(f"{wrong[0]}: not a checkpoint: the name must end in one of {endings}")
    if not listed:
        raise ImportFilesError(f"{', '.join(map(str, paths))}: contains no checkpoints, files that end in {endings}")
    if l2 is not None and len(l2) != len(listed):
        raise ImportFilesError(
            f"l2: {len(l2)} values for {len(listed)} files: give one value per file, in the order of the files"
        )
    sources = Sources("checkpoints")
    for position, path in enumerate(listed):
        text = repr(l2[position]) if l2 is not None else l2_in_name(path)
        run = _RUN.search(path.stem)
        key = (int(run[1]) if run else 0, repr(round(float(text), L2_DECIMALS)))
        _add_unique(sources.files["weights"], key, path)
    _check_runs(sources)
    return sources


def l2_in_name(path: Path) -> str:
    """λ as it is written in the name of a checkpoint.

    It is the number after ``l2``, ``lambda`` or ``wd``; otherwise the last number with a decimal point or an exponent;
    otherwise the last whole number.

    Raises
    ------
    ImportFilesError
        If the name contains no number.
    """
    stem = path.name.removesuffix(path.suffix)
    for pattern in (_LABELLED, _REAL, _WHOLE):
        if found := pattern.findall(stem):
            return str(found[-1])
    raise ImportFilesError(f"{path}: the name has no number that could be λ: rename the file, or pass --l2 A,B,…")
