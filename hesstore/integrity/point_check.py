"""The checks of one grid point: its status, its files, its digests, and its values against each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from hesstore.integrity.findings import Problem
from hesstore.integrity.value_rules import contradictions
from hesstore.store.chunk_files import chunk_file, damage
from hesstore.store.digest import digest, entries_digest
from hesstore.store.import_origin import origin_of
from hesstore.store.schema import Point, Status, l2_at, promised_large, promised_small

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    import zarr
    from numpy.typing import NDArray

    from hesstore.store.import_origin import Origin
    from hesstore.store.schema import StoreSpec
    from hesstore.store.variable import Variable


@dataclass(frozen=True)
class CheckedStore:
    """The store whose grid points are checked.

    Attributes
    ----------
    path : Path
        Its folder.
    spec : StoreSpec
        The description from which it was made.
    left_out : frozenset of str
        The names of the variables that were left out when it was packed.
    array : callable
        Returns the array of a name.
    center : array, optional
        (P,) the centre of the penalty, if the store has one.
    """

    path: Path
    spec: StoreSpec
    left_out: frozenset[str]
    array: Callable[[str], zarr.Array[Any]]
    center: NDArray[np.float32] | None = None

    @cached_property
    def origin(self) -> Origin:
        """The files from which the store was imported, if it was."""
        return origin_of(self.spec.attrs)

    @property
    def variables(self) -> tuple[Variable, ...]:
        """The variables that are in the store."""
        return tuple(variable for variable in self.spec.variables if variable.name not in self.left_out)


@dataclass
class PointCheck:
    """The check of one grid point. :meth:`run` fills all attributes from ``problems`` on.

    Attributes
    ----------
    store : CheckedStore
        The store.
    point : Point
        The grid point.
    small : mapping of str to array
        The small variables at the grid point, without those whose chunk is damaged.
    problems : list of Problem
        Everything that is wrong, except a status that is out of date.
    status : Status or None
        The status of the grid point; None if it is damaged.
    outdated_status : Problem or None
        That the digests are those of a later status. A killed process can leave one such grid point per run.
    class_rows : bytes or None
        The number of rows of each class, if the confusion counts are promised and consistent.
    """

    store: CheckedStore
    point: Point
    small: Mapping[str, NDArray[Any]]
    problems: list[Problem] = field(default_factory=list)
    status: Status | None = None
    outdated_status: Problem | None = None
    class_rows: bytes | None = None

    def __post_init__(self) -> None:
        self._large: dict[str, NDArray[Any]] = {}

    def run(self) -> None:
        """Check the grid point."""
        self.status = status = self._read_status()
        promised = () if status is None else self._promised_large(status)
        for variable in self.store.variables:
            if variable.is_large:
                self._read_large(variable, is_promised=variable.name in promised)
        if status is None:
            self._report("status: its chunk is damaged")
        elif status == Status.PENDING:
            if self.small.get("digest") or self.small.get("entries_digest"):
                self._report_outdated(status)
        else:
            self._check_digest(status)
            self._check_entries_digest(status)
            if status != Status.FAILED and not self.problems:
                self._check_values(status)

    def _problem(self, what: str, file: str | None = None) -> Problem:
        return Problem.at(self.point, what, file)

    def _report(self, what: str, file: str | None = None) -> None:
        self.problems.append(self._problem(what, file))

    def _report_outdated(self, status: Status) -> None:
        self.outdated_status = self._problem(
            f"status: {status.name.lower()} is behind its digests: it is out of date, or its last write was lost"
        )

    def _promised_large(self, status: Status) -> tuple[str, ...]:
        return promised_large(self.store.spec.identity, status)

    def _promised_small(self, status: Status) -> tuple[str, ...]:
        return promised_small(self.store.spec.identity, status)

    def _read_status(self) -> Status | None:
        if "status" not in self.small:
            return None
        number = int(self.small["status"])
        try:
            return Status(number)
        except ValueError:
            self._report(f"status: {number} is none of {', '.join(str(int(status)) for status in Status)}")
            return None

    def _read_large(self, variable: Variable, *, is_promised: bool) -> None:
        name, run = variable.name, self.point.run
        file = chunk_file(variable, run.id, self.point.index)
        path = self.store.path / file
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            if self.store.origin.lacks(name, run.id, self.point.value):
                array = self.store.array(name)
                self._large[name] = np.full(array.shape[2:], array.fill_value, array.dtype)
            elif is_promised:
                self._report(f"{name}: the file {file} is missing", file)
            return
        if not size:
            self._report(f"{name}: the file {file} is empty", file)
            return
        try:
            self._large[name] = np.asarray(self.store.array(name)[run.id, self.point.index])
        except Exception as error:  # noqa: BLE001 - decoders raise anything for damaged bytes
            self._report(f"{name}: the file {file} {damage(path, error)}", file)

    def _check_digest(self, status: Status) -> None:
        promised = self._promised_large(status)
        if not promised or self.store.left_out or any(name not in self._large for name in promised):
            return  # it cannot be checked, or the missing files were reported already
        if "digest" not in self.small:
            self._report("digest: its chunk is damaged")
        elif not self._has_digest_of(status):
            if any(self._has_digest_of(later) for later in _later(status)):
                self._report_outdated(status)
            elif any(self._has_digest_of(earlier) for earlier in Status if earlier < status):
                self._report(f"status: {status.name.lower()} promises more than its digest covers")
            else:
                self._report(
                    f"digest: does not match {', '.join(promised)}: one is out of date, or swapped with that of "
                    "another grid point"
                )

    def _has_digest_of(self, status: Status) -> bool:
        promised = self._promised_large(status)
        if not promised or any(name not in self._large for name in promised):
            return False
        arrays = {name: self._large[name] for name in promised}
        return int(self.small["digest"]) == digest(self.point.run, self.point.value, arrays)

    def _check_entries_digest(self, status: Status) -> None:
        damaged = [name for name in self._promised_small(status) if name not in self.small]
        for name in damaged:
            self._report(f"{name}: its chunk is damaged")
        if damaged:
            return
        if "entries_digest" not in self.small:
            self._report("entries_digest: its chunk is damaged")
        elif not self._has_entries_digest_of(status):
            if any(self._has_entries_digest_of(later) for later in _later(status)):
                self._report_outdated(status)
            else:
                self._report(
                    f"entries_digest: does not match a {status.name.lower()} grid point with these small variables: "
                    "some are missing, out of date or swapped"
                )

    def _has_entries_digest_of(self, status: Status) -> bool:
        promised = self._promised_small(status)
        if any(name not in self.small for name in promised):
            return False
        entries = {name: self.small[name] for name in promised}
        return int(self.small["entries_digest"]) == entries_digest(self.point.run, self.point.value, status, entries)

    def _check_values(self, status: Status) -> None:
        spec, point = self.store.spec, self.point
        if self.store.origin.is_as_imported(point.run.id, point.value):
            return  # these are the values of the files, with their gaps and rounding
        if self.store.left_out:
            return
        values = {**self._large, **self.small}
        l2 = l2_at(point, spec.identity)
        for what in contradictions(status, values, l2, spec.identity, spec.attrs, self.store.center):
            self._report(what)
        self.class_rows = np.asarray(self.small["confusion"]).sum(axis=-1).tobytes()


def _later(status: Status) -> Iterable[Status]:
    return (later for later in Status if later > status)
