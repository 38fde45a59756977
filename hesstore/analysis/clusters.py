"""Clusters of nearly equal eigenvalues, followed along λ: their spans are defined where single eigenvectors are not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import scipy
import xarray as xr

from hesstore.analysis.attributes import scalar_coordinates, variable, with_attributes
from hesstore.analysis.eigenvectors import eigenvector_reader
from hesstore.analysis.selection import loss_unit
from hesstore.analysis.spectral_measures import ZERO
from hesstore.custom_code import calls_back
from hesstore.errors import AnalysisError
from hesstore.store.schema import axis_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from hesstore.analysis.eigenvectors import EigenvectorReader

SHARED = 0.5
"""A track continues if its cluster shares at least this part of the smaller one's dimensions with the next cluster."""


@calls_back("progress")
def clusters(
    ds: xr.Dataset,
    run: int = 0,
    k: int | None = None,
    gap: float = 0.05,
    progress: Callable[[int, int], None] | None = None,
) -> xr.Dataset:
    """Group the first k eigenvalues into clusters, and follow the spans of their eigenvectors in ascending λ.

    Two neighbouring eigenvalues belong to the same cluster if they differ by at most ``gap`` times the larger of their
    magnitudes, or if both are zero to rounding. An eigenvector is determined only up to a rotation within such a
    cluster, by an error of about its residual norm divided by the gap (Davis & Kahan 1970); the span of the cluster is
    determined well. From one grid point to the next, clusters A and B are matched one to one so that the sum of their
    shared dimensions ‖V_A V_Bᵀ‖_F² is largest (the assignment problem).

    Parameters
    ----------
    ds : Dataset
        A store.
    run : int
        Run ID.
    k : int, optional
        Number of eigenvectors; by default all modes.
    gap : float
        The relative gap that separates clusters; at least 0 and below 1.
    progress : callable, optional
        Called with (grid points done, all grid points).

    Returns
    -------
    Dataset
        All variables have the dimensions (l2, mode). ``track`` is the number of the track to which the mode's cluster
        belongs, −1 for a mode that was not found; ``size`` is the number of modes of the cluster; ``eigenvalue`` (nat)
        is the eigenvalue of the mode. ``overlap`` = ‖V_A V_Bᵀ‖_F²/min(a, b) compares the cluster with that of the same
        track at the previous grid point, for clusters of a and b modes, and ``principal_angle`` (rad) is the largest of
        their min(a, b) principal angles. Both are NaN where a track begins. If two clusters merge, one track continues
        and the other one ends; if a cluster splits, a new track begins.

    Raises
    ------
    AnalysisError
        If the run does not exist or has no complete grid point, or an argument is out of range.

    Notes
    -----
    A cluster that contains the last of the k modes may continue beyond them. Its span is then arbitrary, and its track
    is short. Principal angles have an error of about 5e-4, because the vectors are rounded to float32.
    """
    if not 0 <= gap < 1:
        raise AnalysisError(f"gap = {gap:g}: it must be at least 0 and below 1")
    vectors = eigenvector_reader(ds, run)
    k = vectors.checked_k(k)
    tracks = _ClusterTracks.empty(vectors.l2.size, k)
    for index in range(vectors.l2.size):
        groups = group(vectors.eigenvalues[index, :k], gap)
        tracks.extend(index, groups, vectors.read(index, k))
        if progress:
            progress(index + 1, vectors.l2.size)
    return _as_dataset(tracks, vectors, k)


def group(eigenvalues: NDArray[np.float64], gap: float) -> list[NDArray[np.intp]]:
    """Return the modes of each cluster of (k,) eigenvalues, from the largest one on; NaN belong to none."""
    order = np.argsort(-eigenvalues, kind="stable")[: int(np.isfinite(eigenvalues).sum())]
    if not order.size:
        return []
    values = eigenvalues[order]
    scale = np.maximum(np.abs(values[1:]), np.abs(values[:-1]))
    is_gap = values[:-1] - values[1:] > np.maximum(gap * scale, ZERO * np.abs(values).max())
    return [np.sort(members) for members in np.split(order, np.flatnonzero(is_gap) + 1)]


@dataclass
class _ClusterTracks:
    """The results so far (grid points, modes), and the span and number of each cluster at the last grid point."""

    track: NDArray[np.int64]
    size: NDArray[np.int64]
    overlap: NDArray[np.float64]
    angle: NDArray[np.float64]
    last: list[tuple[int, NDArray[np.float32]]] = field(default_factory=list)
    begun: int = 0

    @classmethod
    def empty(cls, count: int, k: int) -> _ClusterTracks:
        unknown = np.full((count, k), np.nan)
        return cls(np.full((count, k), -1), np.zeros((count, k), np.int64), unknown, unknown.copy())

    def extend(self, index: int, groups: list[NDArray[np.intp]], vectors: NDArray[np.float32]) -> None:
        """Match the clusters of the next grid point, whose eigenvectors are (k, P), with the last ones."""
        spans = [vectors[members] for members in groups]
        products = [[a.astype(np.float64) @ b.T.astype(np.float64) for b in spans] for _, a in self.last]
        links = _links(products)
        following = []
        for new, (members, span) in enumerate(zip(groups, spans, strict=True)):
            if new in links:
                old = links[new]
                number = self.last[old][0]
                cosines = np.linalg.svd(products[old][new], compute_uv=False).clip(0, 1)
                self.overlap[index, members] = np.square(cosines).mean()
                self.angle[index, members] = np.arccos(cosines[-1])
            else:
                number, self.begun = self.begun, self.begun + 1
            self.track[index, members] = number
            self.size[index, members] = members.size
            following.append((number, span))
        self.last = following or self.last


def _links(products: list[list[NDArray[np.float64]]]) -> dict[int, int]:
    """Return the last cluster by new cluster, from the products of all pairs of their spans."""
    if not products or not products[0]:
        return {}
    shared = np.array([[np.square(each).sum() for each in row] for row in products])
    smaller = np.array([[min(each.shape) for each in row] for row in products])
    rows, columns = scipy.optimize.linear_sum_assignment(shared, maximize=True)
    return {int(b): int(a) for a, b in zip(rows, columns, strict=True) if shared[a, b] >= SHARED * smaller[a, b]}


def _as_dataset(tracks: _ClusterTracks, vectors: EigenvectorReader, k: int) -> xr.Dataset:
    axis = axis_of(vectors.part)
    dims = (axis, "mode")
    part = vectors.part
    return with_attributes(
        xr.Dataset(
            {
                "track": variable(dims, tracks.track, "track of the mode's cluster; -1: none"),
                "size": variable(dims, tracks.size, "number of modes of the cluster"),
                "eigenvalue": variable(dims, vectors.eigenvalues[:, :k], "eigenvalue of the mode", loss_unit(part)),
                "overlap": variable(dims, tracks.overlap, "overlap of the cluster's span with the last of its track"),
                "principal_angle": variable(
                    dims, tracks.angle, "largest principal angle to the last span of the track", "rad"
                ),
            },
            coords={
                **scalar_coordinates(part),
                axis: part[axis].variable,
                "mode": part["mode"].variable[:k],
            },
        )
    )
