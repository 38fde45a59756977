"""Eigenvectors followed along λ, also through crossings of their eigenvalues."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy
import xarray as xr

from hesstore.analysis.attributes import scalar_coordinates, variable, with_attributes
from hesstore.analysis.eigenvectors import eigenvector_reader
from hesstore.analysis.selection import loss_unit
from hesstore.custom_code import calls_back
from hesstore.store.schema import axis_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from hesstore.analysis.eigenvectors import EigenvectorReader


@calls_back("progress")
def track(
    ds: xr.Dataset, run: int = 0, k: int | None = None, progress: Callable[[int, int], None] | None = None
) -> xr.Dataset:
    """Follow each of the first k eigenvectors along the complete grid points, in ascending λ.

    From one grid point to the next, tracks are matched to modes so that the sum of the squared overlaps ⟨v, v'⟩² is
    largest (the assignment problem). Any stored mode can be matched, so a track may leave the first k.

    Parameters
    ----------
    ds : Dataset
        A store.
    run : int
        Run ID.
    k : int, optional
        Number of tracks; by default all modes.
    progress : callable, optional
        Called with (grid points done, all grid points).

    Returns
    -------
    Dataset
        All variables have the dimensions (l2, track); tracks are numbered by their mode at the first grid point.
        ``mode`` is the mode of the track at the grid point, −1 if it has none, which happens only where the solver
        found fewer pairs than the store has room for; ``eigenvalue`` (nat) is the mode's eigenvalue; ``confidence``
        is the squared overlap of the mode's eigenvector with the last vector of the track, NaN at the first grid
        point; ``runner_up`` is the largest squared overlap of that last vector with any other mode.

    Raises
    ------
    AnalysisError
        If the run does not exist or has no complete grid point, or k is out of range.

    Notes
    -----
    Inside a cluster of nearly equal eigenvalues single vectors mean little: ``confidence`` is low there, and
    :func:`~hesstore.analysis.overlap` of the spans is more meaningful. Two grid points are in memory at a time.
    """
    vectors = eigenvector_reader(ds, run)
    tracks = _Tracks.empty(vectors.l2.size, vectors.checked_k(k), vectors.num_parameters)
    for index in range(vectors.l2.size):
        tracks.extend(index, vectors.read(index, vectors.num_modes))
        if progress:
            progress(index + 1, vectors.l2.size)
    return _as_dataset(tracks, vectors)


def _as_dataset(tracks: _Tracks, vectors: EigenvectorReader) -> xr.Dataset:
    axis = axis_of(vectors.part)
    dims = (axis, "track")
    eigenvalues = np.take_along_axis(vectors.eigenvalues, np.maximum(tracks.mode, 0), axis=1)
    values = np.where(tracks.mode >= 0, eigenvalues, np.nan)
    return with_attributes(
        xr.Dataset(
            {
                "mode": variable(dims, tracks.mode, "mode of the track; -1: none"),
                "eigenvalue": variable(dims, values, "eigenvalue of the track", loss_unit(vectors.part)),
                "confidence": variable(dims, tracks.confidence, "squared overlap with the track's last vector"),
                "runner_up": variable(
                    dims, tracks.runner_up, "largest squared overlap of the track's last vector with another mode"
                ),
            },
            coords={
                **scalar_coordinates(vectors.part),
                axis: vectors.part[axis].variable,
                "track": np.arange(tracks.mode.shape[1]),
            },
        )
    )


@dataclass(frozen=True)
class _Tracks:
    """The tracks so far: (grid points, tracks) results, and the last vector of each track, zero before its first."""

    mode: NDArray[np.int64]
    confidence: NDArray[np.float64]
    runner_up: NDArray[np.float64]
    last: NDArray[np.float32]

    @classmethod
    def empty(cls, count: int, k: int, num_parameters: int) -> _Tracks:
        shape = (count, k)
        unknown = np.full(shape, np.nan)
        return cls(np.full(shape, -1), unknown, unknown.copy(), np.zeros((k, num_parameters), np.float32))

    def extend(self, index: int, vectors: NDArray[np.float32]) -> None:
        """Match the (modes, P) vectors of the next grid point; rows of NaN are modes that the solver did not find."""
        is_found = np.isfinite(vectors[:, 0])
        squares = self._squared_overlaps(vectors, is_found)
        modes = np.arange(len(self.last)) if index == 0 else _matched_modes(squares)
        for row, mode in enumerate(modes):
            if is_found[mode]:
                self._link(index, row, int(mode), np.where(is_found, squares[row], np.nan))
                self.last[row] = vectors[mode]

    def _squared_overlaps(self, vectors: NDArray[np.float32], is_found: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return (tracks, modes) squared overlaps; 0 for a track without a vector and a mode that was not found."""
        squares = np.zeros((len(self.last), len(is_found)))
        found = vectors if is_found.all() else vectors[is_found]
        squares[:, is_found] = np.minimum(np.square(self.last @ found.T, dtype=np.float64), 1.0)
        return squares

    def _link(self, index: int, row: int, mode: int, squares: NDArray[np.float64]) -> None:
        self.mode[index, row] = mode
        if self.last[row].any():
            others = np.delete(squares, mode)
            self.confidence[index, row] = squares[mode]
            self.runner_up[index, row] = np.fmax.reduce(others, initial=np.nan)


def _matched_modes(squares: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the mode of each track."""
    modes: NDArray[np.intp] = scipy.optimize.linear_sum_assignment(squares, maximize=True)[1]
    return modes
