"""Rank correlations along λ between measures of sharpness and accuracies."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from hesstore.analysis.labels import described, entry, scalars
from hesstore.analysis.selection import complete_of, require_split
from hesstore.errors import AnalysisError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FEWEST = 3
"""λ below which a rank correlation is ±1 or nothing."""


def rank_correlations(
    ds: xr.Dataset, run: int = 0, split: str = "test", resamples: int = 2000, seed: int = 0
) -> xr.Dataset:
    """Spearman correlation along λ of measures of sharpness with the accuracy of each class, and with that of all.

    Parameters
    ----------
    ds : Dataset
        A store.
    run : int
        Run ID.
    split : str
        ``"train"`` or ``"test"``.
    resamples, seed : int
        Bootstrap samples, and the seed they are drawn with.

    Returns
    -------
    Dataset
        ``correlation``, ``low``, ``high`` (measure, label) and ``overall_correlation``, ``overall_low``,
        ``overall_high`` (measure): Spearman's ρ over the complete λ at which both series are numbers, and its 95 %
        interval. NaN where a series is constant or there are fewer than three such λ; the trace, for one, is not
        there if the sweep had no probes. The measures: ``top eigenvalue``, the largest of the stored ones;
        ``trace``; ``top eigenvalue * |weights|^2``, the top eigenvalue for steps in units of the weights' norm.

    Raises
    ------
    AnalysisError
        If the run is not there, no λ is complete, the store lacks the variables, or an argument is out of range.

    Notes
    -----
    The interval is the percentile interval of a circular block bootstrap: pairs are drawn in blocks of 2·⌈n^⅓⌉
    neighbouring λ, wrapped at the ends, because neighbours are not independent: each network starts from the one
    before. n^⅓ is how the best block length for a variance grows (Künsch, Ann. Stat. 17, 1989; wrapped: Politis &
    Romano, 1992); the factor 2 is for series as smooth as these. They also have trends, which no block
    bootstrap keeps: take the interval as a hint of how few independent λ there are, not as an exact level.
    """
    require_split(split)
    if resamples < 1:
        raise AnalysisError(f"resamples is {resamples}: it must be at least 1")
    names = ["eigenvalues", "weights_norm", "class_accuracy", "accuracy", *(["trace"] if "trace" in ds else [])]
    part = complete_of(ds, run, *names).load()
    measures = _measures(part)
    accuracies = _accuracies(part.sel(split=split))
    pairs = [[_correlated(a, b, resamples, seed) for b in accuracies] for a in measures.values()]
    return _as_dataset(np.array(pairs), list(measures), part)


def _as_dataset(found: NDArray[np.float64], measures: list[str], part: xr.Dataset) -> xr.Dataset:
    """From (measure, label and all, 3)."""
    names = {
        "correlation": "Spearman correlation along λ",
        "low": "Spearman correlation along λ, lower end of the 95 % interval",
        "high": "Spearman correlation along λ, upper end of the 95 % interval",
    }
    values = dict(zip(names, np.moveaxis(found, -1, 0), strict=True))
    by_class = {
        name: entry(("measure", "label"), values[name][:, :-1], f"{text}, with the class's accuracy")
        for name, text in names.items()
    }
    overall = {
        f"overall_{name}": entry(("measure",), values[name][:, -1], f"{text}, with the accuracy")
        for name, text in names.items()
    }
    coords = {**scalars(part), "measure": measures, "label": part["label"].variable}
    return described(xr.Dataset({**by_class, **overall}, coords=coords))


def _measures(part: xr.Dataset) -> dict[str, NDArray[np.float64]]:
    """(n,) each."""
    top = np.fmax.reduce(part["eigenvalues"].transpose("l2", "mode").values, axis=1)
    weights = part["weights_norm"].values
    trace = part["trace"].values if "trace" in part else np.full_like(top, np.nan)
    return {"top eigenvalue": top, "trace": trace, "top eigenvalue * |weights|^2": top * weights**2}


def _accuracies(part: xr.Dataset) -> NDArray[np.float64]:
    """(C + 1, n): of each class, then of all."""
    by_class = part["class_accuracy"].transpose("label", "l2").values
    return np.concatenate([by_class, part["accuracy"].values[None]])


def _correlated(
    a: NDArray[np.float64], b: NDArray[np.float64], resamples: int, seed: int
) -> tuple[float, float, float]:
    """ρ and its interval."""
    there = np.isfinite(a) & np.isfinite(b)
    count = int(there.sum())
    if count < _FEWEST:
        return math.nan, math.nan, math.nan
    a, b = a[there], b[there]
    rho = float(_spearman(a, b, np.ones((1, count)))[0])
    samples = _spearman(a, b, _block_weights(count, resamples, seed))
    samples = samples[np.isfinite(samples)]  # a sample can be constant
    if math.isnan(rho) or not samples.size:
        return rho, math.nan, math.nan
    low, high = np.quantile(samples, (0.025, 0.975))
    return rho, float(low), float(high)


def block_length(count: int) -> int:
    """λ in a block of the bootstrap: 2·⌈n^⅓⌉, at most n."""
    return min(2 * math.ceil(round(math.cbrt(count), 9)), count)  # a root may be off in its last digit


def _block_weights(count: int, resamples: int, seed: int) -> NDArray[np.float64]:
    """(resamples, n): how often each of n neighbours is in each sample of n."""
    length = block_length(count)
    blocks = math.ceil(count / length)
    starts = np.random.default_rng(seed).integers(count, size=(resamples, blocks))
    drawn = (starts[..., None] + np.arange(length)).reshape(resamples, -1)[:, :count] % count
    cells = drawn + count * np.arange(resamples)[:, None]
    weights = np.bincount(cells.ravel(), minlength=resamples * count)
    return weights.reshape(resamples, count).astype(np.float64)


def _spearman(a: NDArray[np.float64], b: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """(r,) Spearman's ρ of n pairs that occur ``weights`` (r, n) times; NaN where a series is constant.

    Ranks of repeated values are their mean, so a sample need not be drawn and sorted: its counts are enough.
    """
    x, y = _centred_ranks(a, weights), _centred_ranks(b, weights)
    weighted = weights * x
    covariance = (weighted * y).sum(1)
    scale = np.sqrt((weighted * x).sum(1) * (weights * y * y).sum(1))
    rho: NDArray[np.float64] = np.divide(covariance, scale, out=np.full_like(scale, np.nan), where=scale > 0)
    return rho


def _centred_ranks(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """(r, n) mid-ranks, less their mean."""
    _, level, counts = np.unique(values, return_inverse=True, return_counts=True)
    first = np.concatenate([[0], counts.cumsum()[:-1]])
    held = np.add.reduceat(weights[:, np.argsort(level, kind="stable")], first, axis=1)
    middle = held.cumsum(axis=1) - held / 2 - weights.sum(1, keepdims=True) / 2
    ranks: NDArray[np.float64] = middle[:, level]
    return ranks
