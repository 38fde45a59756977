"""What of a store is exported: its complete λ, or those of them that were asked for, and how they are read."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from hesstore.config.l2_grid import L2_DECIMALS
from hesstore.errors import CorruptStoreError, ExportError
from hesstore.store.origin import origin_of
from hesstore.store.schema import Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    import xarray as xr
    from numpy.typing import NDArray

Cell = tuple[int, int]
"""A λ of a run: the run's ID, and the place of λ on the grid."""

_FINITE = frozenset({"weights", "gradient", "loss", "penalty"})


@dataclass(frozen=True)
class PointSelection:
    """The λ to export.

    Attributes
    ----------
    ds : Dataset
        The store.
    cells : tuple of (int, int)
        Run ID and place on the grid of each complete λ that was asked for.
    skipped : tuple of (int, float)
        Run ID and λ of those asked for that are not complete.
    """

    ds: xr.Dataset
    cells: tuple[Cell, ...]
    skipped: tuple[tuple[int, float], ...]

    @classmethod
    def of(cls, ds: xr.Dataset, runs: Sequence[int] | None, l2: Sequence[float] | None) -> PointSelection:
        """The complete λ among the chosen.

        Raises
        ------
        ExportError
            If a run or λ is not there, or none is complete.
        """
        status = read(ds["status"])
        position = {int(run): place for place, run in enumerate(ds["run"].values)}
        cells = [(run, index) for run in chosen_runs(ds, runs) for index in chosen_l2(ds, l2)]
        complete = [(run, index) for run, index in cells if status[position[run], index] == Status.COMPLETE]
        if not complete:
            raise ExportError(f"none of the {len(cells)} chosen λ is complete: run the sweep first")
        left = set(cells) - set(complete)
        skipped = tuple((run, float(ds["l2"].values[index])) for run, index in cells if (run, index) in left)
        return cls(ds, tuple(complete), skipped)

    @property
    def is_import(self) -> bool:
        """Whether the store was imported from files, so that numbers may be missing."""
        return origin_of(self.ds.attrs).is_import

    def having(self, kind: str) -> tuple[Cell, ...]:
        """The λ that have files of a kind: all of them, but in a store that was imported from files."""
        absent = origin_of(self.ds.attrs).absent(kind)
        return tuple((run, index) for run, index in self.cells if (run, self.grid[index]) not in absent)

    def source(self, cells: Sequence[Cell]) -> str:
        """What changes when any number of these λ does: a digest of their digests, and of the sizes of the arrays."""
        sizes = {str(name): length for name, length in self.ds.sizes.items() if name not in {"run", "l2"}}
        state = hashlib.blake2b(repr(sorted(sizes.items())).encode(), digest_size=8)
        for run, index in cells:
            numbers = [int(digest[self._position[run], index]) for digest in self._digests]
            state.update(f"|{run}|{self.grid[index]!r}|{numbers}".encode())
        return state.hexdigest()

    @cached_property
    def grid(self) -> list[float]:
        """All λ."""
        values: list[float] = self.ds["l2"].values.tolist()
        return values

    @cached_property
    def _position(self) -> dict[int, int]:
        return {int(run): place for place, run in enumerate(self.ds["run"].values)}

    @cached_property
    def _digests(self) -> list[NDArray[np.uint64]]:
        return [read(self.ds[name]) for name in ("digest", "entries_digest")]

    def array(self, name: str, cell: Cell) -> xr.DataArray:
        """One variable at one λ; nothing is read yet."""
        run, index = cell
        return self.ds[name].sel(run=run)[index]


def read(array: xr.DataArray, *, gaps: bool = False) -> NDArray[Any]:
    """The values of ``array``; ``gaps`` says that an import may lack some.

    Raises
    ------
    CorruptStoreError
        If a chunk is damaged, or what must be finite is not: a missing chunk reads as NaN.
    """
    try:
        values: NDArray[Any] = array.values
    except (ValueError, RuntimeError) as error:
        raise CorruptStoreError(f"{array.name}: {error}") from error
    if not gaps and array.name in _FINITE and not np.isfinite(values).all():
        where = ", ".join(f"{name} {array[name].values}" for name in ("run", "l2") if name in array.coords)
        raise CorruptStoreError(f"{array.name} at {where}: missing or damaged")
    return values


def chosen_runs(ds: xr.Dataset, runs: Sequence[int] | None) -> list[int]:
    """IDs of the runs, all by default; raises :class:`ExportError` for one that is not there."""
    there = [int(run) for run in ds["run"].values]
    missing = [run for run in runs or () if run not in there]
    if missing:
        raise ExportError(f"run {missing[0]} is not in the store: it has {', '.join(map(str, there))}")
    return list(dict.fromkeys(runs)) if runs else there


def chosen_l2(ds: xr.Dataset, l2: Sequence[float] | None) -> list[int]:
    """Places of the λ on the grid, all by default; raises :class:`ExportError` for one that is not there."""
    grid = ds["l2"].values
    if l2 is None:
        return list(range(len(grid)))
    chosen = []
    for value in l2:
        hits = np.flatnonzero(grid == round(value, L2_DECIMALS))
        if not len(hits):
            nearest = grid[np.abs(grid - value).argmin()]
            raise ExportError(f"λ = {value:g} is not in the store: the nearest is {nearest:.10g}")
        chosen.append(int(hits[0]))
    return sorted(set(chosen))
