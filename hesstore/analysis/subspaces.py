"""How much the spans of leading eigenvectors at two λ have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import scipy
import xarray as xr

from hesstore.analysis.labels import described, entry, scalars
from hesstore.analysis.selection import position_of, vectors_of
from hesstore.errors import AnalysisError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from hesstore.analysis.selection import Progress, Vectors

_STRIP = 16
"""Most λ that are multiplied with a block at once."""


def overlap(
    ds: xr.Dataset, l2_a: float, l2_b: float, k: int | None = None, run: int = 0, run_b: int | None = None
) -> xr.Dataset:
    """Overlap of the spans of the first k eigenvectors at two λ, ‖V_a V_bᵀ‖_F²/k.

    That is the mean squared cosine of the principal angles: 1 for the same span, k/P on average for random spans.

    Parameters
    ----------
    ds : Dataset
        A store.
    l2_a, l2_b : float
        Two complete λ.
    k : int, optional
        Eigenvectors of each; by default as many as the solver found at both.
    run, run_b : int
        Run ID of each; ``run_b`` is by default ``run``.

    Returns
    -------
    Dataset
        ``overlap``, between 0 and 1; ``principal_angle`` (angle), radians, ascending; ``chance`` = k/P.

    Raises
    ------
    AnalysisError
        If a run or a λ is not there, not complete, or has fewer than k pairs.

    Notes
    -----
    Angles come from sines where they are small, so that they are as accurate as the float32 vectors: about 1e-7
    (Björck & Golub, Math. Comp. 27, 1973; Knyazev & Argentati, SIAM J. Sci. Comput. 23, 2002).
    """
    spans = _spans(ds, (l2_a, l2_b), k, (run, run if run_b is None else run_b))
    angles = _angles(spans)
    k, parameters = spans.a.shape
    return described(
        xr.Dataset(
            {
                "overlap": entry(
                    (), np.mean(np.cos(angles) ** 2), f"overlap of the spans of the first {k} eigenvectors"
                ),
                "principal_angle": _angle_entry(angles, k),
                "chance": entry((), k / parameters, "expected overlap of random subspaces"),
            },
            coords={"angle": np.arange(k)},
        )
    )


def principal_angles(
    ds: xr.Dataset, l2_a: float, l2_b: float, k: int | None = None, run: int = 0, run_b: int | None = None
) -> xr.Dataset:
    """Principal angles between the spans of the first k eigenvectors at two λ.

    Parameters
    ----------
    ds, l2_a, l2_b, k, run, run_b
        As for :func:`overlap`.

    Returns
    -------
    Dataset
        ``principal_angle`` (angle), radians, ascending.

    Raises
    ------
    AnalysisError
        As :func:`overlap`.
    """
    return overlap(ds, l2_a, l2_b, k, run, run_b)[["principal_angle"]]


def overlap_map(
    ds: xr.Dataset, k: int | None = None, run: int = 0, progress: Progress | None = None, memory: float = 1.5e9
) -> xr.Dataset:
    """Overlap ‖V_a V_bᵀ‖_F²/k of the spans of the first k eigenvectors, at all pairs of complete λ.

    Parameters
    ----------
    ds : Dataset
        A store.
    k : int, optional
        Eigenvectors at each λ; by default all that the store has room for.
    run : int
        Run ID.
    progress : callable, optional
        Is told (pairs done, all pairs).
    memory : float
        Bytes that eigenvectors may take at a time; at least four λ are held.

    Returns
    -------
    Dataset
        ``overlap`` (l2, l2_other), between 0 and 1, symmetric; NaN at λ with fewer than k pairs. ``chance`` = k/P.

    Raises
    ------
    AnalysisError
        If the run is not there, no λ is complete, or k or ``memory`` is out of range.

    Notes
    -----
    A block of λ stays in memory while the later λ pass by it, so that each λ is read once a block. Products are
    float32: off by about 1e-6.
    """
    vectors = vectors_of(ds, run)
    k = vectors.limited(k)
    plan = _plan(vectors, k, memory)
    count = vectors.l2.size
    values = np.full((count, count), np.nan)
    for done, (rows, columns, overlaps) in _strips(vectors, plan):
        values[np.ix_(rows, columns)] = overlaps
        values[np.ix_(columns, rows)] = overlaps.T
        if progress:
            progress(done, plan.pairs)
    values = (values + values.T) / 2  # products of the same two λ may differ in their last digits
    return _as_map(values, vectors, k)


def _as_map(values: NDArray[np.float64], vectors: Vectors, k: int) -> xr.Dataset:
    long_name = f"overlap of the spans of the first {k} eigenvectors"
    return described(
        xr.Dataset(
            {
                "overlap": entry(("l2", "l2_other"), values, long_name),
                "chance": entry((), k / vectors.parameters, "expected overlap of random subspaces"),
            },
            coords={**scalars(vectors.part), "l2": vectors.part["l2"].variable, "l2_other": vectors.l2},
        )
    )


def apart(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """1 − ‖V₁ V₂ᵀ‖_F²/k of the spans of k orthonormal rows, those that are there in both; 0 for the same span.

    NaN if there are none. Products are float64: what float32 rows are off by, about 1e-7, remains.
    """
    first, second = (each[np.isfinite(each).all(1)].astype(np.float64) for each in (first, second))
    count = min(len(first), len(second))
    if not count:
        return float("nan")
    return max(0.0, 1 - float(np.square(first[:count] @ second[:count].T).sum()) / count)


# -- two λ ------------------------------------------------------------------------------------------------


class _Spans(NamedTuple):
    """(k, P) each."""

    a: NDArray[np.float32]
    b: NDArray[np.float32]


def _spans(ds: xr.Dataset, l2: tuple[float, float], k: int | None, runs: tuple[int, int]) -> _Spans:
    readers = [vectors_of(ds, run) for run in runs]
    indices = [position_of(reader.l2, value, run) for reader, value, run in zip(readers, l2, runs, strict=True)]
    found = [int(reader.found[index]) for reader, index in zip(readers, indices, strict=True)]
    k = min(found) if k is None else readers[0].limited(k)
    for strength, run, pairs in zip(l2, runs, found, strict=True):
        if pairs < max(k, 1):
            raise AnalysisError(f"λ = {strength:g} of run {run} has {pairs} pairs, not {max(k, 1)}: choose a smaller k")
    return _Spans(*(reader.at(index, k) for reader, index in zip(readers, indices, strict=True)))


def _angles(spans: _Spans) -> NDArray[np.float64]:
    columns = (rows.T.astype(np.float64) for rows in spans)
    angles: NDArray[np.float64] = scipy.linalg.subspace_angles(*columns)[::-1].copy()
    return angles


def _angle_entry(angles: NDArray[np.float64], k: int) -> tuple[tuple[str, ...], NDArray[np.float64], dict[str, str]]:
    return entry(("angle",), angles, f"principal angle between the spans of the first {k} eigenvectors", "rad")


# -- all pairs --------------------------------------------------------------------------------------------


class _Plan(NamedTuple):
    """The λ with k pairs, how many of them stay in memory, how many pass by them at once."""

    there: NDArray[np.intp]
    k: int
    block: int
    strip: int

    @property
    def pairs(self) -> int:
        return self.there.size * (self.there.size + 1) // 2


def _plan(vectors: Vectors, k: int, memory: float) -> _Plan:
    if not memory > 0:
        raise AnalysisError(f"memory = {memory:g} bytes: it must be above 0")
    room = int(memory / (4 * k * (vectors.parameters + _STRIP * k)))  # λ, each with its products with a strip
    strip = min(max(room // 8, 1), _STRIP)
    block = max(room - strip - 2, 1)  # a read needs room for two: what is decoded, and its copy
    return _Plan(np.flatnonzero(vectors.found >= k), k, block, strip)


_Strip = tuple[int, tuple["NDArray[np.intp]", "NDArray[np.intp]", "NDArray[np.float64]"]]
"""Pairs done so far; λ that stay, λ that pass by, their overlaps."""


def _strips(vectors: Vectors, plan: _Plan) -> Iterator[_Strip]:
    """Every pair of λ, at least once."""
    there, done = plan.there, 0
    block, passing = (_room(vectors, plan.k, min(size, there.size)) for size in (plan.block, plan.strip))
    for start in range(0, there.size, plan.block):
        stay = there[start : start + plan.block]
        held = _read(vectors, stay, block)
        for first in range(0, stay.size, plan.strip):  # within the block: with itself and what comes after
            some = slice(first, min(first + plan.strip, stay.size))
            done += _pairs(some.stop - first) + (some.stop - first) * (stay.size - some.stop)
            yield done, (stay[first:], stay[some], _products(held[first:], held[some]))
        after = there[start + plan.block :]
        for first in range(0, after.size, plan.strip):
            some_after = after[first : first + plan.strip]
            done += some_after.size * stay.size
            yield done, (stay, some_after, _products(held, _read(vectors, some_after, passing)))


def _pairs(count: int) -> int:
    return count * (count + 1) // 2


def _room(vectors: Vectors, k: int, count: int) -> NDArray[np.float32]:
    return np.empty((count, k, vectors.parameters), np.float32)


def _read(vectors: Vectors, which: NDArray[np.intp], room: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, k, P), in ``room``."""
    for rows, index in zip(room, which, strict=False):
        rows[:] = vectors.at(int(index), room.shape[1])
    return room[: which.size]


def _products(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """(m, n) overlaps of (m, k, P) with (n, k, P); quicker if the first is the larger."""
    k, parameters = a.shape[1:]
    products = a.reshape(-1, parameters) @ b.reshape(-1, parameters).T
    np.square(products, out=products)
    sums = products.reshape(a.shape[0], k, b.shape[0], k).sum((1, 3), dtype=np.float64)
    overlaps: NDArray[np.float64] = np.minimum(sums / k, 1.0)
    return overlaps
