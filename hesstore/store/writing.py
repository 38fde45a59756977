"""A store that is open for writing: how it is created, and how its grid points are recorded.

A grid point is recorded in this order: its large variables, its small variables, its digests, its status. Each of them
is on disk before the next is written, so that the status is true at any moment at which the process may be killed.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hesstore.config.l2_grid import value_text
from hesstore.errors import ConfigMismatchError, CorruptStoreError, StoreError
from hesstore.store.arrays import Arrays
from hesstore.store.checking import check_coordinates
from hesstore.store.chunk_files import chunk_file
from hesstore.store.decoding import decoding
from hesstore.store.digest import digest, entries_digest, reference_digest
from hesstore.store.identity import describe, differences, identity_of
from hesstore.store.import_origin import origin_of
from hesstore.store.places.location import local_path, locate
from hesstore.store.root_group import open_group
from hesstore.store.schema import (
    BY_NAME,
    GRID_SETTINGS,
    SPECTRUM_SETTINGS,
    Point,
    Run,
    Status,
    StoreSpec,
    grid_axis,
    promised_large,
    promised_small,
    variables,
)
from hesstore.store.settling import settled_digests
from hesstore.store.template import template

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import zarr
    from numpy.typing import NDArray

    from hesstore.store.places.location import Location
    from hesstore.store.places.place import Place


WRITES_AT_ONCE = 8
"""The number of variables of a grid point that are written at the same time."""

PROMISES = ("status", "digest", "entries_digest")
"""The variables that promise the results of a grid point; they are withdrawn in this order."""


@dataclass(frozen=True)
class Entries:
    """The small variables of a grid point that are to be written.

    Attributes
    ----------
    index, status : int, Status
        The grid point, and its status once they are written.
    values : mapping of str to array or scalar
        The small variables, by name.
    arrays_digest : int or None
        What :meth:`SweepStore.put_arrays` returned for its large ones.
    """

    index: int
    status: Status
    values: Mapping[str, Any]
    arrays_digest: int | None


class SweepStore:
    """A store that is open for writing, by the driver of its runs or by workers.

    :meth:`open` and :meth:`create` return one.

    Attributes
    ----------
    place : Place
        The place of the store; ``path`` is its location, from which another process can open it.
    group : Group
        Its root group.
    identity : dict
        Its identity.
    grid : ndarray
        The values of the grid, (L,).
    runs : tuple of Run
        Its runs.
    """

    def __init__(
        self, place: Place, group: zarr.Group, arrays: Arrays, grid: NDArray[np.float64], runs: tuple[Run, ...]
    ):
        self.place, self.path, self.group = place, place.location, group
        self.identity = identity_of(group.attrs)
        self.grid, self.runs = grid, runs
        self._arrays = arrays
        self._unfinished: set[int] = set()  # the runs whose last statuses this process has not written

    @classmethod
    def open(cls, location: Location) -> SweepStore:
        """Open an existing store for writing.

        Raises
        ------
        CorruptStoreError
            If its metadata or a coordinate is damaged.
        StoreError
            If it is not a store, or cannot be written.
        """
        place = locate(location)
        group = open_group(place, writable=True)
        arrays = Arrays(group, str(place))
        with decoding(f"{place}: a coordinate", f"`hesstore verify {place} --repair` restores it"):
            axis = grid_axis(identity_of(group.attrs))
            grid, seeds, directions = (np.asarray(arrays[name][:]) for name in (axis, "seed", "direction"))
        pairs = zip(seeds, directions, strict=True)
        check_coordinates(str(place), group.attrs.asdict(), {axis: grid, "seed": seeds, "direction": directions})
        runs = tuple(Run(index, int(seed), str(direction)) for index, (seed, direction) in enumerate(pairs))
        return cls(place, group, arrays, grid, runs)

    @classmethod
    def create(cls, location: Location, spec: StoreSpec) -> SweepStore:
        """Create a new, empty store, which appears under its name whole or not at all, and open it.

        Raises
        ------
        StoreError
            If the path is taken or cannot be written.
        """
        place = locate(location)
        place.check_creatable()
        place.create(template(spec))
        return cls.open(place)

    def require(self, identity: Mapping[str, Any], *, partly: bool = False) -> None:
        """Raise an error unless a sweep with this identity can continue the store.

        Parameters
        ----------
        identity : mapping
            The identity of the sweep.
        partly : bool
            Whether to ignore keys that the store has and ``identity`` does not have.

        Raises
        ------
        ConfigMismatchError
            If the store was made with another identity; the message names the keys and both values.
        StoreError
            If the store was imported, or cannot be written.
        """
        self.require_same_kind(identity)
        self.place.check_writable()
        found = differences(self.identity, identity, identity if partly else {**self.identity, **identity})
        if found:
            can_grow = found.keys() <= GRID_SETTINGS | SPECTRUM_SETTINGS
            raise ConfigMismatchError(
                f"{self.place}: was made with another config: {describe(found)}. Leave the options out (`hesstore "
                f"config --of {self.place}` prints the config) or give another path"
                f"{', or --grow to extend the store' if can_grow else ''}",
                found,
            )

    def require_same_kind(self, identity: Mapping[str, Any]) -> None:
        """Raise :class:`StoreError` for a store that was imported, or made by the other of sweep and analyse."""
        if origin_of(self.group.attrs).is_import:
            raise StoreError(
                f"{self.place}: was imported from files: give another path to the sweep, which makes a store of its "
                "own; `hesstore import --recompute` computes what the files do not contain"
            )
        if ("axis" in self.identity) != ("axis" in identity):
            by, other = ("analyse", "sweep") if "axis" in self.identity else ("sweep", "analyse")
            raise StoreError(
                f"{self.place}: was made by `hesstore {by}`, which can continue it: give another path to "
                f"`hesstore {other}`"
            )

    @contextmanager
    def claim(self, run: Run, workers: int = 1) -> Iterator[None]:
        """Hold ``run`` against other drivers while the context lasts; ``workers`` processes compute for this one.

        Meanwhile its small variables are read only once, since nobody else writes them. What a killed driver has
        promised ahead of a status is withdrawn; see :mod:`hesstore.store.settling`.
        """
        with self.place.claim(run.id, workers) as claim, self._arrays.remember(run.id):
            self._require_unchanged()
            self._unfinished.discard(run.id)
            try:
                self._settle(run)
                yield
            finally:
                if run.id in self._unfinished:
                    claim.leave()  # so that readers know why statuses may be behind their digests

    def _settle(self, run: Run) -> None:
        """Withdraw what a killed driver has promised ahead of a status."""
        with self._finishing(run):
            status = self.status(run)
            if not (status < Status.COMPLETE).any():
                return
            small = (each.name for each in variables(self.identity) if not each.is_large)
            names = small if (status == Status.FITTED).any() else PROMISES
            rows = {name: self.entries(name, run) for name in names}
            found = settled_digests(
                self.identity, run, self.grid, rows, lambda name, index: self.read(name, run, index)
            )
            for name, values in found.items():
                self.put_all(name, run, values)

    @contextmanager
    def _finishing(self, run: Run) -> Iterator[None]:
        """Mark a run as unfinished during the block, and after it if the block raises an error.

        The statuses may then be behind their digests.
        """
        self._unfinished.add(run.id)
        yield
        self._unfinished.discard(run.id)

    def _require_unchanged(self) -> None:
        """Raise :class:`StoreError` if the store has grown since it was opened, so that grid points have moved."""
        attributes = json.loads(self.place.fetch("zarr.json")).get("attributes", {})
        if attributes.get("fingerprint") != self.group.attrs["fingerprint"]:
            raise StoreError(f"{self.place}: was changed by another process meanwhile: run the same command again")

    @property
    def axis(self) -> str:
        """The name of the grid's dimension."""
        return grid_axis(self.identity)

    def point(self, run: Run, index: int) -> Point:
        """Return a grid point of the store."""
        return Point(run, index, float(self.grid[index]), self.axis)

    def status(self, run: Run) -> NDArray[np.int8]:
        """Return the status of each grid point of a run, (L,)."""
        return self.entries("status", run)

    def read(self, name: str, run: Run, index: int) -> NDArray[np.generic]:
        """Return a variable at a grid point.

        Raises
        ------
        CorruptStoreError
            If its chunk is damaged.
        """
        return self._arrays.at(name, run.id, index)

    def check_large(self, run: Run, index: int) -> None:
        """Compare the large variables of a grid point with their digest.

        Raises
        ------
        CorruptStoreError
            If they are missing, damaged, or not those that were recorded.
        """
        status, stored = Status(int(self.status(run)[index])), int(self.read("digest", run, index))
        for possible in (each for each in Status if each >= status):  # a killed process may have left an early status
            names = promised_large(self.identity, possible)
            if names and self._digest_of_large(run, index, names) == stored:
                return
        names = promised_large(self.identity, status)
        lost = self.place.missing(chunk_file(BY_NAME[name], run.id, index) for name in names)
        files = ", ".join(lost or [chunk_file(BY_NAME[name], run.id, index) for name in names])
        what = "is missing or empty" if lost else "one of them is not the one that was recorded"
        raise CorruptStoreError(f"{self.place}: {files}: {what}: `hesstore verify {self.place}` lists all damage")

    def check_arrays(
        self, run: Run, index: int, status: Status, entries: Mapping[str, Any], arrays_digest: int
    ) -> None:
        """Check that large variables that another process has written are those that it has computed.

        Parameters
        ----------
        run, index, status
            The grid point, and the status that it is about to receive.
        entries : mapping of str to array or scalar
            The small variables that the process returned.
        arrays_digest : int
            The digest that it returned.

        Raises
        ------
        CorruptStoreError
            If the store has other values.
        """
        names = promised_large(self.identity, status)
        is_same = self._digest_of_large(run, index, names) == arrays_digest
        if is_same and "weights_norm" in entries:
            norm = np.linalg.norm(np.asarray(self.read("weights", run, index), np.float64))
            is_same = bool(np.isclose(norm, float(entries["weights_norm"]), rtol=1e-5, atol=0))
        if not is_same:
            files = ", ".join(chunk_file(BY_NAME[name], run.id, index) for name in names)
            raise CorruptStoreError(
                f"{self.place}: run {run.id} at {value_text(self.axis, float(self.grid[index]))}: the worker returned "
                "other results "
                f"than {files} hold: check that all workers reach the same store, then run the same command again"
            )

    def _digest_of_large(self, run: Run, index: int, names: Iterable[str]) -> int:
        return digest(run, float(self.grid[index]), {name: self.read(name, run, index) for name in names})

    def reference(self, name: str) -> NDArray[np.float32]:
        """Return one of the references that the store keeps, (P,).

        Raises
        ------
        CorruptStoreError
            If it is damaged.
        """
        remedy = f"restore {self.place} from a copy, or copy the file that its config names to its old place"
        with decoding(f"{self.place}: {name}", remedy):
            weights: NDArray[np.float32] = np.asarray(self._arrays[name][:])
        if reference_digest(weights) != self.identity[name]:
            raise CorruptStoreError(f"{self.place}: {name} does not match its digest: {remedy}")
        return weights

    def entries(self, name: str, run: Run) -> NDArray[Any]:
        """Return a copy of a small variable at all grid points of a run, (L, …).

        Raises
        ------
        CorruptStoreError
            If one of its chunks is damaged.
        """
        return self._arrays.row(name, run.id)

    def put_all(self, name: str, run: Run, values: NDArray[Any]) -> None:
        """Write a small variable at all grid points of a run."""
        self._arrays.put_row(name, run.id, values)

    def file_of(self, name: str, run: Run, index: int) -> Path:
        """Return the path of the file that holds a variable at a grid point, for a store in a folder."""
        return local_path(self.path) / chunk_file(BY_NAME[name], run.id, index)

    def reset(self, status: Status, runs: Iterable[Run]) -> None:
        """Mark every grid point of ``runs`` that has ``status`` as pending. The caller holds their claims."""
        for run in runs:
            chosen = self.status(run) == status
            if chosen.any():
                self.withdraw(run, np.flatnonzero(chosen).tolist())
                self.put_all("failure", run, np.where(chosen, "", self.entries("failure", run)))

    def record(self, run: Run, index: int, status: Status, values: Mapping[str, Any]) -> None:
        """Write the results of a grid point and then its status: :meth:`put_large`, then :meth:`put_together`.

        Parameters
        ----------
        run, index
            The grid point.
        status : Status
            Its status once everything is written. Large variables that this status promises and ``values`` does not
            contain must be in the store already.
        values : mapping of str to array or scalar
            The results by variable, without the axes of runs and of the grid, in the dtypes of the schema.

        Raises
        ------
        ValueError
            If the shape or dtype of a value is not that of the schema.
        """
        self.put_together(run, [self.put_large(run, index, status, values)])

    def put_large(self, run: Run, index: int, status: Status, values: Mapping[str, Any]) -> Entries:
        """Write the large variables among the results of a grid point; return the others for :meth:`put_together`.

        The parameters are those of :meth:`record`.
        """
        conforming = {name: self._conforming(name, value) for name, value in values.items()}
        arrays = {name: value for name, value in conforming.items() if BY_NAME[name].is_large}
        arrays_digest = self.put_arrays(run, index, status, arrays)
        entries = {name: value for name, value in conforming.items() if name not in arrays}
        return Entries(index, status, entries, arrays_digest)

    def record_run(self, run: Run, results: Iterable[tuple[int, Status, Mapping[str, Any]]]) -> None:
        """Write the results of many grid points of one run in one pass. The store must have no results of this run yet.

        The large variables are written grid point by grid point, then each small variable, the digests and the
        statuses once for the whole run. What is not given keeps its fill value; a large variable that is not given
        gets no file. Only the driver of the run may do so, in a store of a folder that is not in use yet.

        Parameters
        ----------
        run : Run
            The run.
        results : iterable of (int, Status, mapping)
            The index of each grid point, its status, and its results by variable, as in :meth:`record`.
        """
        small = (variable.name for variable in variables(self.identity) if not variable.is_large)
        rows = {name: self.entries(name, run) for name in small}
        given: set[str] = set()
        for index, status, values in results:
            conforming = {name: self._conforming(name, value) for name, value in values.items()}
            arrays = {name: value for name, value in conforming.items() if BY_NAME[name].is_large}
            self._write_large(run, index, arrays)
            for name in conforming.keys() - arrays.keys():
                rows[name][index] = conforming[name]
            given |= conforming.keys() - arrays.keys()
            rows["status"][index] = status
            if covered := {name: arrays.get(name, self._fill(name)) for name in promised_large(self.identity, status)}:
                rows["digest"][index] = digest(run, float(self.grid[index]), covered)
            rows["entries_digest"][index] = self._digest_of_entries(
                run, index, status, {name: row[index] for name, row in rows.items()}
            )
        self.place.check_claim(run.id)
        _write_each(lambda name: self.put_all(name, run, rows[name]), given)
        for name in reversed(PROMISES):
            self.put_all(name, run, rows[name])

    def _fill(self, name: str) -> NDArray[Any]:
        """Return a large variable at a grid point that has no values of it."""
        array = self._arrays[name]
        return np.broadcast_to(np.asarray(array.fill_value, array.dtype), array.shape[2:])

    def _write_large(self, run: Run, index: int, arrays: Mapping[str, NDArray[Any]]) -> None:
        def write(name: str) -> None:
            self._arrays[name][run.id, index] = arrays[name]

        _write_each(write, arrays)

    def put_arrays(self, run: Run, index: int, status: Status, arrays: Mapping[str, Any]) -> int | None:
        """Write large variables of a grid point. Any process may do so, but only one at a time for each grid point.

        Returns
        -------
        int or None
            The digest of all large variables that ``status`` promises, for :meth:`put_together`; those that are not
            given are read. None if it promises none.
        """
        conforming = {name: self._conforming(name, value) for name, value in arrays.items()}
        self._write_large(run, index, conforming)
        promised = promised_large(self.identity, status)
        if not promised:
            return None
        covered = {name: conforming[name] if name in conforming else self.read(name, run, index) for name in promised}
        return digest(run, float(self.grid[index]), covered)

    def put_together(self, run: Run, points: Sequence[Entries]) -> None:
        """Write small variables of some grid points of a run, then the digests, then the statuses.

        Only the driver of the run may do so. At most :data:`TOGETHER` grid points are written together, so that a
        process that is killed leaves no more statuses behind their digests. A grid point that is given twice, with its
        fit and its analysis, has the results of both.
        """
        self.place.check_claim(run.id)
        rows: dict[str, dict[int, Any]] = {}
        for point in points:
            for name, value in point.values.items():
                rows.setdefault(name, {})[point.index] = self._conforming(name, value)
            if point.arrays_digest is not None:
                rows.setdefault("digest", {})[point.index] = np.uint64(point.arrays_digest)
            rows.setdefault("status", {})[point.index] = np.int8(point.status)
        rows["entries_digest"] = {}
        for index, status in rows.get("status", {}).items():
            known = {name: values[index] for name, values in rows.items() if index in values}
            rows["entries_digest"][index] = self._digest_of_entries(run, index, Status(int(status)), known)
        _write_each(lambda name: self._arrays.put(name, run.id, rows[name]), rows.keys() - {*PROMISES})
        with self._finishing(run):
            for name in reversed(PROMISES):
                self._arrays.put(name, run.id, rows.get(name, {}))

    def _digest_of_entries(self, run: Run, index: int, status: Status, known: Mapping[str, Any]) -> np.uint64:
        """Return the digest of the small variables that ``status`` promises; those not in ``known`` are read."""
        covered = {
            name: known[name] if name in known else self.read(name, run, index)
            for name in promised_small(self.identity, status)
        }
        return np.uint64(entries_digest(run, float(self.grid[index]), status, covered) if covered else 0)

    def seal_entries(self, run: Run) -> None:
        """Write the digests of the small variables of a run as they are now."""
        statuses = [Status(int(status)) for status in self.status(run)]
        digests = [self._digest_of_entries(run, index, status, {}) for index, status in enumerate(statuses)]
        self.put_all("entries_digest", run, np.array(digests, np.uint64))

    def withdraw(self, run: Run, indices: Iterable[int]) -> None:
        """Mark some grid points of a run as pending, so that the next sweep computes them again.

        Only the driver of the run may do so. Their other variables stay until then. A damaged chunk of a status or a
        digest is replaced by one that promises nothing.
        """
        chosen = np.zeros(len(self.grid), bool)
        chosen[list(indices)] = True
        with self._finishing(run):
            for name in PROMISES:
                self._arrays.clear(name, run.id, chosen)
                self.place.sync(f"{name}/c/{run.id}")  # zarr removes the file of a chunk that holds only zeros

    def _conforming(self, name: str, value: Any) -> NDArray[np.generic]:
        variable, shape = BY_NAME[name], self._arrays[name].shape[2:]
        if variable.dtype == "string":
            return np.asarray(value, dtype=object)
        array = np.asarray(value)
        if array.shape != shape:
            raise ValueError(f"{name}: shape {array.shape} is not the store's {shape}")
        if not np.can_cast(array.dtype, np.dtype(variable.dtype), casting="same_kind"):
            raise ValueError(f"{name}: dtype {array.dtype} does not fit the store's {variable.dtype}")
        return array.astype(variable.dtype, copy=False)


def _write_each(write: Callable[[str], None], names: Iterable[str]) -> None:
    """Write some variables, a few at a time: most of the time is spent waiting for a disk or a server."""
    with ThreadPoolExecutor(WRITES_AT_ONCE) as pool:
        for _ in pool.map(write, names):
            pass
