"""Creating a store as an empty template, and filling it one λ at a time.

A λ is recorded in this order: its large arrays, its small entries, its digests, each on disk before the next, then its
status. Whatever a kill interrupts, the status still tells the truth.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

from hesstore.errors import ConfigMismatchError, CorruptStoreError, StoreError
from hesstore.store.digest import digest, entries_digest
from hesstore.store.group import open_group
from hesstore.store.origin import origin_of
from hesstore.store.places.location import local_path, locate
from hesstore.store.schema import (
    BY_NAME,
    GRID_SETTINGS,
    SCHEMA_VERSION,
    SPECTRUM_SETTINGS,
    Run,
    Status,
    StoreSpec,
    arrays_of,
    entries_of,
)
from hesstore.store.template import write_template

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from hesstore.store.places.location import Location


WRITES_AT_ONCE = 8
"""Arrays of one λ that are written side by side."""

PROMISES = ("status", "digest", "entries_digest")
"""What says that a λ is there and whole; taken back in this order."""


class SweepStore:
    """A store open for writing, by its run's driver.

    Parameters
    ----------
    location : path or URL
        Where it is; ``path`` says so again, and opens it in another process.
    """

    def __init__(self, location: Location) -> None:
        self.place = locate(location)
        self.path = self.place.location
        self.group = open_group(self.place, writable=True)
        self._arrays: dict[str, zarr.Array[Any]] = {}
        self.version = int(str(self.group.attrs["schema_version"]))
        self._rows: dict[int, dict[str, NDArray[Any]]] = {}  # small variables of the claimed runs
        try:
            self.l2: NDArray[np.float64] = np.asarray(self._array("l2")[:])
            seeds, directions = np.asarray(self._array("seed")[:]), np.asarray(self._array("direction")[:])
        except (ValueError, RuntimeError) as error:
            raise CorruptStoreError(
                f"{self.path}: a coordinate is damaged ({error}): `hesstore verify {self.path} --repair` restores it"
            ) from error
        self.runs = tuple(
            Run(index, int(seed), str(direction))
            for index, (seed, direction) in enumerate(zip(seeds, directions, strict=True))
        )

    @classmethod
    def create(cls, location: Location, spec: StoreSpec) -> SweepStore:
        """A new, empty store; it appears under its name whole or not at all.

        Raises
        ------
        StoreError
            If the path is taken or can't be written.
        """
        place = locate(location)
        place.check_creatable()
        place.create(lambda store: write_template(store, spec))
        return cls(place)

    @classmethod
    def open_matching(cls, location: Location, identity: Mapping[str, Any]) -> SweepStore:
        """An existing store that was made with ``identity``.

        Raises
        ------
        ConfigMismatchError
            If it was made with another one; it names the keys and both values.
        StoreError
            If it is not a store or can't be written.
        """
        place = locate(location)
        check_matching(place, identity)
        return cls(place)

    def _array(self, name: str) -> zarr.Array[Any]:
        if name not in self._arrays:  # opening one costs as much as writing a small one
            array = self.group[name]
            if not isinstance(array, zarr.Array):
                raise StoreError(f"{self.path}: {name} is not an array")
            # A λ that was recorded has its files, even if all in them is missing.
            is_large = name in BY_NAME and BY_NAME[name].is_large
            self._arrays[name] = array.with_config({"write_empty_chunks": is_large})
        return self._arrays[name]

    @contextmanager
    def claim(self, run: Run) -> Iterator[None]:
        """Hold ``run`` against other drivers; see :meth:`hesstore.store.places.base.Place.claim`.

        Meanwhile its small variables are read once and then known: nobody else writes them.
        """
        with self.place.claim(run.id):
            self._rows[run.id] = {}
            try:
                yield
            finally:
                del self._rows[run.id]

    def status(self, run: Run) -> NDArray[np.int8]:
        """(L,) the status of each λ of a run."""
        return self.entries("status", run)

    def reset(self, status: Status, runs: Iterable[Run]) -> None:
        """Mark every λ of ``runs`` that has ``status`` pending; whoever calls holds their claims."""
        for run in runs:
            found = self.status(run)
            chosen = found == status
            if chosen.any():
                self.withdraw(run, np.flatnonzero(chosen).tolist())
                self.put_all("failure", run, np.where(chosen, "", self.entries("failure", run)))

    def read(self, name: str, run: Run, index: int) -> NDArray[np.generic]:
        """One variable at one λ.

        Raises
        ------
        CorruptStoreError
            If its chunk is damaged.
        """
        if run.id in self._rows and not BY_NAME[name].is_large:
            return np.asarray(self.entries(name, run)[index])
        return self._decoded(name, run, index)

    def file_of(self, name: str, run: Run, index: int) -> Path:
        """The file that holds a large array of one λ, whether or not it is there; of a store in a folder."""
        array = self._array(name)
        key = array.metadata.encode_chunk_key((run.id, index, *(0 for _ in array.shape[2:])))
        return local_path(self.path) / name / key

    def entries(self, name: str, run: Run) -> NDArray[Any]:
        """(L, …) a small variable at all λ of a run, for the caller to keep.

        Raises
        ------
        CorruptStoreError
            If its chunk is damaged.
        """
        rows = self._rows.get(run.id)
        if rows is None:
            return np.array(self._decoded(name, run))
        if name not in rows:
            rows[name] = np.array(self._decoded(name, run))
        return rows[name].copy()

    def _decoded(self, name: str, run: Run, *index: int) -> NDArray[Any]:
        try:
            return np.asarray(self._array(name)[(run.id, *index)])
        except (ValueError, RuntimeError) as error:
            raise CorruptStoreError(
                f"{self.path}: {name} of run {run.id} is damaged ({error}): hesstore verify says what else is"
            ) from error

    def put_all(self, name: str, run: Run, values: NDArray[Any]) -> None:
        """Write a small variable at all λ of a run: one chunk, whole."""
        self._array(name)[run.id] = values
        if run.id in self._rows:
            self._rows[run.id][name] = np.array(values)

    def _put(self, name: str, run: Run, index: int, value: Any) -> None:
        values = self.entries(name, run)
        values[index] = value
        self.put_all(name, run, values)

    def record(self, run: Run, index: int, status: Status, values: Mapping[str, Any]) -> None:
        """Write what became known of one λ and then its status: :meth:`put_arrays`, then :meth:`put_entries`.

        Parameters
        ----------
        run, index
            Which λ.
        status : Status
            What it is when all is written. Large arrays that this status promises and ``values`` lacks must be in
            the store already.
        values : mapping of str to array or scalar
            By variable name; shapes without the run and l2 axes, in the schema's dtypes.

        Raises
        ------
        ValueError
            If a value's shape or dtype is not the schema's.
        """
        conforming = {name: self._conforming(name, value) for name, value in values.items()}
        arrays = {name: value for name, value in conforming.items() if BY_NAME[name].is_large}
        arrays_digest = self.put_arrays(run, index, status, arrays)
        entries = {name: value for name, value in conforming.items() if name not in arrays}
        self.put_entries(run, index, status, entries, arrays_digest)

    def put_arrays(self, run: Run, index: int, status: Status, arrays: Mapping[str, Any]) -> int | None:
        """Write large arrays of one λ, for whoever computed them; any process may, but one at a time for each λ.

        Returns the digest of all large arrays that ``status`` promises (those not given are read), for
        :meth:`put_entries`; None if it promises none.
        """
        conforming = {name: self._conforming(name, value) for name, value in arrays.items()}

        def write(name: str) -> None:
            self._array(name)[run.id, index] = conforming[name]

        _side_by_side(write, conforming)
        promised = arrays_of(self.version, status)
        if not promised:
            return None
        covered = {name: conforming[name] if name in conforming else self.read(name, run, index) for name in promised}
        return digest(run, float(self.l2[index]), covered)

    def put_entries(
        self, run: Run, index: int, status: Status, entries: Mapping[str, Any], arrays_digest: int | None
    ) -> None:
        """Write small entries of one λ, their digest and ``arrays_digest``, that of its large arrays, then its status.

        For the run's driver.
        """
        self.place.check_claim(run.id)
        conforming = {name: self._conforming(name, value) for name, value in entries.items()}
        _side_by_side(lambda name: self._put(name, run, index, conforming[name]), conforming)
        if "entries_digest" in self.group:  # not in stores of schema 1
            self._put("entries_digest", run, index, self._sealing(run, index, status, conforming))
        if arrays_digest is not None:
            self._put("digest", run, index, np.uint64(arrays_digest))
        self._put("status", run, index, np.int8(status))

    def _sealing(self, run: Run, index: int, status: Status, known: Mapping[str, Any]) -> np.uint64:
        """The digest of the entries that ``status`` promises; those that are not ``known`` are read."""
        covered = {
            name: known[name] if name in known else self.read(name, run, index)
            for name in entries_of(self.version, status)
        }
        return np.uint64(entries_digest(run, float(self.l2[index]), status, covered) if covered else 0)

    def seal_entries(self, run: Run) -> None:
        """Write the digests of the small entries of a run as they are."""
        sealed = [self._sealing(run, index, Status(int(at)), {}) for index, at in enumerate(self.status(run))]
        self.put_all("entries_digest", run, np.array(sealed, np.uint64))

    def withdraw(self, run: Run, indices: Iterable[int]) -> None:
        """Mark some λ of a run pending, so that the next sweep computes them again; for the run's driver.

        Their other entries stay until then. A damaged status or digest chunk is replaced by one that promises nothing.
        """
        chosen = list(indices)
        for name in PROMISES:
            if name not in self.group:
                continue
            try:
                row = self.entries(name, run)
            except CorruptStoreError:
                array = self._array(name)
                row = np.zeros(array.shape[1], array.dtype)
            row[chosen] = 0
            self.put_all(name, run, row)
            self.place.sync(f"{name}/c/{run.id}")  # zarr removes the file of a row of nothing but zeros

    def _conforming(self, name: str, value: Any) -> NDArray[np.generic]:
        variable, shape = BY_NAME[name], self._array(name).shape[2:]
        if variable.dtype == "string":
            return np.asarray(value, dtype=object)
        array = np.asarray(value)
        if array.shape != shape:
            raise ValueError(f"{name}: shape {array.shape} is not the store's {shape}")
        if not np.can_cast(array.dtype, np.dtype(variable.dtype), casting="same_kind"):
            raise ValueError(f"{name}: dtype {array.dtype} does not fit the store's {variable.dtype}")
        return array.astype(variable.dtype, copy=False)


def _side_by_side(write: Callable[[str], None], names: Iterable[str]) -> None:
    """Write some arrays, a few at a time: most of a write is waiting, for a disk or a server."""
    with ThreadPoolExecutor(WRITES_AT_ONCE) as pool:
        for _ in pool.map(write, names):
            pass


def check_matching(location: Location, identity: Mapping[str, Any], *, partly: bool = False) -> None:
    """Raise :class:`StoreError` unless ``location`` is a store that can be written and was made with ``identity``.

    With ``partly``, what the store has and ``identity`` lacks does not count as a difference.
    """
    place = locate(location)
    attributes = open_group(place).attrs
    check_swept(place, attributes.asdict())
    stored: dict[str, Any] = json.loads(attributes["identity"])  # type: ignore[arg-type]
    place.check_writable()
    compared = identity if partly else {**stored, **identity}
    keys = [key for key in compared if stored.get(key) != identity.get(key)]
    unknown = [key for key in keys if key not in stored]
    if unknown and int(str(attributes["schema_version"])) < SCHEMA_VERSION:
        raise ConfigMismatchError(
            f"{place}: was made by an older hesstore, without {', '.join(unknown)}: --grow computes its spectra again, "
            "from the stored weights, with what is recorded of them now",
            {key: ("", str(identity[key])) for key in unknown},
        )
    if keys:
        differences = {key: (str(stored.get(key)), str(identity.get(key))) for key in keys}
        described = "; ".join(f"{key} is {old} there, {new} here" for key, (old, new) in differences.items())
        can_grow = set(keys) <= GRID_SETTINGS | SPECTRUM_SETTINGS
        raise ConfigMismatchError(
            f"{place}: made with another config: {described}. Give the same options (`hesstore config --of {place}` "
            f"prints them) or another path{', or --grow to make it larger' if can_grow else ''}",
            differences,
        )


def check_swept(place: object, attributes: Mapping[str, Any]) -> None:
    """Raise :class:`StoreError` for a store that was imported: no sweep can go on with it."""
    if origin_of(attributes).is_import:
        raise StoreError(
            f"{place}: was imported from files: `hesstore import --recompute` computes what they lack, a sweep makes a "
            "store of its own: give another path"
        )
