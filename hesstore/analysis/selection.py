"""What may be read from a store that can have gaps: λ that are complete, and their eigenvectors one λ at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hesstore.errors import AnalysisError
from hesstore.store.schema import BY_NAME, SPLITS, Status

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

ASKING = {"response": "--response 0.1", "probes": "--probes 4", "density": "--density"}
"""The options of a sweep that ask for optional variables, by setting."""

Progress = Callable[[int, int], None]
"""Is told (done, total)."""


def complete(ds: xr.Dataset, run: int = 0) -> xr.Dataset:
    """One run at its complete λ alone.

    Parameters
    ----------
    ds : Dataset
        A store.
    run : int
        Run ID.

    Returns
    -------
    Dataset
        ``ds`` without the dimension run, ``l2`` ascending. Nothing large is read.

    Raises
    ------
    AnalysisError
        If the run is not there, or no λ of it is complete.
    """
    part = ds.isel(run=run_position(ds, run))
    there = np.flatnonzero(part["status"].values == Status.COMPLETE)
    if not there.size:
        raise AnalysisError(f"no λ of run {run} is complete: run the sweep first")
    first, last = int(there[0]), int(there[-1])
    has_gaps = last - first + 1 > there.size
    return part.isel(l2=there if has_gaps else slice(first, last + 1))  # a slice of what is in memory is no copy


def complete_of(ds: xr.Dataset, run: int, *names: str) -> xr.Dataset:
    """The variables ``names`` of :func:`complete`, whose large arrays are not copied if they are in memory."""
    require(ds, *names, "status")
    return complete(ds[[*names, "status"]], run)[[*names]]


def run_position(ds: xr.Dataset, run: int) -> int:
    """Where ``run`` is along the dimension run."""
    require(ds, "status")
    if "run" not in ds.dims:
        raise AnalysisError("the Dataset has no dimension run: pass the whole store, not one run of it")
    found = np.flatnonzero(ds["run"].values == run)
    if not found.size:
        raise AnalysisError(f"run {run} is not in the store: it has {', '.join(map(str, ds['run'].values))}")
    return int(found[0])


def require(ds: xr.Dataset, *names: str) -> None:
    """Raise AnalysisError if ``ds`` lacks a variable."""
    missing = [name for name in names if name not in ds]
    if missing:
        settings = {BY_NAME[name].setting for name in missing if name in BY_NAME} - {""}
        if settings and "schema_version" in ds.attrs:
            options = " ".join(ASKING[setting] for setting in sorted(settings))
            raise AnalysisError(
                f"the store has no {', '.join(missing)}, because its config does not ask for it: "
                f"`hesstore sweep STORE … {options} --grow`, with its other settings, records it"
            )
        raise AnalysisError(f"the Dataset has no {', '.join(missing)}: pass a whole store")


def require_split(split: str) -> None:
    """Raise AnalysisError if ``split`` is not a part of the data."""
    if split not in SPLITS:
        raise AnalysisError(f"split is {split!r}: choose from {', '.join(SPLITS)}")


def position_of(l2: NDArray[np.float64], value: float, run: int) -> int:
    """Where the strength ``value`` is in ``l2``, the complete ones of ``run``; rounding does not matter."""
    found = np.flatnonzero(np.isclose(l2, value, rtol=1e-9, atol=1e-12))
    if not found.size:
        nearest = l2[np.abs(l2 - value).argmin()] if np.isfinite(value) else l2[0]
        raise AnalysisError(f"λ = {value:g} is not among the {l2.size} complete λ of run {run}: try {nearest:g}")
    return int(found[0])


def evenly_spaced(count: int, most: int) -> NDArray[np.intp]:
    """At most ``most`` indices below ``count``, evenly spaced, the first and the last among them; ascending."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(np.intp)) if count else np.arange(0)


@dataclass(frozen=True)
class Vectors:
    """The eigenvectors of one run at its complete λ, read one λ at a time.

    Parameters
    ----------
    array : DataArray
        ``eigenvectors`` of the store: indexed once a read, which is what keeps lazy arrays quick.
    run : int
        Position of the run.
    positions : ndarray
        (n,) where the complete λ are along l2.
    part : Dataset
        The eigenvalues of the run at these λ, NaN where the solver found no pair, and their coordinates.
    """

    array: xr.DataArray
    run: int
    positions: NDArray[np.intp]
    part: xr.Dataset

    @property
    def l2(self) -> NDArray[np.float64]:
        """(n,) the complete λ."""
        strengths: NDArray[np.float64] = self.part["l2"].values
        return strengths

    @property
    def eigenvalues(self) -> NDArray[np.float64]:
        """(n, modes)."""
        values: NDArray[np.float64] = self.part["eigenvalues"].transpose("l2", "mode").values
        return values

    @property
    def modes(self) -> int:
        """Pairs that a λ has room for."""
        return self.array.sizes["mode"]

    @property
    def parameters(self) -> int:
        """P."""
        return self.array.sizes["param"]

    @property
    def found(self) -> NDArray[np.intp]:
        """(n,) pairs at each λ before the first that the solver did not find."""
        there = np.isfinite(self.eigenvalues)
        return np.where(there.all(1), self.modes, there.argmin(1))

    def at(self, index: int, k: int) -> NDArray[np.float32]:
        """(k, P) the first k eigenvectors at the complete λ of that index. Not to be written to."""
        where = {"run": self.run, "l2": int(self.positions[index]), "mode": slice(k)}
        vectors: NDArray[np.float32] = self.array.isel(where).transpose("mode", "param").values
        return vectors.astype(np.float32, copy=False)

    def limited(self, k: int | None) -> int:
        """``k`` after a check; by default all modes."""
        if k is None:
            return self.modes
        if not 1 <= k <= self.modes:
            raise AnalysisError(f"k = {k}, but the store has {self.modes} modes: choose from 1 to {self.modes}")
        return int(k)


def vectors_of(ds: xr.Dataset, run: int = 0) -> Vectors:
    """A reader of the eigenvectors of ``run``; raises what :func:`complete` raises."""
    require(ds, "eigenvectors", "eigenvalues")
    part = complete_of(ds, run, "eigenvalues").load()
    positions = np.searchsorted(ds["l2"].values, part["l2"].values)
    return Vectors(ds["eigenvectors"], run_position(ds, run), positions, part)
