"""The checks of one λ of one run: its status, its files, its digests, and its numbers against each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hesstore.integrity.consistency import contradictions
from hesstore.integrity.findings import Problem
from hesstore.store.chunk_files import chunk_file, damage
from hesstore.store.digest import digest, entries_digest
from hesstore.store.origin import origin_of
from hesstore.store.schema import LARGE_AT, Run, Status, Variable, arrays_of, entries_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hesstore.integrity.verify import Verifier


class PointCheck:
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
        promised = self._arrays(status) if status is not None else ()
        for variable in self.verifier.variables():
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
        promised = self._arrays(status)
        if not promised or self.verifier.left_out or any(name not in self.arrays for name in promised):
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
        promised = self._arrays(status)
        if not promised or any(name not in self.arrays for name in promised):
            return False
        arrays = {name: self.arrays[name] for name in promised}
        return int(self.entries["digest"]) == digest(self.place, self.l2, arrays)

    def _check_entries(self, status: Status) -> None:
        damaged = [name for name in self._promised(status) if name not in self.entries]
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
        promised = self._promised(status)
        if any(name not in self.entries for name in promised):
            return False
        entries = {name: self.entries[name] for name in promised}
        return int(self.entries["entries_digest"]) == entries_digest(self.place, self.l2, status, entries)

    def _arrays(self, status: Status) -> tuple[str, ...]:
        return arrays_of(self.verifier.metadata.version, status)

    def _promised(self, status: Status) -> tuple[str, ...]:
        return entries_of(self.verifier.metadata.version, status)

    def _is_behind(self, status: Status) -> None:
        self.behind = [self._problem(f"status: {status.name.lower()} is behind its digests: stale, or lost")]

    def _check_values(self, status: Status) -> None:
        spec = self.verifier.spec
        if origin_of(spec.attrs).is_as_imported(self.place.id, self.l2):
            return  # what the files said, with their gaps and rounding
        if self.verifier.left_out:
            return
        for what in contradictions(status, {**self.arrays, **self.entries}, self.l2, spec.identity, spec.attrs):
            self._say(what)
        self.class_rows = np.asarray(self.entries["confusion"]).sum(axis=-1).tobytes()


def _after(status: Status) -> list[Status]:
    return [later for later in Status if later > status]
