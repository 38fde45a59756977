"""Whether a store holds what it says: every file, every λ against its digests, and its metadata.

What is found is told as :class:`Problem`, not raised. Deeper than this only a calculation from the data can see:
:mod:`hesstore.deep_check`.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

from hesstore.errors import StoreError
from hesstore.store.consistency import contradictions
from hesstore.store.digest import digest, entries_digest
from hesstore.store.links import refuse_outward_links
from hesstore.store.metadata import Metadata, read_metadata, rebuilt_spec
from hesstore.store.paths import local_path
from hesstore.store.schema import ENTRIES_AT, LARGE_AT, VARIABLES, Run, Status, StoreSpec, Variable
from hesstore.store.writing import coordinates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

CLAIM = re.compile(r"status/\.claim-\d+(\.json)?")
PARTIAL = re.compile(r"\..+\.partial")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes
    ----------
    what : str
        What it is.
    run, index, l2 : int, int, float or None
        The λ that is bad because of it, if it is about one.
    file : str or None
        The file that is damaged, by its path in the store.
    """

    what: str
    run: int | None = None
    index: int | None = None
    l2: float | None = None
    file: str | None = None

    def __str__(self) -> str:
        if self.l2 is not None:
            return f"run {self.run}  λ = {self.l2:.10g}  {self.what}"
        return f"{self.file}: {self.what}" if self.file else self.what


@dataclass
class Report:
    """What :func:`verify` found.

    Attributes
    ----------
    path : Path
        The store.
    problems : list of Problem
        All that is wrong; nothing, if all is well.
    remarks : list of str
        What deserves to be known but is not wrong.
    leftovers : list of Path
        Temporary files that killed writers left, in the store and beside it.
    counts : dict of Status to int
        λ of each status, those of damaged status chunks left out.
    files : int
        Files in the store.
    """

    path: Path
    problems: list[Problem] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    leftovers: list[Path] = field(default_factory=list)
    counts: Counter[Status] = field(default_factory=Counter)
    files: int = 0

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    @property
    def bad(self) -> set[tuple[int, int]]:
        """(run, index of λ) of every λ that can't be trusted."""
        return {
            (problem.run, problem.index)
            for problem in self.problems
            if problem.run is not None and problem.index is not None
        }

    @property
    def damaged_files(self) -> list[str]:
        """Damaged or missing files, by their paths in the store."""
        return list(dict.fromkeys(problem.file for problem in self.problems if problem.file))


def verify(location: str | os.PathLike[str], *, progress: Callable[[int, int], None] | None = None) -> Report:
    """Read all of a store and hold it against its digests, its metadata and itself; changes nothing.

    Parameters
    ----------
    location : path or ``file://`` URL
        The store. A sweep may be at work on it.
    progress : callable, optional
        Called with (λ checked, λ in all).

    Raises
    ------
    StoreError
        If it is not a store, has a newer schema, or a link in it leads outside.
    """
    path = local_path(location)
    if not path.exists():
        raise StoreError(f"{path}: no such store: make one with `hesstore sweep {path}`")
    if not path.is_dir():
        raise StoreError(f"{path}: is a file, not a store")
    refuse_outward_links(path)
    return Verifier(path, read_metadata(path)).run(progress or (lambda *_: None))


