"""Single numbers that summarise the stored eigenvalues: effective dimension, entropy, and the gap of the outliers."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hesstore.analysis.attributes import scalar_coordinates, variable, with_attributes
from hesstore.analysis.selection import complete_variables, penalty_shift, solver_order
from hesstore.errors import AnalysisError
from hesstore.store.schema import OUTERMOST, axis_of

ZERO = 16 * float(np.finfo(np.float32).eps)
"""Eigenvalues of smaller magnitude, relative to the largest, are zero to the rounding of float32."""

_Array = NDArray[np.float64]


def spectral_measures(ds: xr.Dataset, run: int = 0) -> xr.Dataset:
    """Summarise the stored eigenvalues of the Hessian: effective dimension, spectral entropy and outlier gap.

    Parameters
    ----------
    ds : Dataset
        A store of the largest eigenvalues (``which`` is ``LM`` or ``LA``).
    run : int
        Run ID.

    Returns
    -------
    Dataset
        Along ``l2``, at the complete grid points, for the k stored eigenvalues μ_i:

        ``effective_dimension``, Σ μ/(μ + 2cλ) over the positive μ (MacKay, Neural Computation 4, 1992): the number of
        directions that the loss determines, rather than the penalty. Further eigenvalues can only add to it, so it is
        a lower bound. ``effective_dimension_bound`` adds (P − k) t/(t + 2cλ) with t the recorded ``eigenvalue_bound``
        on all others, an upper bound with the probability of t. Both are NaN at λ = 0.

        ``spectral_entropy`` (nat), −Σ p_i ln p_i with p_i = |μ_i|/Σ|μ_j|, from 0 for a single eigenvalue to ln k for
        equal ones; its exponential is the effective rank of Roy & Vetterli (EUSIPCO 2007), of the stored part.

        ``outlier_gap``, |μ_{C−1}|/|μ_C| for C classes, the ratio of the last eigenvalue that the class structure
        explains to the next one (Papyan, arXiv 1901.08244); and ``outliers``, the number of eigenvalues before the
        largest ratio of neighbours, |μ_i|/|μ_{i+1}|. Magnitudes below 2e-6 |μ₁|, which are zero to rounding, count as
        2e-6 |μ₁|. Both are NaN for fewer than C eigenvalues and where all are zero.

    Raises
    ------
    AnalysisError
        If the run does not exist or has no complete grid point, or the store has the smallest eigenvalues.
    """
    axis = axis_of(ds)
    if solver_order(ds) == "SA":
        raise AnalysisError("the store has the smallest eigenvalues (SA): these measures need the largest, LM or LA")
    part = complete_variables(ds, run, OUTERMOST.eigenvalues, OUTERMOST.bound).load()
    eigenvalues = part[OUTERMOST.eigenvalues].transpose(axis, "mode").values
    shift = penalty_shift(part).values
    dimension = _effective_dimension(eigenvalues, shift)
    rest = ds.sizes["param"] - np.isfinite(eigenvalues).sum(1)
    bound = dimension + rest * _effective_dimension(part[OUTERMOST.bound].values[:, None], shift)
    gaps = np.array([_gap_and_count(row, ds.sizes["label"]) for row in eigenvalues])
    series = {
        "effective_dimension": (dimension, "effective dimension of the stored eigenvalues", None),
        "effective_dimension_bound": (bound, "upper bound on the effective dimension", None),
        "spectral_entropy": ([_entropy(row) for row in eigenvalues], "entropy of the stored eigenvalues", "nat"),
        "outlier_gap": (gaps[:, 0], "ratio of eigenvalue number classes - 1 to the next one", None),
        "outliers": (gaps[:, 1], "number of eigenvalues before the largest ratio of neighbours", None),
    }
    return with_attributes(
        xr.Dataset(
            {name: variable((axis,), *each) for name, each in series.items()},
            coords={**scalar_coordinates(part), axis: part[axis].variable},
        )
    )


def _effective_dimension(eigenvalues: _Array, shift: _Array) -> _Array:
    """Return Σ μ/(μ + 2cλ) over the positive ones of (n, k) eigenvalues; NaN where λ is 0 or none is known."""
    positive = np.maximum(eigenvalues, 0)
    penalty = np.where(shift > 0, shift, np.nan)
    sums: _Array = np.nansum(positive / (positive + penalty[:, None]), 1)
    return np.where(np.isfinite(penalty) & np.isfinite(eigenvalues).any(1), sums, np.nan)


def _entropy(eigenvalues: _Array) -> float:
    magnitudes = np.abs(eigenvalues[np.isfinite(eigenvalues)])
    total = float(magnitudes.sum())
    shares = magnitudes[magnitudes > 0] / total if total else magnitudes[:0]
    return float(-(shares * np.log(shares)).sum()) + 0.0 if total else np.nan


def _gap_and_count(eigenvalues: _Array, num_classes: int) -> tuple[float, float]:
    """Return the ratio of eigenvalue number C − 1 to the next one, and the number of eigenvalues before the largest."""
    magnitudes = np.sort(np.abs(eigenvalues[np.isfinite(eigenvalues)]))[::-1]
    if magnitudes.size < max(num_classes, 2) or not magnitudes[0]:
        return np.nan, np.nan
    magnitudes = np.maximum(magnitudes, ZERO * magnitudes[0])
    ratios = magnitudes[:-1] / magnitudes[1:]
    return float(ratios[num_classes - 2]), float(ratios.argmax() + 1)
