"""Eigenvectors followed along λ, through crossings of their eigenvalues."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy
import xarray as xr

from hesstore.analysis.labels import described, entry, scalars
from hesstore.analysis.selection import vectors_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hesstore.analysis.selection import Progress, Vectors


def track(ds: xr.Dataset, run: int = 0, k: int | None = None, progress: Progress | None = None) -> xr.Dataset:
    """Follow each of the first k eigenvectors along the complete λ, ascending.

    From one λ to the next, tracks are matched to modes so that the sum of the squared overlaps ⟨v, v'⟩² is largest
    (the assignment problem). Any stored mode can be matched, so a track may leave the first k.

    Parameters
    ----------
    ds : Dataset
        A store.
    run : int
        Run ID.
    k : int, optional
        Number of tracks; by default all modes.
    progress : callable, optional
        Is told (λ done, all λ).

    Returns
    -------
    Dataset
        Each (l2, track), tracks numbered by their mode at the first λ. ``mode``: which mode the track is at, −1 where
        it is at none, which happens only where the solver found fewer pairs than the store has room for;
        ``eigenvalue``, nat; ``confidence``: squared overlap of the link that leads there from the track's last
        vector, NaN at the first λ; ``runner_up``: the largest squared overlap of that vector with another mode.

    Raises
    ------
    AnalysisError
        If the run is not there, no λ is complete, or k is out of range.

    Notes
    -----
    Inside a cluster of nearly equal eigenvalues single vectors mean little: there ``confidence`` is low, and
    :func:`~hesstore.analysis.overlap` of the spans is the better question. Two λ are in memory at a time.
    """
    vectors = vectors_of(ds, run)
    tracks = _Tracks.empty(vectors.l2.size, vectors.limited(k), vectors.parameters)
    for index in range(vectors.l2.size):
        tracks.extend(index, vectors.at(index, vectors.modes))
        if progress:
            progress(index + 1, vectors.l2.size)
    return _as_dataset(tracks, vectors)


def _as_dataset(tracks: _Tracks, vectors: Vectors) -> xr.Dataset:
    dims = ("l2", "track")
    followed = np.take_along_axis(vectors.eigenvalues, np.maximum(tracks.mode, 0), axis=1)
    values = np.where(tracks.mode >= 0, followed, np.nan)
    return described(
        xr.Dataset(
            {
                "mode": entry(dims, tracks.mode, "mode of the track; -1: none"),
                "eigenvalue": entry(dims, values, "eigenvalue of the track", "nat"),
                "confidence": entry(dims, tracks.confidence, "squared overlap with the track's last vector"),
                "runner_up": entry(
                    dims, tracks.runner_up, "largest squared overlap of the track's last vector with another mode"
                ),
            },
            coords={
                **scalars(vectors.part),
                "l2": vectors.part["l2"].variable,
                "track": np.arange(tracks.mode.shape[1]),
            },
        )
    )


@dataclass(frozen=True)
class _Tracks:
    """What :func:`track` has found so far, and the last vector of each track: zeros before it has one."""

    mode: NDArray[np.int64]
    confidence: NDArray[np.float64]
    runner_up: NDArray[np.float64]
    last: NDArray[np.float32]

    @classmethod
    def empty(cls, count: int, k: int, parameters: int) -> _Tracks:
        shape = (count, k)
        nothing = np.full(shape, np.nan)
        return cls(np.full(shape, -1), nothing, nothing.copy(), np.zeros((k, parameters), np.float32))

    def extend(self, index: int, vectors: NDArray[np.float32]) -> None:
        """Match the (modes, P) vectors of the next λ; rows of NaN are modes that were not found."""
        there = np.isfinite(vectors[:, 0])
        squares = self._squares(vectors, there)
        slots = np.arange(len(self.last)) if index == 0 else _matched(squares)
        for row, slot in enumerate(slots):
            if there[slot]:
                self._link(index, row, int(slot), np.where(there, squares[row], np.nan))
                self.last[row] = vectors[slot]

    def _squares(self, vectors: NDArray[np.float32], there: NDArray[np.bool_]) -> NDArray[np.float64]:
        """(tracks, modes) squared overlaps; 0 where either is not there."""
        squares = np.zeros((len(self.last), len(there)))
        found = vectors if there.all() else vectors[there]
        squares[:, there] = np.minimum(np.square(self.last @ found.T, dtype=np.float64), 1.0)
        return squares

    def _link(self, index: int, row: int, slot: int, squares: NDArray[np.float64]) -> None:
        self.mode[index, row] = slot
        if self.last[row].any():
            others = np.delete(squares, slot)
            self.confidence[index, row] = squares[slot]
            self.runner_up[index, row] = np.fmax.reduce(others, initial=np.nan)


def _matched(squares: NDArray[np.float64]) -> NDArray[np.intp]:
    """The mode of each track."""
    slots: NDArray[np.intp] = scipy.optimize.linear_sum_assignment(squares, maximize=True)[1]
    return slots
