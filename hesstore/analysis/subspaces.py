"""The overlap of the spans of leading eigenvectors at two grid points, and at all pairs of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import scipy
import xarray as xr

from hesstore.analysis.attributes import other_axis, scalar_coordinates, variable, with_attributes
from hesstore.analysis.eigenvectors import eigenvector_reader
from hesstore.analysis.selection import l2_position
from hesstore.config.l2_grid import value_text
from hesstore.custom_code import calls_back
from hesstore.errors import AnalysisError
from hesstore.store.schema import axis_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from hesstore.analysis.eigenvectors import EigenvectorReader

_MAX_STRIP = 16
"""Maximum number of grid points that are multiplied with a block in one product."""


def overlap(
    ds: xr.Dataset, l2_a: float, l2_b: float, k: int | None = None, run: int = 0, run_b: int | None = None
) -> xr.Dataset:
    """Compute the overlap of the spans of the first k eigenvectors at two grid points, ‖V_a V_bᵀ‖_F²/k.

    It is the mean squared cosine of the principal angles: 1 for equal spans, k/P on average for random spans.

    Parameters
    ----------
    ds : Dataset
        A store.
    l2_a, l2_b : float
        λ of two complete grid points.
    k : int, optional
        Number of eigenvectors of each; by default as many as the solver found at both.
    run, run_b : int
        Run ID of each; ``run_b`` is ``run`` by default.

    Returns
    -------
    Dataset
        ``overlap``, between 0 and 1; ``principal_angle`` (angle) in radians, ascending; ``chance`` = k/P.

    Raises
    ------
    AnalysisError
        If a run does not exist, or a grid point does not exist, is not complete, or has fewer than k pairs.

    Notes
    -----
    Small angles are computed from sines, so that they are as accurate as the float32 vectors: about 1e-7
    (Björck & Golub, Math. Comp. 27, 1973; Knyazev & Argentati, SIAM J. Sci. Comput. 23, 2002).
    """
    spans = _spans(ds, (l2_a, l2_b), k, (run, run if run_b is None else run_b))
    angles = _angles(spans)
    k, num_parameters = spans.a.shape
    return with_attributes(
        xr.Dataset(
            {
                "overlap": variable(
                    (), np.mean(np.cos(angles) ** 2), f"overlap of the spans of the first {k} eigenvectors"
                ),
                "principal_angle": _angle_variable(angles, k),
                "chance": variable((), k / num_parameters, "expected overlap of random subspaces"),
            },
            coords={"angle": np.arange(k)},
        )
    )


def principal_angles(
    ds: xr.Dataset, l2_a: float, l2_b: float, k: int | None = None, run: int = 0, run_b: int | None = None
) -> xr.Dataset:
    """Compute the principal angles between the spans of the first k eigenvectors at two grid points.

    Parameters
    ----------
    ds, l2_a, l2_b, k, run, run_b
        See :func:`overlap`.

    Returns
    -------
    Dataset
        ``principal_angle`` (angle) in radians, ascending.

    Raises
    ------
    AnalysisError
        See :func:`overlap`.
    """
    return overlap(ds, l2_a, l2_b, k, run, run_b)[["principal_angle"]]


@calls_back("progress")
def overlap_map(
    ds: xr.Dataset,
    k: int | None = None,
    run: int = 0,
    progress: Callable[[int, int], None] | None = None,
    memory: float = 1.5e9,
) -> xr.Dataset:
    """Compute the overlap ‖V_a V_bᵀ‖_F²/k of the spans of the first k eigenvectors at all pairs of grid points.

    Parameters
    ----------
    ds : Dataset
        A store.
    k : int, optional
        Number of eigenvectors at each grid point; by default all modes of the store.
    run : int
        Run ID.
    progress : callable, optional
        Called with (pairs done, all pairs).
    memory : float
        Bytes that the eigenvectors in memory may take; those of at least four grid points are kept in memory.

    Returns
    -------
    Dataset
        ``overlap`` (l2, l2_other), between 0 and 1, symmetric, for the complete grid points; NaN for those with fewer
        than k pairs. ``chance`` = k/P.

    Raises
    ------
    AnalysisError
        If the run does not exist or has no complete grid point, or k or ``memory`` is out of range.

    Notes
    -----
    A block of grid points stays in memory while all later grid points are read, so each grid point is read once per
    block. Products are computed in float32, with an error of about 1e-6.
    """
    vectors = eigenvector_reader(ds, run)
    k = vectors.checked_k(k)
    plan = _plan(vectors, k, memory)
    count = vectors.l2.size
    values = np.full((count, count), np.nan)
    for done, (rows, columns, overlaps) in _strips(vectors, plan):
        values[np.ix_(rows, columns)] = overlaps
        values[np.ix_(columns, rows)] = overlaps.T
        if progress:
            progress(done, plan.pairs)
    values = (values + values.T) / 2  # the two products of a pair may differ in their last digits
    return _as_map(values, vectors, k)


def _as_map(values: NDArray[np.float64], vectors: EigenvectorReader, k: int) -> xr.Dataset:
    axis = axis_of(vectors.part)
    long_name = f"overlap of the spans of the first {k} eigenvectors"
    return with_attributes(
        xr.Dataset(
            {
                "overlap": variable((axis, other_axis(axis)), values, long_name),
                "chance": variable((), k / vectors.num_parameters, "expected overlap of random subspaces"),
            },
            coords={
                **scalar_coordinates(vectors.part),
                axis: vectors.part[axis].variable,
                other_axis(axis): vectors.l2,
            },
        )
    )


def one_minus_overlap(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """Return 1 − ‖V₁ V₂ᵀ‖_F²/k for the first k finite rows of two sets of orthonormal rows.

    It is 0 for equal spans, and NaN if one set has no finite row. Products are computed in float64, so only the error
    of float32 rows remains, about 1e-7.
    """
    first, second = (each[np.isfinite(each).all(1)].astype(np.float64) for each in (first, second))
    count = min(len(first), len(second))
    if not count:
        return float("nan")
    return max(0.0, 1 - float(np.square(first[:count] @ second[:count].T).sum()) / count)


# -- two grid points --------------------------------------------------------------------------------------


class _Spans(NamedTuple):
    """The eigenvectors at two grid points, (k, P) each."""

    a: NDArray[np.float32]
    b: NDArray[np.float32]


def _spans(ds: xr.Dataset, l2: tuple[float, float], k: int | None, runs: tuple[int, int]) -> _Spans:
    axis, readers = axis_of(ds), [eigenvector_reader(ds, run) for run in runs]
    indices = [l2_position(reader.l2, value, run, axis) for reader, value, run in zip(readers, l2, runs, strict=True)]
    found = [int(reader.num_found[index]) for reader, index in zip(readers, indices, strict=True)]
    k = min(found) if k is None else readers[0].checked_k(k)
    for value, run, pairs in zip(l2, runs, found, strict=True):
        if pairs < max(k, 1):
            raise AnalysisError(
                f"{value_text(axis, value)} of run {run} has {pairs} pairs, but k is {max(k, 1)}: choose a smaller k"
            )
    return _Spans(*(reader.read(index, k) for reader, index in zip(readers, indices, strict=True)))


def _angles(spans: _Spans) -> NDArray[np.float64]:
    columns = (rows.T.astype(np.float64) for rows in spans)
    angles: NDArray[np.float64] = scipy.linalg.subspace_angles(*columns)[::-1].copy()
    return angles


def _angle_variable(angles: NDArray[np.float64], k: int) -> xr.Variable:
    return variable(("angle",), angles, f"principal angle between the spans of the first {k} eigenvectors", "rad")


# -- all pairs --------------------------------------------------------------------------------------------


class _Plan(NamedTuple):
    """The grid points that have k pairs, and how many of them are in memory: as a block, and as a passing strip."""

    points: NDArray[np.intp]
    k: int
    block: int
    strip: int

    @property
    def pairs(self) -> int:
        return _pairs(self.points.size)


def _plan(vectors: EigenvectorReader, k: int, memory: float) -> _Plan:
    if not memory > 0:
        raise AnalysisError(f"memory = {memory:g} bytes: it must be above 0")
    # the grid points that fit, each with its products with a strip
    room = int(memory / (4 * k * (vectors.num_parameters + _MAX_STRIP * k)))
    strip = min(max(room // 8, 1), _MAX_STRIP)
    block = max(room - strip - 2, 1)  # reading needs room for two: the decoded chunk and its copy
    return _Plan(np.flatnonzero(vectors.num_found >= k), k, block, strip)


_Strip = tuple[int, tuple["NDArray[np.intp]", "NDArray[np.intp]", "NDArray[np.float64]"]]
"""The number of pairs done so far; the grid points of the block, those of the strip, and their overlaps."""


def _strips(vectors: EigenvectorReader, plan: _Plan) -> Iterator[_Strip]:
    """Yield every pair of grid points at least once."""
    points, done = plan.points, 0
    block, strip = (_buffer(vectors, plan.k, min(size, points.size)) for size in (plan.block, plan.strip))
    for start in range(0, points.size, plan.block):
        inside = points[start : start + plan.block]
        in_memory = _read(vectors, inside, block)
        for first in range(0, inside.size, plan.strip):  # within the block: each strip with itself and all after it
            some = slice(first, min(first + plan.strip, inside.size))
            done += _pairs(some.stop - first) + (some.stop - first) * (inside.size - some.stop)
            yield done, (inside[first:], inside[some], _overlaps(in_memory[first:], in_memory[some]))
        after = points[start + plan.block :]
        for first in range(0, after.size, plan.strip):
            passing = after[first : first + plan.strip]
            done += passing.size * inside.size
            yield done, (inside, passing, _overlaps(in_memory, _read(vectors, passing, strip)))


def _pairs(count: int) -> int:
    """Return the number of pairs among ``count`` grid points, each with itself included."""
    return count * (count + 1) // 2


def _buffer(vectors: EigenvectorReader, k: int, count: int) -> NDArray[np.float32]:
    return np.empty((count, k, vectors.num_parameters), np.float32)


def _read(vectors: EigenvectorReader, points: NDArray[np.intp], buffer: NDArray[np.float32]) -> NDArray[np.float32]:
    """Read the eigenvectors (n, k, P) at ``points`` into ``buffer``."""
    for rows, index in zip(buffer, points, strict=False):
        rows[:] = vectors.read(int(index), buffer.shape[1])
    return buffer[: points.size]


def _overlaps(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the overlaps (m, n) of (m, k, P) with (n, k, P); faster if the first is the larger one."""
    k, num_parameters = a.shape[1:]
    products = a.reshape(-1, num_parameters) @ b.reshape(-1, num_parameters).T
    np.square(products, out=products)
    sums = products.reshape(a.shape[0], k, b.shape[0], k).sum((1, 3), dtype=np.float64)
    overlaps: NDArray[np.float64] = np.minimum(sums / k, 1.0)
    return overlaps
