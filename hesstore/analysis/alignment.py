"""The alignment of the leading eigenvectors with the gradients of the classes."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hesstore.analysis.attributes import scalar_coordinates, variable, with_attributes
from hesstore.analysis.selection import complete_variables, mode_count, require_all_rows, require_split
from hesstore.errors import AnalysisError
from hesstore.store.schema import axis_of

_RANK = 1e-4
"""The smallest eigenvalue of the matrix of cosines, relative to the largest, that counts as a direction."""

_Array = NDArray[np.float64]


def alignment(ds: xr.Dataset, run: int = 0, split: str = "train", k: int | None = None) -> xr.Dataset:
    """Compare the span of the first k eigenvectors with the gradients of the classes, ∇E_c.

    E_c is the mean loss of class c, so that ∇E_c is the class mean of the gradients of single rows. Papyan
    (arXiv 1901.08244) explains the C − 1 outliers in the spectrum by class means of gradients; Fort & Ganguli
    (arXiv 1910.05929) by means of the gradients of logits, which :func:`hesstore.network_geometry` computes.

    Parameters
    ----------
    ds : Dataset
        A store.
    run : int
        Run ID.
    split : str
        ``"train"`` or ``"test"``: the rows of the gradients.
    k : int, optional
        Number of eigenvectors; by default C − 1 for C classes, or all modes if there are fewer.

    Returns
    -------
    Dataset
        At the complete grid points: ``share`` (l2, label), the share ‖V∇E_c‖²/‖∇E_c‖² of each gradient's squared norm
        within the span of the k eigenvectors V; ``rank`` (l2), the dimension r of the span of all ∇E_c;
        ``principal_angle`` (l2, angle) in radians between the two spans, ascending, NaN beyond the first min(k, r);
        ``overlap`` (l2), the mean squared cosine of these angles; and ``chance`` = k/P, the mean share of a random
        direction. Values are NaN for classes without rows, and where the solver found fewer than k pairs.

    Raises
    ------
    AnalysisError
        If the run does not exist or has no complete grid point, the store lacks the variables, an argument is out of
        range, or H was taken over a subset of the training rows (then slopes and gradients do not belong together).

    Notes
    -----
    No vector is read: V∇E_c are the stored class slopes, and the stored norms and cosines give all scalar products of
    the gradients. Directions of the span of the gradients whose squared length is below 1e-4 of the largest are left
    out, because they are dominated by rounding.
    """
    axis = axis_of(ds)
    require_split(split)
    if split == "train":
        require_all_rows(ds)
    names = ("class_slope", "class_gradient_norm", "class_gradient_cosine", "eigenvalues")
    part = complete_variables(ds, run, *names).sel(split=split).load()
    k = _checked_k(ds, k)
    norms = part["class_gradient_norm"].transpose(axis, "label").values
    components = part["class_slope"].transpose(axis, "mode", "label").values[:, :k]
    components = components / np.where(norms > 0, norms, np.nan)[:, None]
    cosines = part["class_gradient_cosine"].transpose(axis, "label", "other").values
    found = [principal_cosines(*each) for each in zip(components, cosines, strict=True)]
    count = min(k, ds.sizes["label"])
    padded = np.array([np.pad(each, (0, count - each.size), constant_values=np.nan) for each in found])
    spans = f"the spans of the first {k} eigenvectors and of the gradients of the classes"
    return with_attributes(
        xr.Dataset(
            {
                "share": variable(
                    (axis, "label"),
                    np.square(components).sum(1),
                    f"share of the class gradient's squared norm within the span of the first {k} eigenvectors",
                ),
                "rank": variable((axis,), [rank(each) for each in cosines], "dimension of the span of the gradients"),
                "principal_angle": variable(
                    (axis, "angle"), np.arccos(padded), f"principal angle between {spans}", "rad"
                ),
                "overlap": variable(
                    (axis,), mean_square(padded), f"mean squared cosine of the principal angles between {spans}"
                ),
                "chance": variable((), k / ds.sizes["param"], "expected share of a random direction"),
            },
            coords={
                **scalar_coordinates(part),
                axis: part[axis].variable,
                "label": part["label"].variable,
                "angle": np.arange(count),
            },
        )
    )


def principal_cosines(components: _Array, cosines: _Array) -> _Array:
    """Return the cosines of the principal angles between two spans, in descending order.

    Parameters
    ----------
    components : ndarray
        (k, n) components of n unit vectors along k orthonormal vectors; NaN for a vector that does not exist.
    cosines : ndarray
        (n, n) scalar products of the unit vectors.

    Returns
    -------
    ndarray
        (min(k, r),) for the r dimensions that the vectors span; empty where an orthonormal vector is missing.
    """
    exists = np.isfinite(np.diagonal(cosines))
    components, cosines = components[:, exists], cosines[np.ix_(exists, exists)]
    if not exists.any() or not np.isfinite(components).all():
        return np.empty(0)
    squares, vectors = np.linalg.eigh(cosines)
    kept = squares > _RANK * squares[-1]
    basis = vectors[:, kept] / np.sqrt(squares[kept])
    found: _Array = np.linalg.svd(components @ basis, compute_uv=False)
    return found.clip(0, 1)


def mean_square(cosines: _Array) -> _Array:
    """Return the mean over the angles of squared cosines (n, angles) without NaN; NaN where all are NaN."""
    known = np.isfinite(cosines)
    counts = known.sum(1)
    sums = np.where(known, np.square(cosines), 0.0).sum(1)
    means: _Array = np.divide(sums, counts, out=np.full(len(cosines), np.nan), where=counts > 0)
    return means


def rank(cosines: _Array) -> float:
    """Return the dimension of the span of unit vectors with these scalar products (n, n); NaN if there are none."""
    exists = np.isfinite(np.diagonal(cosines))
    squares = np.linalg.eigvalsh(cosines[np.ix_(exists, exists)])
    return float((squares > _RANK * squares[-1]).sum()) if exists.any() else np.nan


def default_k(ds: xr.Dataset) -> int:
    """Return C − 1 for C classes, the number of eigenvalues that stand out, or all modes if there are fewer."""
    return max(min(ds.sizes["label"] - 1, mode_count(ds)), 1)


def _checked_k(ds: xr.Dataset, k: int | None) -> int:
    if k is None:
        return default_k(ds)
    most = mode_count(ds)
    if not 1 <= k <= most:
        raise AnalysisError(f"k = {k}, but the store has {most} modes: choose from 1 to {most}")
    return int(k)
