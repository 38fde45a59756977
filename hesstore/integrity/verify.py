"""Whether a store holds what it says: every file, every λ against its digests, and its metadata.

What is found is told as :class:`Problem`, not raised. Deeper than this only a calculation from the data can see:
:mod:`hesstore.integrity.recheck`.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

from hesstore.errors import StoreError
from hesstore.integrity.findings import Problem, Report
from hesstore.integrity.point_check import PointCheck
from hesstore.store.chunk_files import chunk_file, damage
from hesstore.store.environments import is_record, is_sound
from hesstore.store.metadata import Metadata, read_metadata, rebuild_spec
from hesstore.store.places.folder import leftover_folders
from hesstore.store.places.links import refuse_outward_links
from hesstore.store.places.location import local_path
from hesstore.store.places.zip_file import LEFT_OUT
from hesstore.store.schema import VARIABLES, Run, StoreSpec, Variable, coordinates_of, variables_of
from hesstore.store.template import coordinates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

CLAIM = re.compile(r"status/\.claim-\d+(\.json)?")
PARTIAL = re.compile(r"\..+\.partial")


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
        spec = rebuild_spec(self.metadata)
        return spec if self.metadata.is_sealed else replace(spec, runs=self._runs_as_stored(spec))

    @cached_property
    def left_out(self) -> frozenset[str]:
        """The arrays that were left out when the store was packed without vectors; digests cover them too."""
        return frozenset(str(self.metadata.attributes.get(LEFT_OUT, "")).split())

    def variables(self) -> tuple[Variable, ...]:
        """The variables that the store has."""
        return tuple(each for each in variables_of(self.metadata.version) if each.name not in self.left_out)

    def _labels(self) -> tuple[str, ...]:
        return tuple(name for name in coordinates_of(self.metadata.version) if name not in self.left_out)

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
            report.problems.append(Problem(what, file=file, repairable=self.metadata.is_mendable))
        for name in sorted(filter(is_record, files)):
            if not is_sound(name, (self.path / name).read_bytes()):
                what = "is not the record that its name says: remove it"
                report.problems.append(Problem(what, file=name, repairable=False))
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
            what = "the λ were not checked: metadata can't be trusted, restore them first"
            report.problems.append(Problem(what, repairable=False))
        report.leftovers += [*leftover_folders(self.path, "partial"), *leftover_folders(self.path, "old")]
        report.leftovers = [file for file in report.leftovers if file.exists()]  # a live writer's are gone by now
        if self.metadata.attributes and not self.metadata.is_sealed:
            report.remarks.append(
                "made by an older hesstore, without seals: of small entries and attributes only contradictions show"
            )
        if self.left_out:
            report.remarks.append(
                f"packed without {', '.join(sorted(self.left_out))}: the digests that cover them could not be checked"
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
        known |= {name for name in files if CLAIM.fullmatch(name) or is_record(name)}
        spec = self.spec
        for variable in self.variables():
            for run in spec.runs:
                indices = range(len(spec.l2)) if variable.is_large else (0,)
                known |= {chunk_file(variable, run.id, index) for index in indices}
        return known | {f"{name}/c/0" for name in self._labels()}

    def _understood(self) -> bool:
        """Whether the metadata say enough to go on, and what the schema wants."""
        if not self.metadata.documents:
            return False
        try:
            spec = self.spec
        except StoreError as error:
            self.report.problems.append(Problem(str(error), file="zarr.json", repairable=False))
            return False
        fitting = True
        for variable in self.variables():
            wrong = self._unlike_schema(variable, spec)
            if wrong:
                file = f"{variable.name}/zarr.json"
                self.report.problems.append(Problem(wrong, file=file, repairable=False))
                fitting = False
        return fitting

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
        known = coordinates(self.spec)
        for name in self._labels():
            values = known[name][1]
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
        small = [variable.name for variable in self.variables() if not variable.is_large]
        names = [*(name for name in names if name in small), *(name for name in small if name not in names)]
        entries = {name: self._read_row(name, run) for name in names}
        behind: list[Problem] = []
        for index in range(len(self.spec.l2)):
            checked = PointCheck(self, run, index, entries)
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