class Verifier:
    """The checks of one store, and what they found so far.

    Parameters
    ----------
    path : Path
        Its folder.
    metadata : Metadata
        What its metadata files say.
    lenient : bool
        Take one status a run that is behind its digests for a write that a kill cut off, where there is a sign of one.
    """

    def __init__(self, path: Path, metadata: Metadata, *, lenient: bool = True) -> None:
        self.path, self.metadata, self.lenient = path, metadata, lenient
        self.report = Report(path)
        self._arrays: dict[str, zarr.Array[Any]] = {}
        self._class_rows: dict[tuple[int, int], bytes] = {}

    @cached_property
    def spec(self) -> StoreSpec:
        """What the store was made from; raises :class:`StoreError` if the attributes don't say."""
        spec = rebuilt_spec(self.metadata)
        return spec if self.metadata.is_sealed else replace(spec, runs=self._runs_as_stored(spec))

    def _runs_as_stored(self, spec: StoreSpec) -> tuple[Run, ...]:
        """The runs in the order of their IDs: growing put new ones last, which the first schema did not write down."""
        try:
            seeds, directions = (np.asarray(self.array(name)[:]) for name in ("seed", "direction"))
        except Exception:  # noqa: BLE001 - whatever a decoder makes of damaged bytes
            return spec.runs
        pairs = list(zip(map(int, seeds), map(str, directions), strict=True))
        if sorted(pairs) != sorted((run.seed, run.direction) for run in spec.runs):
            return spec.runs
        return tuple(Run(index, *pair) for index, pair in enumerate(pairs))

    @cached_property
    def group(self) -> zarr.Group:
        """The store, through the metadata that can be trusted."""
        return zarr.open_group(
            zarr.storage.LocalStore(self.path, read_only=True),
            mode="r",
            zarr_format=3,
            use_consolidated=self.metadata.consolidated,
        )

    def array(self, name: str) -> zarr.Array[Any]:
        """One array of the store."""
        if name not in self._arrays:
            array = self.group[name]
            if not isinstance(array, zarr.Array):
                raise StoreError(f"{self.path}: {name} is not an array")
            self._arrays[name] = array
        return self._arrays[name]

    def run(self, progress: Callable[[int, int], None]) -> Report:
        """Do all checks."""
        report = self.report
        files = set(self._files())
        for file, what in self.metadata.damage.items():
            report.problems.append(Problem(what, file=file))
        if self._understood():
            report.remarks += [f"{name}: not a file of a store" for name in sorted(files - self._known(files))]
            for name in self.damaged_coordinates():
                report.problems.append(Problem("values are damaged, missing or not the config's", file=f"{name}/c/0"))
            spec = self.spec
            done, total = 0, len(spec.runs) * len(spec.l2)
            for run in spec.runs:
                for _ in self._check_run(run):
                    done += 1
                    progress(done, total)
            self._compare_class_rows()
        else:
            report.problems.append(Problem("the λ were not checked: metadata can't be trusted, restore them first"))
        report.leftovers += [file for file in _templates(self.path) if file.exists()]
        report.leftovers = [file for file in report.leftovers if file.exists()]  # a live writer's are gone by now
        if self.metadata.attributes and not self.metadata.is_sealed:
            report.remarks.append(
                "made by an older hesstore, without seals: of small entries and attributes only contradictions show"
            )
        return report

    def _files(self) -> Iterator[str]:
        """Every file, by its path in the store."""
        for folder, _, files in os.walk(self.path):
            for name in files:
                file = Path(folder, name)
                self.report.files += 1
                if PARTIAL.fullmatch(name):
                    self.report.leftovers.append(file)
                else:
                    yield file.relative_to(self.path).as_posix()

    def _known(self, files: set[str]) -> set[str]:
        known = {"zarr.json", *(f"{name}/zarr.json" for name in self.metadata.documents)}
        known |= {name for name in files if CLAIM.fullmatch(name)}
        spec = self.spec
        for variable in self._variables():
            for run in spec.runs:
                indices = range(len(spec.l2)) if variable.is_large else (0,)
                known |= {chunk_file(variable, run.id, index) for index in indices}
        return known | {f"{name}/c/0" for name in coordinates(spec)}

    def _understood(self) -> bool:
        """Whether the metadata say enough to go on, and what the schema wants."""
        if not self.metadata.documents:
            return False
        try:
            spec = self.spec
        except StoreError as error:
            self.report.problems.append(Problem(str(error), file="zarr.json"))
            return False
        fitting = True
        for variable in self._variables():
            wrong = self._unlike_schema(variable, spec)
            if wrong:
                self.report.problems.append(Problem(wrong, file=f"{variable.name}/zarr.json"))
                fitting = False
        return fitting

    def _variables(self) -> list[Variable]:
        late = set() if self.metadata.is_sealed else {"entries_digest"}
        return [variable for variable in VARIABLES if variable.name not in late]

    def _unlike_schema(self, variable: Variable, spec: StoreSpec) -> str:
        try:
            array = self.array(variable.name)
        except Exception as error:  # noqa: BLE001 - whatever zarr makes of metadata that are not its own
            return f"can't be understood ({' '.join(str(error).split())})"
        wanted: dict[str, object] = {
            "shape": tuple(spec.sizes[dim] for dim in variable.dims),
            "chunks": variable.chunks(spec.sizes),
            "shards": variable.shards(spec.sizes),
            "dimension_names": variable.dims,
            "fill_value": str(np.asarray(variable.fill).astype(array.dtype)),
        }
        there: dict[str, object] = {
            "shape": array.shape,
            "chunks": array.chunks,
            "shards": array.shards,
            "dimension_names": array.metadata.dimension_names,  # type: ignore[union-attr]
            "fill_value": str(array.fill_value),
        }
        if variable.dtype != "string":
            wanted["dtype"], there["dtype"] = np.dtype(variable.dtype), array.dtype
        wrong = [key for key, value in wanted.items() if there[key] != value]
        return "; ".join(f"{key} is {there[key]}, the schema's {wanted[key]}" for key in wrong)

    def damaged_coordinates(self) -> list[str]:
        """The coordinates whose values are not those that the config gives."""
        damaged = []
        for name, (_, values) in coordinates(self.spec).items():
            try:
                there = np.asarray(self.array(name)[:])
            except Exception:  # noqa: BLE001 - whatever a decoder makes of damaged bytes
                damaged.append(name)
                continue
            if there.shape != values.shape or not (there == values).all():
                damaged.append(name)
        return damaged

    def _check_run(self, run: Run) -> Iterator[None]:
        """Check a run, one λ a step."""
        # In this order, so that a sweep that goes on meanwhile is never caught with a status that promises too much.
        names = ["status", "digest", "entries_digest"]
        names += [variable.name for variable in VARIABLES if not variable.is_large and variable.name not in names]
        kept = {variable.name for variable in self._variables()}
        entries = {name: self._read_row(name, run) for name in names if name in kept}
        behind: list[Problem] = []
        for index in range(len(self.spec.l2)):
            checked = _Strength(self, run, index, entries)
            self.report.problems += checked.problems()
            behind += checked.behind
            if checked.class_rows is not None:
                self._class_rows[run.id, index] = checked.class_rows
            yield
        if self.lenient and len(behind) == 1 and (self.path / "status" / f".claim-{run.id}.json").exists():
            # Left by a killed driver, or held by a live one: the write of the status may just not have come about.
            self.report.remarks.append(
                f"{behind[0]}: its sweep was killed, or is at work; the next one goes on from it"
            )
        else:
            self.report.problems += behind

    def _read_row(self, name: str, run: Run) -> NDArray[Any] | None:
        """(L, …) a small variable of a run; None, and a problem, if its chunk is damaged."""
        try:
            return np.asarray(self.array(name)[run.id])
        except Exception as error:  # noqa: BLE001 - whatever a decoder makes of damaged bytes
            file = chunk_file(next(variable for variable in VARIABLES if variable.name == name), run.id, 0)
            self.report.problems.append(Problem(damage(self.path / file, error), file=file))
            return None

    def _compare_class_rows(self) -> None:
        """All λ were measured on the same data, so each class has as many rows at all of them."""
        if not self._class_rows:
            return
        (usual, _), *_ = Counter(self._class_rows.values()).most_common(1)
        for (run, index), rows in self._class_rows.items():
            if rows != usual:
                what = "confusion: counts other rows in a class than the other λ do"
                self.report.problems.append(Problem(what, run, index, self.spec.l2[index]))


