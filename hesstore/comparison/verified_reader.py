"""The values of a store at one λ after the other, held against their digests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from hesstore.errors import CorruptStoreError
from hesstore.store.chunk_files import chunk_file
from hesstore.store.digest import digest, entries_digest
from hesstore.store.identity import identity_of
from hesstore.store.schema import BY_NAME, Run, Status, promised_large, promised_small

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

Place = tuple[int, int]
"""Where a λ is: the position of its run, and its own."""
At = dict[str, "NDArray[Any]"]
"""The variables at one λ, each in the order of the schema's dimensions."""


@dataclass
class Reader:
    """Reads one complete λ at a time; files that have all λ of a run are read once a run.

    Parameters
    ----------
    ds : Dataset
        A whole store.
    called : str
        What errors call it.
    """

    ds: xr.Dataset
    called: str
    position: int = -1
    rows: At = field(default_factory=dict)

    def at(self, place: Place) -> At:
        """All variables at a λ; raises :class:`CorruptStoreError` if a file is damaged."""
        run, index = place
        if run != self.position:
            self.rows = {name: self._read(name, run) for name in BY_NAME if name in self.ds and not _is_large(name)}
            self.position = run
        large = {name: self._read(name, run, index) for name in BY_NAME if name in self.ds and _is_large(name)}
        return large | {name: np.asarray(row[index]) for name, row in self.rows.items()}

    def _read(self, name: str, *place: int) -> NDArray[Any]:
        variable = BY_NAME[name]
        chosen = dict(zip(("run", "l2"), place, strict=False))
        try:
            values: NDArray[Any] = self.ds[name].isel(chosen).transpose(*variable.dims[len(place) :]).values
        except (ValueError, RuntimeError, KeyError) as error:
            file = chunk_file(variable, *(*place, 0)[:2])
            raise CorruptStoreError(f"{self.called}: {file} is damaged ({error}): hesstore verify says more") from error
        if variable.dtype == "string":  # xarray reads NaN where there is none
            texts = [text if isinstance(text, str) else "" for text in values.ravel()]
            values = np.array(texts, dtype=object).reshape(values.shape)
        return values

    def contradicted(self, place: Place, values: At) -> tuple[str, ...]:
        """The variables whose common digest is not that of ``values``; none if the store lacks one that it covers."""
        position, index = place
        run = Run(position, int(self.ds["seed"].values[position]), str(self.ds["direction"].values[position]))
        l2, identity = float(self.ds["l2"].values[index]), identity_of(self.ds.attrs)
        arrays, entries = (covered(identity, Status.COMPLETE) for covered in (promised_large, promised_small))
        if values.keys() >= {*arrays, "digest"}:
            there = digest(run, l2, {name: values[name] for name in arrays})
            if there != int(values["digest"]):
                return arrays
        if values.keys() >= {*entries, "entries_digest"}:
            there = entries_digest(run, l2, Status.COMPLETE, {name: values[name] for name in entries})
            if there != int(values["entries_digest"]):
                return entries
        return ()


def check(readers: tuple[Reader, Reader], places: tuple[Place, Place], values: tuple[At, At]) -> None:
    """Raise :class:`CorruptStoreError` if what was read of either store at a λ is not what its digests say.

    A file that is missing reads as no values: it is named if the other store has some.
    """
    for own, other in ((0, 1), (1, 0)):
        reader, place = readers[own], places[own]
        covered = reader.contradicted(place, values[own])
        if not covered:
            continue
        lost = [name for name in covered if is_unset(name, values[own]) and not is_unset(name, values[other])]
        files = ", ".join(chunk_file(BY_NAME[name], *place) for name in lost)
        what = f"{files}: values are missing" if lost else f"one of {', '.join(covered)} is stale or missing"
        where = f"run {place[0]}, λ = {float(reader.ds['l2'].values[place[1]]):.10g}"
        raise CorruptStoreError(f"{reader.called}: {what}: not what the digest of {where} says: see hesstore verify")


def is_unset(name: str, values: At) -> bool:
    """Whether a variable has no values at a λ, or is not there: all read as what is not written does."""
    if name not in values:
        return True
    fill, array = BY_NAME[name].fill, values[name]
    return bool((np.isnan(array) if array.dtype.kind == "f" else array == fill).all())


def _is_large(name: str) -> bool:
    return BY_NAME[name].is_large
