"""The check of what is read against the digests in the store, before it is handed on.

A chunk that is missing reads as unset values without an error. So a reader compares the small variables, once they are
in memory, with the digests of their grid points, and looks for the files of the large variables.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from hesstore.config.l2_grid import AXIS, parse_l2, value_text
from hesstore.errors import CorruptStoreError
from hesstore.store.chunk_files import chunk_file
from hesstore.store.digest import EntriesDigests, reference_digest
from hesstore.store.identity import identity_of
from hesstore.store.import_origin import origin_of
from hesstore.store.schema import (
    BY_NAME,
    REFERENCES,
    Run,
    Status,
    StoreSpec,
    grid_axis,
    promised_large,
    promised_small,
)
from hesstore.store.template import coordinates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

Rows = dict[str, "NDArray[Any]"]
"""The small variables of a run at all grid points, (L, …), by name."""

TOGETHER = 8
"""The maximum number of grid points whose results are recorded together.

A process that is killed between their digests and their statuses leaves as many statuses behind their digests.
"""


def small_names(names: Iterable[str]) -> list[str]:
    """Return the small variables among ``names``, in the order in which a live store must be read.

    The status comes first and the digests follow, so that they promise nothing that is not read after them.
    """
    first = ("status", "entries_digest", "digest")
    known = [name for name in names if name in BY_NAME and not BY_NAME[name].is_large]
    return [name for name in first if name in known] + [name for name in known if name not in first]


@dataclass(frozen=True)
class RunCheck:
    """The check of the small variables of one run.

    Attributes
    ----------
    where : str
        The name of the store in messages.
    identity : mapping
        The identity of the store.
    run : Run
        The run.
    grid : sequence of float
        (L,) the values of the grid.
    rows : mapping of str to array
        Its small variables; those that the store was packed without are missing.
    was_interrupted : callable
        Whether a process that drives the run is at work or was killed, so that its last statuses may be missing.
    """

    where: str
    identity: Mapping[str, Any]
    run: Run
    grid: Sequence[float]
    rows: Rows
    was_interrupted: Callable[[], bool]

    def check(self) -> None:
        """Compare each grid point with its digests.

        Raises
        ------
        CorruptStoreError
            If a value is missing or is not the one that was recorded. The message names the file.
        """
        digests = EntriesDigests(self.run, self.grid, self.rows)
        behind = [index for index, status in self.statuses() if self._is_behind(index, status, digests)]
        if len(behind) > TOGETHER or (behind and not self.was_interrupted()):
            self._fail(behind[0], ["status"], "is behind the digests")

    def statuses(self) -> Iterator[tuple[int, Status]]:
        """Yield the index and the status of each grid point."""
        for index, number in enumerate(self.rows["status"].tolist()):
            try:
                yield index, Status(number)
            except ValueError:
                self._fail(index, ["status"], f"has the unknown value {number}")

    def _is_behind(self, index: int, status: Status, digests: EntriesDigests) -> bool:
        """Whether the digests are those of a later status; raises an error if they are those of none."""
        stored = int(self.rows["entries_digest"][index])
        if status == Status.PENDING:
            return stored != 0
        if promised_large(self.identity, status) and not self.rows["digest"][index]:
            self._fail(index, ["digest"], "is missing or empty")
        for possible in (each for each in Status if each >= status):
            names = promised_small(self.identity, possible)
            if not self.rows.keys() >= {*names}:
                return False  # it cannot be checked
            if digests.at(index, possible, names) == stored:
                return possible != status
        return self._fail_to_match(index, status)

    def _fail_to_match(self, index: int, status: Status) -> NoReturn:
        names = ("entries_digest", *promised_small(self.identity, status))
        lost = [name for name in names if _is_unset(BY_NAME[name].fill, self.rows[name][index])]
        if lost:
            self._fail(index, lost, "is missing or empty")
        self._fail(index, ["entries_digest"], "does not match the small variables")

    def _fail(self, index: int, names: Iterable[str], what: str) -> NoReturn:
        files = ", or ".join(chunk_file(BY_NAME[name], self.run.id, index) for name in names)
        raise CorruptStoreError(
            f"{self.where}: {files}: {what} at run {self.run.id}, "
            f"{value_text(grid_axis(self.identity), float(self.grid[index]))}: "
            f"`hesstore verify {self.where}` lists all damage"
        )


def promised_files(attributes: Mapping[Any, Any], identity: Mapping[str, Any], check: RunCheck) -> Iterator[str]:
    """Yield the files of the large variables that the statuses of a run promise."""
    origin, run = origin_of(attributes), check.run
    names = {status: promised_large(identity, status) for status in Status}
    for index, status in check.statuses():
        for name in names[status]:
            if not origin.lacks(name, run.id, float(check.grid[index])):
                yield chunk_file(BY_NAME[name], run.id, index)


def _is_unset(fill: object, values: object) -> bool:
    """Whether values at a grid point are those of a chunk that does not exist."""
    array = np.asarray(values)
    if array.dtype.kind in "OUT":
        text: object = array[()]
        return not (isinstance(text, str) and text)
    return bool((np.isnan(array) if array.dtype.kind == "f" else array == fill).all())


def check_coordinates(where: str, attributes: Mapping[Any, Any], found: Mapping[str, NDArray[Any]]) -> None:
    """Compare coordinates with those that follow from the root attributes of the store.

    Parameters
    ----------
    where : str
        The name of the store in messages.
    attributes : mapping
        The root attributes.
    found : mapping of str to array
        Some coordinates, among them the grid, by name.

    Raises
    ------
    CorruptStoreError
        If one differs, as that of a missing file does. The message names the file.
    """
    identity = identity_of(attributes)
    expected = coordinates(_spec(attributes, identity, found))
    for name, values in found.items():
        if name in REFERENCES:
            is_sound = reference_digest(values) == identity[name]
        elif name in expected and (name not in _OF_PARAMETERS or "parameters" in identity):
            wanted = expected[name][1]
            is_sound = values.shape == wanted.shape and bool((values == wanted).all())
        else:
            continue
        if not is_sound:
            raise CorruptStoreError(
                f"{where}: {name}/c/0: is missing, empty or not the coordinate of the config: `hesstore verify {where} "
                "--repair` restores it"
            )


def grid_of(identity: Mapping[str, Any]) -> tuple[float, ...]:
    """Return the grid that an identity names; empty if it names none."""
    if grid_axis(identity) != AXIS:
        return tuple(map(float, identity["values"]))
    return parse_l2(identity["l2"]) if "l2" in identity else ()


_OF_PARAMETERS = ("layer", "kind", "out_index", "in_index")


def _spec(attributes: Mapping[Any, Any], identity: Mapping[str, Any], found: Mapping[str, NDArray[Any]]) -> StoreSpec:
    """Return the description of the store, as far as its coordinates depend on it."""
    sizes = {name: len(values) for name, values in found.items()}
    labelled = any(name in found for name in _OF_PARAMETERS) and "parameters" in identity
    return StoreSpec(
        grid=grid_of(identity) or tuple(found[grid_axis(identity)].tolist()),
        runs=tuple(Run(index, *run) for index, run in enumerate(json.loads(attributes["runs"]))),
        k=sizes.get("mode", 0),
        num_classes=sizes.get("label", 0),
        parameters=identity["parameters"] if labelled else (),
        identity=identity,
        attrs={},
    )
