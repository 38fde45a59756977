"""Rank correlations along λ between measures of sharpness and accuracies."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from hesstore.analysis.attributes import scalar_coordinates, variable, with_attributes
from hesstore.analysis.selection import complete_variables, require_split
from hesstore.errors import AnalysisError
from hesstore.store.schema import AXIS

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MIN_POINTS = 3
"""With fewer grid points a rank correlation is always ±1 or NaN."""


def rank_correlations(
    ds: xr.Dataset, run: int = 0, split: str = "test", resamples: int = 2000, seed: int = 0
) -> xr.Dataset:
    """Correlate measures of sharpness with the accuracy of each class, and with that of all rows, along λ.

    Parameters
    ----------
    ds : Dataset
        A store.
    run : int
        Run ID.
    split : str
        ``"train"`` or ``"test"``.
    resamples, seed : int
        Number of bootstrap samples, and the seed from which they are drawn.

    Returns
    -------
    Dataset
        ``correlation``, ``low``, ``high`` (measure, label) and ``overall_correlation``, ``overall_low``,
        ``overall_high`` (measure): Spearman's ρ over the complete grid points where both series are finite, and its
        95 % interval. They are NaN where a series is constant or there are fewer than three such grid points; the
        trace, for example, is missing if the sweep had no probes. The measures are ``top eigenvalue``, the largest of
        the stored eigenvalues; ``trace``; and ``top eigenvalue * |weights|^2``, the top eigenvalue for steps in units
        of the norm of the weights.

    Raises
    ------
    AnalysisError
        If the run does not exist or has no complete grid point, the store lacks the variables, or an argument is out
        of range.

    Notes
    -----
    The interval is the percentile interval of a circular block bootstrap: pairs are drawn in blocks of 2·⌈n^⅓⌉
    neighbouring grid points, wrapped at the ends, because neighbours are not independent: each network starts from
    the previous one. n^⅓ is how the best block length for a variance grows (Künsch, Ann. Stat. 17, 1989; wrapped:
    Politis & Romano, 1992); the factor 2 accounts for series as smooth as these. The series also have trends, which
    no block bootstrap preserves: read the interval as a hint of how few independent grid points there are, not as an
    exact level.
    """
    require_split(split)
    if resamples < 1:
        raise AnalysisError(f"resamples is {resamples}: it must be at least 1")
    names = ["eigenvalues", "weights_norm", "class_accuracy", "accuracy", *(["trace"] if "trace" in ds else [])]
    part = complete_variables(ds, run, *names).load()
    measures = _measures(part)
    accuracies = _accuracies(part.sel(split=split))
    rho = [[_rho_and_interval(a, b, resamples, seed) for b in accuracies] for a in measures.values()]
    return _as_dataset(np.array(rho), list(measures), part)


def _as_dataset(rho: NDArray[np.float64], measures: list[str], part: xr.Dataset) -> xr.Dataset:
    """Label ``rho`` (measures, classes + 1, 3): for each class and then for all rows, ρ and its interval."""
    names = {
        "correlation": "Spearman correlation along λ",
        "low": "Spearman correlation along λ, lower end of the 95 % interval",
        "high": "Spearman correlation along λ, upper end of the 95 % interval",
    }
    values = dict(zip(names, np.moveaxis(rho, -1, 0), strict=True))
    by_class = {
        name: variable(("measure", "label"), values[name][:, :-1], f"{text}, with the accuracy of the class")
        for name, text in names.items()
    }
    overall = {
        f"overall_{name}": variable(("measure",), values[name][:, -1], f"{text}, with the accuracy")
        for name, text in names.items()
    }
    coords = {**scalar_coordinates(part), "measure": measures, "label": part["label"].variable}
    return with_attributes(xr.Dataset({**by_class, **overall}, coords=coords))


def _measures(part: xr.Dataset) -> dict[str, NDArray[np.float64]]:
    """Return the measures by name, (n,) each."""
    top = np.fmax.reduce(part["eigenvalues"].transpose(AXIS, "mode").values, axis=1)
    weights = part["weights_norm"].values
    trace = part["trace"].values if "trace" in part else np.full_like(top, np.nan)
    return {"top eigenvalue": top, "trace": trace, "top eigenvalue * |weights|^2": top * weights**2}


def _accuracies(part: xr.Dataset) -> NDArray[np.float64]:
    """Return (C + 1, n) accuracies: those of each class, then that of all rows."""
    by_class = part["class_accuracy"].transpose("label", AXIS).values
    return np.concatenate([by_class, part["accuracy"].values[None]])


def _rho_and_interval(
    a: NDArray[np.float64], b: NDArray[np.float64], resamples: int, seed: int
) -> tuple[float, float, float]:
    """Return ρ and the ends of its interval."""
    is_known = np.isfinite(a) & np.isfinite(b)
    count = int(is_known.sum())
    if count < _MIN_POINTS:
        return math.nan, math.nan, math.nan
    a, b = a[is_known], b[is_known]
    rho = float(_spearman(a, b, np.ones((1, count)))[0])
    samples = _spearman(a, b, _block_weights(count, resamples, seed))
    samples = samples[np.isfinite(samples)]  # a sample can be constant, which has no ρ
    if math.isnan(rho) or not samples.size:
        return rho, math.nan, math.nan
    low, high = np.quantile(samples, (0.025, 0.975))
    return rho, float(low), float(high)


def block_length(count: int) -> int:
    """Return the number of grid points in a block of the bootstrap: 2·⌈n^⅓⌉, at most n."""
    return min(2 * math.ceil(round(math.cbrt(count), 9)), count)  # the last digit of a root may be off


def _block_weights(count: int, resamples: int, seed: int) -> NDArray[np.float64]:
    """Return (resamples, n): how often each of the n grid points occurs in each sample of n."""
    length = block_length(count)
    blocks = math.ceil(count / length)
    starts = np.random.default_rng(seed).integers(count, size=(resamples, blocks))
    drawn = (starts[..., None] + np.arange(length)).reshape(resamples, -1)[:, :count] % count
    cells = drawn + count * np.arange(resamples)[:, None]
    weights = np.bincount(cells.ravel(), minlength=resamples * count)
    return weights.reshape(resamples, count).astype(np.float64)


def _spearman(a: NDArray[np.float64], b: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Spearman's ρ (r,) of n pairs that occur ``weights`` (r, n) times; NaN where a series is constant.

    Repeated values have the mean of their ranks, so samples need not be drawn and sorted: their counts are enough.
    """
    x, y = _centred_ranks(a, weights), _centred_ranks(b, weights)
    weighted = weights * x
    covariance = (weighted * y).sum(1)
    scale = np.sqrt((weighted * x).sum(1) * (weights * y * y).sum(1))
    rho: NDArray[np.float64] = np.divide(covariance, scale, out=np.full_like(scale, np.nan), where=scale > 0)
    return rho


def _centred_ranks(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (r, n) mid-ranks minus their mean."""
    _, level, counts = np.unique(values, return_inverse=True, return_counts=True)
    first = np.concatenate([[0], counts.cumsum()[:-1]])
    at_level = np.add.reduceat(weights[:, np.argsort(level, kind="stable")], first, axis=1)
    middle = at_level.cumsum(axis=1) - at_level / 2 - weights.sum(1, keepdims=True) / 2
    ranks: NDArray[np.float64] = middle[:, level]
    return ranks
