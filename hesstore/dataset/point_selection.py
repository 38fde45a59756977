"""The grid points of a store that are exported, and functions that read their results.

Only complete grid points are exported: all of them, or those of the runs and λ that the user chose.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from hesstore.config.l2_grid import L2_DECIMALS, value_text
from hesstore.errors import CorruptStoreError, ExportError
from hesstore.store.chunk_files import chunk_file
from hesstore.store.decoding import decoding
from hesstore.store.digest import PointDigest
from hesstore.store.identity import identity_of
from hesstore.store.import_origin import origin_of
from hesstore.store.reading import CHECKED
from hesstore.store.schema import BY_NAME, LOWEST, Point, Run, Status, axis_of, promised_large

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import xarray as xr
    from numpy.typing import NDArray

_FINITE = frozenset({"weights", "statistics", "gradient", "loss", "penalty"})


@dataclass(frozen=True)
class PointSelection:
    """The grid points of a store to export.

    Attributes
    ----------
    ds : Dataset
        The store.
    points : tuple of Point
        The complete grid points among the chosen ones, run by run, each in the order of the grid.
    skipped : tuple of (int, float)
        Run ID and λ of the chosen grid points that are not complete.
    """

    ds: xr.Dataset
    points: tuple[Point, ...]
    skipped: tuple[tuple[int, float], ...]
    _compared: set[Point] = field(default_factory=set, init=False, repr=False, compare=False)

    @classmethod
    def of(cls, ds: xr.Dataset, runs: Sequence[int] | None, l2: Sequence[float] | None) -> PointSelection:
        """Select the complete grid points of the chosen runs and λ.

        Parameters
        ----------
        ds : Dataset
            The store.
        runs : sequence of int, optional
            IDs of the chosen runs; all runs by default.
        l2 : sequence of float, optional
            The chosen λ; the whole grid by default.

        Raises
        ------
        ExportError
            If the store does not have a chosen run or λ, or if none of the chosen grid points is complete.
        CorruptStoreError
            If the status is damaged.
        """
        status = read(ds["status"])
        axis = axis_of(ds)
        grid: list[float] = ds[axis].values.tolist()
        rows = _rows(ds)
        complete, skipped = [], []
        for run in chosen_runs(ds, runs):
            row = rows[run]
            named = Run(run, int(ds["seed"].values[row]), str(ds["direction"].values[row]))
            for index in chosen_l2(ds, l2):
                if status[row, index] == Status.COMPLETE:
                    complete.append(Point(named, index, grid[index], axis))
                else:
                    skipped.append((run, grid[index]))
        if not complete:
            raise ExportError(f"none of the {len(skipped)} chosen grid points is complete: run the sweep first")
        return cls(ds, tuple(complete), tuple(skipped))

    @property
    def is_import(self) -> bool:
        """Whether the store was imported from files, so that values may be missing."""
        return origin_of(self.ds.attrs).is_import

    def points_with(self, kind: str) -> tuple[Point, ...]:
        """The selected grid points that have a file of the given kind.

        Only an import can lack files: in the store of a sweep these are all points. No file that can be imported
        contains the lowest eigenvectors.
        """
        origin = origin_of(self.ds.attrs)
        if kind == LOWEST.eigenvectors:
            return tuple(point for point in self.points if not origin.is_as_imported(point.run.id, point.value))
        absent = origin.absent(kind)
        return tuple(point for point in self.points if (point.run.id, point.value) not in absent)

    def source(self, points: Sequence[Point]) -> str:
        """A checksum of the results at ``points``: it changes with any of their numbers.

        It is computed from the digests that the store has of each grid point, and from the sizes of the arrays.
        """
        sizes = {str(name): length for name, length in self.ds.sizes.items() if name not in {"run", axis_of(self.ds)}}
        state = hashlib.blake2b(repr(sorted(sizes.items())).encode(), digest_size=8)
        for point in points:
            numbers = [int(digest[self._row_of_run[point.run.id], point.index]) for digest in self._digests]
            state.update(f"|{point.run.id}|{point.value!r}|{numbers}".encode())
        return state.hexdigest()

    @cached_property
    def _row_of_run(self) -> dict[int, int]:
        return _rows(self.ds)

    @cached_property
    def _digests(self) -> list[NDArray[np.uint64]]:
        return [read(self.ds[name]) for name in ("digest", "entries_digest")]

    def array(self, name: str, point: Point) -> xr.DataArray:
        """The variable ``name`` at one grid point; nothing is read yet."""
        return self.ds[name].sel(run=point.run.id)[point.index]

    def weights(self, point: Point) -> NDArray[np.float32]:
        """The weights (P,) at one grid point, whose norm is compared with the recorded one.

        Raises
        ------
        CorruptStoreError
            If they are missing, damaged, or those of another grid point.
        """
        weights: NDArray[np.float32] = read(self.array("weights", point))
        if self._can_be_checked and not origin_of(self.ds.attrs).is_as_imported(point.run.id, point.value):
            recorded = float(self.ds["weights_norm"].values[self._row_of_run[point.run.id], point.index])
            if not np.isclose(np.linalg.norm(weights.astype(np.float64)), recorded, rtol=1e-6, atol=0):
                raise CorruptStoreError(self._other_values(["weights"], point))
        return weights

    def blocks(self, name: str, point: Point, rows: int) -> Iterator[NDArray[Any]]:
        """Read a large variable at one grid point in blocks of ``rows`` rows.

        All large variables there are read, one block at a time, and compared with their digest, unless they were
        before.

        Raises
        ------
        CorruptStoreError
            If a value is missing, damaged, or not the one that was recorded; after the last block.
        """
        covered = promised_large(identity_of(self.ds.attrs), Status.COMPLETE)
        is_covered = self._can_be_checked and all(each in self.ds for each in covered) and point not in self._compared
        state = PointDigest(point.run, point.value)
        for each in sorted(covered) if is_covered else (name,):
            array = self.array(each, point)
            state.begin(each, array.shape, array.dtype)
            step = rows if each == name else max(1, len(array))
            for first in range(0, len(array), step):
                values = read(array[first : first + step], gaps=self.is_import)
                state.add(values)
                if each == name:
                    yield values
        if is_covered and state.value() != int(self._digests[0][self._row_of_run[point.run.id], point.index]):
            raise CorruptStoreError(self._other_values(covered, point))
        if is_covered:
            self._compared.add(point)

    @property
    def _can_be_checked(self) -> bool:
        """Whether the Dataset is a whole store, so that its values are those that digests cover."""
        return bool(self.ds.encoding.get(CHECKED))

    @staticmethod
    def _other_values(names: Iterable[str], point: Point) -> str:
        files = ", ".join(chunk_file(BY_NAME[name], point.run.id, point.index) for name in names)
        return (
            f"run {point.run.id} at {value_text(point.axis, point.value)}: the values of {files} are not those that "
            "were recorded: `hesstore verify` lists all damage"
        )


def _rows(ds: xr.Dataset) -> dict[int, int]:
    """The position of each run along the dimension ``run``, by its ID."""
    return {int(run): row for row, run in enumerate(ds["run"].values)}


def read(array: xr.DataArray, *, gaps: bool = False) -> NDArray[Any]:
    """Read the values of ``array``.

    Parameters
    ----------
    array : DataArray
        A variable of a store, or a part of it.
    gaps : bool
        Whether values may be missing, as in an import.

    Raises
    ------
    CorruptStoreError
        If a chunk is damaged, or if values that must be finite are not: a missing chunk reads as NaN.
    """
    with decoding(str(array.name)):
        values: NDArray[Any] = array.values
    if not gaps and array.name in _FINITE and not np.isfinite(values).all():
        where = ", ".join(f"{name} {array[name].values}" for name in ("run", axis_of(array)) if name in array.coords)
        raise CorruptStoreError(f"{array.name} at {where}: missing or damaged")
    return values


def chosen_runs(ds: xr.Dataset, runs: Sequence[int] | None) -> list[int]:
    """The IDs of the chosen runs, all runs by default.

    Raises
    ------
    ExportError
        If the store does not have one of them.
    """
    existing = [int(run) for run in ds["run"].values]
    missing = [run for run in runs or () if run not in existing]
    if missing:
        raise ExportError(f"run {missing[0]} is not in the store: it has {', '.join(map(str, existing))}")
    return list(dict.fromkeys(runs)) if runs else existing


def chosen_l2(ds: xr.Dataset, l2: Sequence[float] | None) -> list[int]:
    """The indices of the chosen λ on the grid, in ascending order; the whole grid by default.

    Raises
    ------
    ExportError
        If a λ is not on the grid of the store.
    """
    grid = ds[axis_of(ds)].values
    if l2 is None:
        return list(range(len(grid)))
    chosen = []
    for value in l2:
        hits = np.flatnonzero(grid == round(value, L2_DECIMALS))
        if not len(hits):
            nearest = grid[np.abs(grid - value).argmin()]
            raise ExportError(f"{value_text(axis_of(ds), value)} is not in the store: the nearest is {nearest:.10g}")
        chosen.append(int(hits[0]))
    return sorted(set(chosen))
