"""Verification: whether a store has all files, whether its values match their digests, and whether it is consistent.

What is wrong is returned as a list of :class:`Problem`, not raised. Only computing results again from the data can find
more: see :mod:`hesstore.integrity.recheck`.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

from hesstore.custom_code import calls_back
from hesstore.durable_files import leftover_folders
from hesstore.errors import StoreError
from hesstore.integrity.findings import Findings, Problem
from hesstore.integrity.point_check import CheckedStore, PointCheck
from hesstore.store.checking import TOGETHER
from hesstore.store.chunk_files import blocks, chunk_file, chunk_files, damage
from hesstore.store.digest import reference_digest
from hesstore.store.environments import is_record, is_sound
from hesstore.store.identity import identity_of
from hesstore.store.metadata import Metadata, read_metadata, rebuild_spec
from hesstore.store.places.links import refuse_outward_links
from hesstore.store.places.location import local_path
from hesstore.store.places.zip_file import LEFT_OUT
from hesstore.store.schema import BY_NAME, REFERENCES, Point, Run, StoreSpec, coordinate_names, grid_axis
from hesstore.store.template import coordinates
from hesstore.store.writing import PROMISES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from hesstore.store.variable import Variable

CLAIM = re.compile(r"status/\.claim-\d+(\.json)?")
PARTIAL = re.compile(r"\..+\.partial")


@calls_back("progress")
def verify(location: str | os.PathLike[str], *, progress: Callable[[int, int], None] | None = None) -> Findings:
    """Read a whole store and compare it with its digests, its metadata and itself. Nothing is changed.

    Parameters
    ----------
    location : path or ``file://`` URL
        The store, which a sweep may be writing meanwhile.
    progress : callable, optional
        Called with (grid points checked, grid points in total).

    Raises
    ------
    StoreError
        If it is not a store, has another schema, or has a link that leads outside.
    """
    path = local_path(location)
    if not path.exists():
        raise StoreError(f"{path}: no such store: make one with `hesstore sweep {path}`")
    if not path.is_dir():
        raise StoreError(f"{path}: is a file, not a store")
    refuse_outward_links(path)
    return Verifier(path, read_metadata(path)).run(progress or (lambda *_: None))


class Verifier:
    """The checks of one store.

    Parameters
    ----------
    path : Path
        Its folder.
    metadata : Metadata
        Its metadata.
    lenient : bool
        Whether some statuses per run, those of one write, may be behind their digests where a driver was killed or is
        at work.
    """

    def __init__(self, path: Path, metadata: Metadata, *, lenient: bool = True) -> None:
        self.path, self.metadata, self.lenient = path, metadata, lenient
        self.findings = Findings(path)
        self._arrays: dict[str, zarr.Array[Any]] = {}
        self._class_rows: dict[tuple[int, int], bytes] = {}

    @cached_property
    def store(self) -> CheckedStore:
        """The store as its grid points are checked; raises :class:`StoreError` if its attributes contradict."""
        left_out = frozenset(str(self.metadata.attributes.get(LEFT_OUT, "")).split())
        spec = rebuild_spec(self.metadata)
        has_center = bool(spec.identity.get("center")) and "center" not in left_out
        return CheckedStore(self.path, spec, left_out, self.array, self._reference("center") if has_center else None)

    def _reference(self, name: str) -> NDArray[np.float32] | None:
        """Return one of the references; None if it is damaged."""
        try:
            weights: NDArray[np.float32] = np.asarray(self.array(name)[:])
        except Exception:  # noqa: BLE001 - decoders raise anything for damaged bytes
            return None
        return weights if reference_digest(weights) == identity_of(self.metadata.attributes)[name] else None

    @property
    def spec(self) -> StoreSpec:
        """The description from which the store was made."""
        return self.store.spec

    @cached_property
    def group(self) -> zarr.Group:
        """The root group, according to the copy of the metadata that matches the seal."""
        return zarr.open_group(
            zarr.storage.LocalStore(self.path, read_only=True),
            mode="r",
            zarr_format=3,
            use_consolidated=self.metadata.consolidated,
        )

    def array(self, name: str) -> zarr.Array[Any]:
        """Return an array of the store."""
        if name not in self._arrays:
            array = self.group[name]
            if not isinstance(array, zarr.Array):
                raise StoreError(f"{self.path}: {name} is not an array")
            self._arrays[name] = array
        return self._arrays[name]

    def run(self, progress: Callable[[int, int], None]) -> Findings:
        """Do all checks."""
        findings = self.findings
        files = set(self._files())
        self._check_metadata(files)
        if self._is_understood():
            findings.remarks += [f"{name}: not a file of a store" for name in sorted(files - self._known(files))]
            for name in self.damaged_coordinates():
                what = "values are damaged, missing, or not those of the config"
                findings.problems.append(Problem(what, file=f"{name}/c/0"))
            for name in self._references():
                if self._reference(name) is None:
                    what = "values are damaged or missing, or not those of the digest in the identity"
                    findings.problems.append(Problem(what, file=f"{name}/c/0", repairable=False))
            done, total = 0, len(self.spec.runs) * len(self.spec.grid)
            for run in self.spec.runs:
                for _ in self._check_run(run):
                    done += 1
                    progress(done, total)
            self._compare_class_rows()
            if self.store.left_out:
                names = ", ".join(sorted(self.store.left_out))
                findings.remarks.append(f"packed without {names}: the digests that cover them could not be checked")
        else:
            what = "the grid points were not checked, because the metadata are damaged: restore them from a copy first"
            findings.problems.append(Problem(what, repairable=False))
        findings.leftovers += [*leftover_folders(self.path, "partial"), *leftover_folders(self.path, "old")]
        findings.leftovers = [file for file in findings.leftovers if file.exists()]  # a live writer's are gone
        return findings

    def _files(self) -> Iterator[str]:
        """Yield the path of every file within the store."""
        for folder, _, files in os.walk(self.path):
            for name in files:
                file = Path(folder, name)
                self.findings.files += 1
                if PARTIAL.fullmatch(name):
                    self.findings.leftovers.append(file)
                else:
                    yield file.relative_to(self.path).as_posix()

    def _check_metadata(self, files: set[str]) -> None:
        for file, what in self.metadata.damage.items():
            self.findings.problems.append(Problem(what, file=file, repairable=self.metadata.is_mendable))
        for name in sorted(filter(is_record, files)):
            if not is_sound(name, (self.path / name).read_bytes()):
                what = "does not have the digest in its name: remove it"
                self.findings.problems.append(Problem(what, file=name, repairable=False))

    def _known(self, files: set[str]) -> set[str]:
        known = {"zarr.json", *(f"{name}/zarr.json" for name in self.metadata.documents)}
        known |= {name for name in files if CLAIM.fullmatch(name) or is_record(name)}
        for variable in self.store.variables:
            for run in self.spec.runs:
                known |= {*chunk_files(variable, run.id, len(self.spec.grid))}
        return known | {f"{name}/c/0" for name in self._labels()}

    def _labels(self) -> list[str]:
        return [name for name in coordinate_names(self.spec.identity) if name not in self.store.left_out]

    def _references(self) -> list[str]:
        return [name for name in self._labels() if name in REFERENCES]

    def _is_understood(self) -> bool:
        """Whether the metadata are complete and fit the schema; what does not is reported."""
        if not self.metadata.documents:
            return False
        try:
            variables = self.store.variables
        except StoreError as error:
            self.findings.problems.append(Problem(str(error), file="zarr.json", repairable=False))
            return False
        wrong = {variable.name: self._unlike_schema(variable) for variable in variables}
        for name, what in wrong.items():
            if what:
                self.findings.problems.append(Problem(what, file=f"{name}/zarr.json", repairable=False))
        return not any(wrong.values())

    def _unlike_schema(self, variable: Variable) -> str:
        try:
            array = self.array(variable.name)
        except Exception as error:  # noqa: BLE001 - zarr raises anything for metadata that are not its own
            return f"cannot be understood ({' '.join(str(error).split())})"
        sizes = self.spec.sizes
        wanted: dict[str, object] = {
            "shape": tuple(sizes[dim] for dim in variable.dims),
            "chunks": variable.chunks(sizes),
            "shards": variable.shards(sizes),
            "dimension_names": variable.dims,
            "fill_value": str(np.asarray(variable.fill).astype(array.dtype)),
        }
        found: dict[str, object] = {
            "shape": array.shape,
            "chunks": array.chunks,
            "shards": array.shards,
            "dimension_names": array.metadata.dimension_names,  # type: ignore[union-attr]
            "fill_value": str(array.fill_value),
        }
        if variable.dtype != "string":
            wanted["dtype"], found["dtype"] = np.dtype(variable.dtype), array.dtype
        wrong = [key for key, value in wanted.items() if found[key] != value]
        return "; ".join(f"{key} is {found[key]}, but {wanted[key]} in the schema" for key in wrong)

    def damaged_coordinates(self) -> list[str]:
        """Return the names of the coordinates whose values are not those of the config."""
        damaged = []
        known = coordinates(self.spec)
        for name in (name for name in self._labels() if name not in REFERENCES):
            values = known[name][1]
            try:
                found = np.asarray(self.array(name)[:])
            except Exception:  # noqa: BLE001 - decoders raise anything for damaged bytes
                damaged.append(name)
                continue
            if found.shape != values.shape or not (found == values).all():
                damaged.append(name)
        return damaged

    def _check_run(self, run: Run) -> Iterator[None]:
        """Check a run, one grid point per step."""
        # In this order a status never promises more than is read, even if a sweep is writing the store meanwhile.
        small = [variable.name for variable in self.store.variables if not variable.is_large]
        names = dict.fromkeys([*PROMISES, *small])
        outdated: list[Problem] = []
        for block in blocks(len(self.spec.grid)):
            read = {name: self._read_block(name, run, block) for name in names}
            rows = {name: values for name, values in read.items() if values is not None}
            for offset, index in enumerate(range(block.start, block.stop)):
                at = {name: values[offset] for name, values in rows.items()}
                check = PointCheck(self.store, self._point(run, index), at)
                check.run()
                self._take(check)
                if check.outdated_status is not None:
                    outdated.append(check.outdated_status)
                yield
        has_claim = (self.path / "status" / f".claim-{run.id}.json").exists()
        if self.lenient and len(outdated) <= TOGETHER and has_claim:
            # A killed driver left the claim, or a live one holds it: only the last write of statuses is missing.
            self.findings.remarks += [
                f"{each}: its sweep was killed or is running; the next sweep continues from it" for each in outdated
            ]
        else:
            self.findings.problems += outdated

    def _point(self, run: Run, index: int) -> Point:
        return Point(run, index, self.spec.grid[index], grid_axis(self.spec.identity))

    def _take(self, check: PointCheck) -> None:
        self.findings.problems += check.problems
        if check.status is not None:
            self.findings.counts[check.status] += 1
        if check.class_rows is not None:
            self._class_rows[check.point.run.id, check.point.index] = check.class_rows

    def _read_block(self, name: str, run: Run, block: slice) -> NDArray[Any] | None:
        """Return a chunk of a small variable; None, after reporting it, if it is damaged."""
        try:
            return np.asarray(self.array(name)[run.id, block])
        except Exception as error:  # noqa: BLE001 - decoders raise anything for damaged bytes
            file = chunk_file(BY_NAME[name], run.id, block.start)
            self.findings.problems.append(Problem(damage(self.path / file, error), file=file))
            return None

    def _compare_class_rows(self) -> None:
        """Check that all grid points have the same number of rows of each class, since the data are the same."""
        if not self._class_rows:
            return
        (usual, _), *_ = Counter(self._class_rows.values()).most_common(1)
        for (run, index), rows in self._class_rows.items():
            if rows != usual:
                what = "confusion: the numbers of rows of the classes differ from those of other grid points"
                self.findings.problems.append(Problem.at(self._point(self.spec.runs[run], index), what))
