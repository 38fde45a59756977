"""The arrays of a store that is open for writing, and access to the rows and chunks of its small variables."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

from hesstore.errors import CorruptStoreError, StoreError
from hesstore.store.chunk_files import blocks
from hesstore.store.decoding import decoding
from hesstore.store.schema import BY_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray


class Arrays:
    """The arrays of a store, opened once each.

    Parameters
    ----------
    group : Group
        The root group of the store.
    called : str
        The name of the store in messages.
    """

    def __init__(self, group: zarr.Group, called: str) -> None:
        self._group, self._called = group, called
        self._opened: dict[str, zarr.Array[Any]] = {}
        self._rows: dict[int, dict[str, NDArray[Any]]] = {}  # small variables of the runs that are remembered

    def __getitem__(self, name: str) -> zarr.Array[Any]:
        if name not in self._opened:  # opening an array takes as long as writing a small one
            array = self._group[name]
            if not isinstance(array, zarr.Array):
                raise StoreError(f"{self._called}: {name} is not an array")
            # A grid point that was recorded has its files, even if all values in them are missing.
            is_large = name in BY_NAME and BY_NAME[name].is_large
            self._opened[name] = array.with_config({"write_empty_chunks": is_large})
        return self._opened[name]

    @contextmanager
    def remember(self, run_id: int) -> Iterator[None]:
        """Read each small variable of a run once and keep it, for as long as nobody else writes the run."""
        self._rows[run_id] = {}
        try:
            yield
        finally:
            del self._rows[run_id]

    def at(self, name: str, run_id: int, index: int) -> NDArray[Any]:
        """Return a variable at a grid point; raises :class:`CorruptStoreError` if its chunk is damaged."""
        if run_id in self._rows and not BY_NAME[name].is_large:
            return np.asarray(self.row(name, run_id)[index])
        return self._decoded(name, run_id, index)

    def row(self, name: str, run_id: int) -> NDArray[Any]:
        """Return a copy of a small variable at all grid points of a run."""
        rows = self._rows.get(run_id)
        if rows is None:
            return np.array(self._decoded(name, run_id))
        if name not in rows:
            rows[name] = np.array(self._decoded(name, run_id))
        return rows[name].copy()

    def put_row(self, name: str, run_id: int, values: NDArray[Any]) -> None:
        """Write a small variable at all grid points of a run."""
        self[name][run_id] = values
        if run_id in self._rows:
            self._rows[run_id][name] = np.array(values)

    def put(self, name: str, run_id: int, given: Mapping[int, Any]) -> None:
        """Write a small variable at some grid points, by index; each chunk that holds them is rewritten once."""
        for block in blocks(self[name].shape[1]):
            chosen = [index for index in given if block.start <= index < block.stop]
            if not chosen:
                continue
            is_known = run_id in self._rows
            values = self.row(name, run_id)[block] if is_known else self._decoded(name, run_id, block).copy()
            for index in chosen:
                values[index - block.start] = given[index]
            self._put_block(name, run_id, block, values)

    def clear(self, name: str, run_id: int, chosen: NDArray[np.bool_]) -> None:
        """Set a small variable to zero at the ``chosen`` grid points, and in every chunk that is damaged."""
        array = self[name]
        for block in blocks(array.shape[1]):
            try:
                values = self._decoded(name, run_id, block).copy()
            except CorruptStoreError:
                values = np.zeros(block.stop - block.start, array.dtype)
            else:
                if not chosen[block].any():
                    continue
            values[chosen[block]] = 0
            self._put_block(name, run_id, block, values)

    def _put_block(self, name: str, run_id: int, block: slice, values: NDArray[Any]) -> None:
        self[name][run_id, block] = values
        if name in self._rows.get(run_id, {}):
            self._rows[run_id][name][block] = values

    def _decoded(self, name: str, run_id: int, *index: int | slice) -> NDArray[Any]:
        with decoding(f"{self._called}: {name} of run {run_id}"):
            return np.asarray(self[name][(run_id, *index)])
