"""Reads the values of a store at one grid point after the other, and checks them against their digests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from hesstore.errors import CorruptStoreError
from hesstore.store.chunk_files import chunk_file
from hesstore.store.decoding import decoding
from hesstore.store.digest import digest, entries_digest
from hesstore.store.identity import identity_of
from hesstore.store.schema import BY_NAME, Point, Status, axis_of, promised_large, promised_small

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

PointValues = dict[str, "NDArray[Any]"]
"""The variables at one grid point, by name; each has its dimensions in the order of the schema."""


@dataclass
class Reader:
    """Reads one complete grid point at a time; small variables are read once for each run.

    Parameters
    ----------
    ds : Dataset
        A whole store.
    name : str
        How error messages name the store.
    """

    ds: xr.Dataset
    name: str
    _run: int | None = field(default=None, init=False)
    _small: PointValues = field(default_factory=dict, init=False)

    def read(self, point: Point) -> PointValues:
        """Read all variables at a grid point.

        Raises
        ------
        CorruptStoreError
            If a file is damaged.
        """
        if point.run.id != self._run:
            self._small = {
                variable: self._read(variable, point.run.id)
                for variable in BY_NAME
                if variable in self.ds and not BY_NAME[variable].is_large
            }
            self._run = point.run.id
        large = {
            variable: self._read(variable, point.run.id, point.index)
            for variable in BY_NAME
            if variable in self.ds and BY_NAME[variable].is_large
        }
        return large | {variable: np.asarray(row[point.index]) for variable, row in self._small.items()}

    def _read(self, name: str, run: int, index: int | None = None) -> NDArray[Any]:
        """The values of a variable in a run, at one λ or along the whole grid."""
        variable = BY_NAME[name].along(axis_of(self.ds))
        array, dims = self.ds[name].sel(run=run), variable.dims[1:]
        if index is not None:
            array, dims = array.isel({axis_of(self.ds): index}), dims[1:]
        with decoding(f"{self.name}: {chunk_file(variable, run, index or 0)}"):
            values: NDArray[Any] = array.transpose(*dims).values
        if variable.dtype == "string":  # xarray reads NaN where there is no text
            texts = [text if isinstance(text, str) else "" for text in values.ravel()]
            values = np.array(texts, dtype=object).reshape(values.shape)
        return values

    def contradicted_variables(self, point: Point, values: PointValues) -> tuple[str, ...]:
        """The variables whose common digest in the store is not the digest of ``values``.

        Empty if the digests agree, or if the store lacks a variable that they cover.
        """
        identity = identity_of(self.ds.attrs)
        arrays, entries = (covered(identity, Status.COMPLETE) for covered in (promised_large, promised_small))
        if values.keys() >= {*arrays, "digest"}:
            expected = digest(point.run, point.value, {name: values[name] for name in arrays})
            if expected != int(values["digest"]):
                return arrays
        if values.keys() >= {*entries, "entries_digest"}:
            expected = entries_digest(point.run, point.value, Status.COMPLETE, {name: values[name] for name in entries})
            if expected != int(values["entries_digest"]):
                return entries
        return ()


def check_digests(
    readers: tuple[Reader, Reader], points: tuple[Point, Point], values: tuple[PointValues, PointValues]
) -> None:
    """Check the values of both stores at a common grid point against the digests in the stores.

    A missing file reads as unset values: it is named if the other store has values.

    Raises
    ------
    CorruptStoreError
        If the values of a store contradict its digests.
    """
    for own, other in ((0, 1), (1, 0)):
        reader, point = readers[own], points[own]
        covered = reader.contradicted_variables(point, values[own])
        if not covered:
            continue
        lost = [name for name in covered if is_unset(name, values[own]) and not is_unset(name, values[other])]
        files = ", ".join(chunk_file(BY_NAME[name], point.run.id, point.index) for name in lost)
        what = f"{files}: values are missing" if lost else f"one of {', '.join(covered)} is stale or missing"
        raise CorruptStoreError(
            f"{reader.name}: {what}: this contradicts the digest of run {point.run.id}, {point.text}: "
            "see hesstore verify"
        )


def is_unset(name: str, values: PointValues) -> bool:
    """Whether a variable has no values at a grid point, or does not exist in the store.

    An array that was never written reads as fill values.
    """
    if name not in values:
        return True
    fill, array = BY_NAME[name].fill, values[name]
    return bool((np.isnan(array) if array.dtype.kind == "f" else array == fill).all())
