"""Which files there are to import, and which run and λ each is of: by its name."""

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
_BY_L2 = re.compile(
    rf"({'|'.join(_PREFIXES)})-(\d+)-(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)\.(?:csv(?:\.gz|\.zst)?|pth|pt|safetensors)"
)
_ACCURACY = re.compile(r"Model-(\d+)(_split_accuracy)?\.csv(?:\.gz|\.zst)?")
_CHECKPOINTS = (".pth", ".pt", ".safetensors")
_NUMBER = r"\d+(?:\.\d+)?(?:[eE][+-]?\d+)?"
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
        For each run ID the file with accuracies at all λ.
    files : dict of str to dict of (int, str) to Path
        For each other kind, by run ID and λ as the name has it.
    ignored : list of Path
        What lies beside them.
    header : dict, optional
        What a manifest says of the store that they were exported from.
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
        """Every file."""
        return [*self.tables.values(), *(path for paths in self.files.values() for path in paths.values())]

    @property
    def runs(self) -> list[int]:
        """IDs of the runs, ascending."""
        return sorted({*self.tables, *(run for paths in self.files.values() for run, _ in paths)})

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(path.stat().st_size for path in self.all)

    def digest(self) -> str:
        """What changes when a file is added, removed, renamed or gets another size."""
        facts = sorted((path.name, path.stat().st_size) for path in self.all)
        return hashlib.blake2b(repr(facts).encode(), digest_size=16).hexdigest()


def find(
    given: Sequence[str | os.PathLike[str]], *, l2_from_name: bool = False, l2: Sequence[float] | None = None
) -> Sources:
    """Look through folders and files.

    Parameters
    ----------
    given : sequence of path
        Folders of classic files, such files, or checkpoints.
    l2_from_name : bool
        Whether files are checkpoints with λ somewhere in their names.
    l2 : sequence of float, optional
        λ of the checkpoints, in the order in which they were given.

    Raises
    ------
    ImportFilesError
        If there is nothing to import, or two files are of the same run and λ.
    """
    paths = [Path(each).expanduser() for each in given]
    for path in paths:
        if not path.exists():
            raise ImportFilesError(f"{path}: no such file or folder")
    if l2_from_name or l2 is not None:
        return _checkpoints(paths, l2)
    sources = Sources()
    for path in _listed(paths):
        _place(path, sources)
    if not sources.all:
        raise ImportFilesError(_nothing(paths, sources))
    folders = {path.parent for path in sources.all}
    headers = [header for folder in sorted(folders) if (header := read_header(folder / MANIFEST)) is not None]
    sources.header = headers[0] if len(headers) == 1 else None
    _check_runs(sources)
    return sources


def _listed(paths: Iterable[Path]) -> list[Path]:
    listed: list[Path] = []
    for path in paths:
        listed += sorted(each for each in path.iterdir() if each.is_file()) if path.is_dir() else [path]
    return [path for path in dict.fromkeys(listed) if path.name != MANIFEST and not path.name.startswith(".")]


def _place(path: Path, sources: Sources) -> None:
    if match := _BY_L2.fullmatch(path.name):
        kind, key = _PREFIXES[match[1]], (int(match[2]), match[3])
        _put(sources.files[kind], key, path)
    elif match := _ACCURACY.fullmatch(path.name):
        _place_table(path, int(match[1]), sources, has_classes=bool(match[2]))
    else:
        sources.ignored.append(path)


def _place_table(path: Path, run: int, sources: Sources, *, has_classes: bool) -> None:
    other = sources.tables.get(run)
    if other is None:
        sources.tables[run] = path
    elif ("_split_" in other.name) == has_classes:
        raise same_strength(other, path)
    elif has_classes:  # it has all that the other has
        sources.tables[run] = path
        sources.ignored.append(other)
    else:
        sources.ignored.append(path)


def _put(files: dict[tuple[int, str], Path], key: tuple[int, str], path: Path) -> None:
    if key in files:
        raise same_strength(files[key], path)
    files[key] = path


def same_strength(first: Path, second: Path) -> ImportFilesError:
    """The error that two files are of one run and λ."""
    return ImportFilesError(f"{second}: is of the same run and λ as {first}: give one of them")


def _nothing(paths: Sequence[Path], sources: Sources) -> str:
    checkpoints = [path for path in sources.ignored if path.suffix in _CHECKPOINTS]
    where = ", ".join(map(str, paths))
    if checkpoints:
        return f"{checkpoints[0]}: its name is not model_weights-ID-L2.pth: pass --l2-from-name, or --l2 A,B,…"
    return f"{where}: nothing to import: no files such as Hessian-eigenvalues-0-0.00100.csv, Model-0_split_accuracy.csv"


def _check_runs(sources: Sources) -> None:
    largest = sources.runs[-1]
    if largest >= MOST_RUNS:
        raise ImportFilesError(
            f"run ID {largest} is above {MOST_RUNS - 1}: a store has a place for each run from 0 on: rename the files"
        )


# -- checkpoints ------------------------------------------------------------------------------------------


def _checkpoints(paths: Sequence[Path], l2: Sequence[float] | None) -> Sources:
    listed = [path for path in _listed(paths) if path.suffix in _CHECKPOINTS]
    wrong = [path for path in paths if path.is_file() and path.suffix not in _CHECKPOINTS]
    if wrong:
        raise ImportFilesError(f"{wrong[0]}: is not a checkpoint: its name ends in none of {', '.join(_CHECKPOINTS)}")
    if not listed:
        raise ImportFilesError(f"{', '.join(map(str, paths))}: has no {', '.join(_CHECKPOINTS)} files")
    if l2 is not None and len(l2) != len(listed):
        raise ImportFilesError(f"l2: has {len(l2)} values for {len(listed)} files: give one for each, in their order")
    sources = Sources("checkpoints")
    for position, path in enumerate(listed):
        text = repr(l2[position]) if l2 is not None else l2_in(path)
        run = _RUN.search(path.stem)
        _put(sources.files["weights"], (int(run[1]) if run else 0, repr(round(float(text), L2_DECIMALS))), path)
    _check_runs(sources)
    return sources


def l2_in(path: Path) -> str:
    """λ in a checkpoint's name.

    It is the number after ``l2``, ``lambda`` or ``wd``; else the last with a decimal point or exponent; else the last
    whole number.

    Raises
    ------
    ImportFilesError
        If the name has no number.
    """
    stem = path.name.removesuffix(path.suffix)
    for pattern in (_LABELLED, _REAL, _WHOLE):
        if found := pattern.findall(stem):
            return str(found[-1])
    raise ImportFilesError(f"{path}: its name has no number that could be λ: rename it, or pass --l2 A,B,…")
