"""A reader of the eigenvectors of one run, one grid point at a time: those of a whole run do not fit in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hesstore.analysis.selection import complete_variables, require_variables, run_position
from hesstore.errors import AnalysisError
from hesstore.store.schema import axis_of

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray


@dataclass(frozen=True)
class EigenvectorReader:
    """The eigenvectors of one run at its complete grid points.

    Parameters
    ----------
    array : DataArray
        ``eigenvectors`` of the store. Each read indexes it once, which keeps lazy arrays fast.
    run : int
        Position of the run along the dimension run.
    positions : ndarray
        (n,) positions of the complete grid points along ``l2``.
    part : Dataset
        The eigenvalues of the run at these grid points, NaN where the solver found no pair, and their coordinates.
    """

    array: xr.DataArray
    run: int
    positions: NDArray[np.intp]
    part: xr.Dataset

    @property
    def l2(self) -> NDArray[np.float64]:
        """(n,) the values of the grid at the complete grid points, λ in a sweep."""
        values: NDArray[np.float64] = self.part[axis_of(self.part)].values
        return values

    @property
    def eigenvalues(self) -> NDArray[np.float64]:
        """(n, modes)."""
        values: NDArray[np.float64] = self.part["eigenvalues"].transpose(axis_of(self.part), "mode").values
        return values

    @property
    def num_modes(self) -> int:
        """The number of pairs for which a grid point has room."""
        return self.array.sizes["mode"]

    @property
    def num_parameters(self) -> int:
        """The number of parameters P."""
        return self.array.sizes["param"]

    @property
    def num_found(self) -> NDArray[np.intp]:
        """(n,) number of pairs at each grid point before the first one that the solver did not find."""
        is_found = np.isfinite(self.eigenvalues)
        return np.where(is_found.all(1), self.num_modes, is_found.argmin(1))

    def read(self, index: int, k: int) -> NDArray[np.float32]:
        """Return the first k eigenvectors (k, P) at the complete grid point ``index``; do not write to them."""
        where = {"run": self.run, axis_of(self.part): int(self.positions[index]), "mode": slice(k)}
        vectors: NDArray[np.float32] = self.array.isel(where).transpose("mode", "param").values
        return vectors.astype(np.float32, copy=False)

    def checked_k(self, k: int | None) -> int:
        """Return ``k`` after a check of its range, or the number of modes for None."""
        if k is None:
            return self.num_modes
        if not 1 <= k <= self.num_modes:
            raise AnalysisError(f"k = {k}, but the store has {self.num_modes} modes: choose from 1 to {self.num_modes}")
        return int(k)


def eigenvector_reader(ds: xr.Dataset, run: int = 0) -> EigenvectorReader:
    """Return a reader of the eigenvectors of ``run``.

    Raises
    ------
    AnalysisError
        If the run does not exist, has no complete grid point, or the store has no eigenvectors.
    """
    axis = axis_of(ds)
    require_variables(ds, "eigenvectors", "eigenvalues")
    part = complete_variables(ds, run, "eigenvalues").load()
    positions = np.searchsorted(ds[axis].values, part[axis].values)
    return EigenvectorReader(ds["eigenvectors"], run_position(ds, run), positions, part)
