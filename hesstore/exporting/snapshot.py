"""The contents of a store at one moment: what a netCDF file receives while a sweep may still be running.

Small variables are read when the snapshot is taken, the status first. Large arrays are read later, one grid point at a
time, and only those that the status promises; a digest shows whether they are the ones of that moment.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from hesstore.errors import CorruptStoreError, ExportError
from hesstore.store.checking import grid_of
from hesstore.store.chunk_files import chunk_file
from hesstore.store.decoding import decoding
from hesstore.store.digest import digest
from hesstore.store.identity import identity_of
from hesstore.store.import_origin import origin_of
from hesstore.store.schema import BY_NAME, Point, Run, Status, axis_of, promised_large

if TYPE_CHECKING:
    from collections.abc import Iterator

    import xarray as xr
    from numpy.typing import NDArray

_NEEDED = ("status", "seed", "direction")
_NEVER_UNSET = ("weights", "gradient", "eigenvectors", "lowest_eigenvectors")
"""Large variables with at least one value at every grid point that has them."""


@dataclass(frozen=True)
class Snapshot:
    """A Dataset whose small variables are in memory, and whose large variables are in the store.

    Attributes
    ----------
    ds : Dataset
        The Dataset.
    """

    ds: xr.Dataset

    @classmethod
    def take(cls, ds: xr.Dataset) -> Self:
        """Read the small variables: the status first, so that it promises nothing that is not read after it.

        Raises
        ------
        ExportError
            If the Dataset is not one of a store with runs and grid.
        CorruptStoreError
            If a small variable is damaged.
        """
        axis = axis_of(ds)
        if any(name not in ds for name in _NEEDED) or ds["status"].dims != ("run", axis):
            raise ExportError(
                f"{', '.join(_NEEDED)} are missing, or status does not have the dimensions run and {axis}: give a "
                "store, or the whole Dataset of one"
            )
        ds, large = ds.copy(), set(_large(ds))
        for name in ("status", *ds.variables):
            if name not in large:
                with decoding(str(name)):
                    ds.variables[name].load()
        return cls(ds)

    def of_run(self, run: int) -> Snapshot:
        """The part of one run."""
        return Snapshot(self.ds.sel(run=[run]))

    @cached_property
    def large(self) -> list[str]:
        """The names of the large variables."""
        return _large(self.ds)

    @cached_property
    def small(self) -> xr.Dataset:
        """The other variables and the coordinates."""
        return self.ds.drop_vars(self.large)

    def points(self) -> Iterator[tuple[int, Point, Status]]:
        """All grid points: the position of the run in the Dataset, the grid point, and its status."""
        axis = axis_of(self.ds)
        grid = self.ds[axis].values.tolist()
        columns = (self.ds[name].values.tolist() for name in ("run", "seed", "direction"))
        runs = [Run(*values) for values in zip(*columns, strict=True)]
        for (row, index), status in np.ndenumerate(self.ds["status"].values):
            point = Point(runs[row], index, grid[index], axis)
            with decoding(f"status {_where(point)}"):
                yield row, point, Status(int(status))

    def nbytes(self) -> int:
        """The size of all values, before compression."""
        size = {name: self.ds.variables[name][0, 0].nbytes for name in self.large}
        at = {status: sum(size.get(name, 0) for name in self._promised(status)) for status in Status}
        return self.small.nbytes + sum(at[status] for _, _, status in self.points())

    def read_large(self, row: int, point: Point, status: Status) -> dict[str, NDArray[Any]]:
        """Read the large arrays of a grid point that its status promises.

        Raises
        ------
        CorruptStoreError
            If an array is damaged, or if the arrays do not agree with the digest of the grid point.
        """
        arrays = {}
        for name in self._promised(status):
            if name in self.large:
                with decoding(f"{name} {_where(point)}"):
                    arrays[name] = self.ds.variables[name][row, point.index].values
        if arrays and not self._are_intact(row, point, status, arrays):
            missing = [name for name in _NEVER_UNSET if name in arrays and np.isnan(arrays[name]).all()]
            files = ", ".join(self._file(name, point) for name in missing or arrays)
            raise CorruptStoreError(
                f"{files}: missing, damaged or replaced during the export, {_where(point)}: export again, or run "
                "`hesstore verify`"
            )
        return arrays

    def _file(self, name: str, point: Point) -> str:
        """The file of a large variable at a grid point, whose index in the store can differ from that in a part."""
        grid = grid_of(identity_of(self.ds.attrs))
        index = grid.index(point.value) if grid else point.index
        return chunk_file(BY_NAME[name], point.run.id, index)

    def _promised(self, status: Status) -> tuple[str, ...]:
        """The large arrays that a store has at a grid point with this status."""
        return promised_large(identity_of(self.ds.attrs), status)

    def _are_intact(self, row: int, point: Point, status: Status, arrays: dict[str, NDArray[Any]]) -> bool:
        """Whether the arrays agree with the digest or, if it also covers others, are finite where they must be."""
        # At a fitted grid point, the digest may already be that of the analysis: it is written before the status.
        is_covered = status == Status.COMPLETE and arrays.keys() == set(self._promised(status))
        if is_covered and "digest" in self.ds.variables:
            return int(self.ds["digest"].values[row, point.index]) == digest(point.run, point.value, arrays)
        if origin_of(self.ds.attrs).is_import:  # the files may have lacked them
            return True
        return all(np.isfinite(arrays[name]).all() for name in ("weights", "gradient") if name in arrays)


def _large(ds: xr.Dataset) -> list[str]:
    """The variables that are large in the schema and have all of their dimensions."""
    known = {name: variable.dims for name, variable in BY_NAME.items() if variable.is_large}
    return [str(name) for name in ds.data_vars if known.get(str(name)) == ds.variables[name].dims]


def _where(point: Point) -> str:
    return f"of run {point.run.id} at {point.text}"