class _Strength:
    """The checks of one λ of one run.

    Attributes
    ----------
    behind : list of Problem
        Filled by :meth:`problems`: that the status is behind the digests, which a kill explains, once a run.
    class_rows : bytes or None
        The rows of each class, if its confusion counts are promised and there.
    """

    def __init__(self, verifier: Verifier, run: Run, index: int, entries: dict[str, NDArray[Any] | None]) -> None:
        self.verifier, self.place, self.index = verifier, run, index
        self.l2 = verifier.spec.l2[index]
        self.rows = entries
        self.entries = {name: row[index] for name, row in entries.items() if row is not None}
        self.arrays: dict[str, NDArray[Any]] = {}
        self.found: list[Problem] = []
        self.behind: list[Problem] = []
        self.class_rows: bytes | None = None

    def _say(self, what: str, file: str | None = None) -> None:
        self.found.append(self._problem(what, file))

    def _problem(self, what: str, file: str | None = None) -> Problem:
        return Problem(what, self.place.id, self.index, self.l2, file)

    def problems(self) -> list[Problem]:
        """All that is wrong with this λ."""
        status = self._status()
        promised = LARGE_AT.get(status, ()) if status is not None else ()
        for variable in VARIABLES:
            if variable.is_large:
                self._read_large(variable, promised=variable.name in promised)
        if status is None:
            self._say("status: its chunk is damaged")
            return self.found
        self.verifier.report.counts[status] += 1
        if status == Status.PENDING:
            if self.entries.get("digest") or self.entries.get("entries_digest"):
                self._is_behind(status)
            return self.found
        self._check_digest(status)
        self._check_entries(status)
        if status != Status.FAILED and not self.found:
            self._check_values(status)
        return self.found

    def _status(self) -> Status | None:
        number = self.entries.get("status")
        if number is None:
            return None
        try:
            return Status(int(number))
        except ValueError:
            self._say(f"status: {number} is none of {', '.join(str(int(status)) for status in Status)}")
            return None

    def _read_large(self, variable: Variable, *, promised: bool) -> None:
        name = variable.name
        file = chunk_file(variable, self.place.id, self.index)
        where = self.verifier.path / file
        try:
            size = where.stat().st_size
        except FileNotFoundError:
            if promised:
                self._say(f"{name}: the file {file} is missing", file)
            return
        if not size:
            self._say(f"{name}: the file {file} is empty", file)
            return
        try:
            self.arrays[name] = np.asarray(self.verifier.array(name)[self.place.id, self.index])
        except Exception as error:  # noqa: BLE001 - whatever a decoder makes of damaged bytes
            self._say(f"{name}: the file {file} {damage(where, error)}", file)

    def _check_digest(self, status: Status) -> None:
        promised = LARGE_AT.get(status, ())
        if not promised or any(name not in self.arrays for name in promised):
            return  # nothing to hold it against, or said already
        if "digest" not in self.entries:
            self._say("digest: its chunk is damaged")
        elif not self._digest_is_of(status):
            if any(self._digest_is_of(later) for later in _after(status)):
                self._is_behind(status)
            elif any(self._digest_is_of(earlier) for earlier in LARGE_AT if earlier < status):
                self._say(f"status: {status.name.lower()} promises more than its digest covers")
            else:
                self._say(f"digest: is not that of {', '.join(promised)}: stale, or swapped with those of another λ")

    def _digest_is_of(self, status: Status) -> bool:
        promised = LARGE_AT.get(status, ())
        if not promised or any(name not in self.arrays for name in promised):
            return False
        arrays = {name: self.arrays[name] for name in promised}
        return int(self.entries["digest"]) == digest(self.place, self.l2, arrays)

    def _check_entries(self, status: Status) -> None:
        damaged = [name for name in ENTRIES_AT[status] if name not in self.entries]
        for name in damaged:
            self._say(f"{name}: the chunk of its run is damaged")
        if damaged or "entries_digest" not in self.rows:
            return
        if "entries_digest" not in self.entries:
            self._say("entries_digest: its chunk is damaged")
        elif not self._sealed_as(status):
            if any(self._sealed_as(later) for later in _after(status)):
                if not self.behind:
                    self._is_behind(status)
            else:
                self._say(
                    f"entries_digest: is not that of a {status.name.lower()} λ with these entries: "
                    "some are missing, stale or swapped"
                )

    def _sealed_as(self, status: Status) -> bool:
        promised = ENTRIES_AT.get(status, ())
        if any(name not in self.entries for name in promised):
            return False
        entries = {name: self.entries[name] for name in promised}
        return int(self.entries["entries_digest"]) == entries_digest(self.place, self.l2, status, entries)

    def _is_behind(self, status: Status) -> None:
        self.behind = [self._problem(f"status: {status.name.lower()} is behind its digests: stale, or lost")]

    def _check_values(self, status: Status) -> None:
        spec = self.verifier.spec
        for what in contradictions(status, {**self.arrays, **self.entries}, self.l2, spec.identity, spec.attrs):
            self._say(what)
        self.class_rows = np.asarray(self.entries["confusion"]).sum(axis=-1).tobytes()


def chunk_file(variable: Variable, run: int, index: int) -> str:
    """The file that holds a variable at one λ, by its path in the store."""
    place = [run, index if variable.is_large else 0] + [0] * (len(variable.dims) - 2)
    return "/".join([variable.name, "c", *map(str, place)])


def damage(file: Path, error: Exception) -> str:
    """What is wrong with a chunk file that can't be decoded."""
    try:
        if not file.stat().st_size:
            return "is empty"
    except OSError:
        pass
    return f"is damaged ({' '.join(str(error).split()) or type(error).__name__})"


def _after(status: Status) -> list[Status]:
    return [later for later in Status if later > status]


def _templates(path: Path) -> list[Path]:
    """What making or growing this store left beside it: unfinished templates, and stores that were replaced."""
    whole = path.absolute()
    pattern = re.compile(rf"\.{re.escape(whole.name)}\.[a-z0-9_]{{8}}\.(partial|old)")
    return sorted(entry for entry in whole.parent.iterdir() if pattern.fullmatch(entry.name) and entry.is_dir())
