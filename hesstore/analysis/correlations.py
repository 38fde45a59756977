"""Rank correlations along λ between measures of sharpness and accuracies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from hesstore.analysis.attributes import follow_axis, scalar_coordinates, variable, with_attributes
from hesstore.analysis.rank_intervals import rank_correlation
from hesstore.analysis.selection import complete_variables, require_split, solver_order
from hesstore.store.schema import axis_of

if TYPE_CHECKING:
    from numpy.typing import NDArray


def rank_correlations(ds: xr.Dataset, run: int = 0, split: str = "test") -> xr.Dataset:
    """Correlate measures of sharpness with the accuracy of each class, and with that of all rows, along λ.

    Parameters
    ----------
    ds : Dataset
        A store.
    run : int
        Run ID.
    split : str
        ``"train"`` or ``"test"``.

    Returns
    -------
    Dataset
        ``correlation``, ``low``, ``high`` (measure, label) and ``overall_correlation``, ``overall_low``,
        ``overall_high`` (measure): Spearman's ρ over the complete grid points where both series are finite, and its
        95 % interval. The correlation is NaN where a series is constant or there are fewer than three such grid points.
        The measures are ``top eigenvalue``, the algebraically largest eigenvalue; ``trace``; and
        ``top eigenvalue * |weights|^2``, the top eigenvalue for steps in units of the norm of the weights. The top
        eigenvalue is NaN where it is not among the stored ones: in a store of the smallest eigenvalues (``SA``), and
        where all eigenvalues of largest magnitude (``LM``) are negative. The trace is NaN if the sweep had no probes.

    Raises
    ------
    AnalysisError
        If the run does not exist or has no complete grid point, the store lacks the variables, or an argument is out
        of range.

    Notes
    -----
    The interval is that of a block jackknife (:func:`hesstore.analysis.rank_intervals.rank_correlation`), because
    neighbouring grid points are not independent: each network starts from the previous one. It is NaN where there are
    fewer than four blocks of five autocorrelation times each, which needs at least 20 grid points and more for smooth
    series, and where ρ is ±1 without one of the blocks: then these data show no interval. Repeat the sweep with several
    seeds instead.

    In simulations of 4 to 400 grid points with first-order autoregressive noise (φ from 0 to 0.95), with and without
    trends and steps, 90 to 100 % of the intervals contained the true value wherever at least a quarter of the series
    had an interval; without a trend, and where at least half of them had one, 90 to 99 %. Strong trends make intervals
    wider than necessary.
    """
    require_split(split)
    names = ["eigenvalues", "weights_norm", "class_accuracy", "accuracy", *(["trace"] if "trace" in ds else [])]
    part = complete_variables(ds, run, *names).load()
    measures = _measures(part)
    accuracies = _accuracies(part.sel(split=split))
    rho = [[rank_correlation(a, b) for b in accuracies] for a in measures.values()]
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
    return follow_axis(with_attributes(xr.Dataset({**by_class, **overall}, coords=coords)), axis_of(part))


def _measures(part: xr.Dataset) -> dict[str, NDArray[np.float64]]:
    """Return the measures by name, (n,) each."""
    top = _top_eigenvalues(part)
    weights = part["weights_norm"].values
    trace = part["trace"].values if "trace" in part else np.full_like(top, np.nan)
    return {"top eigenvalue": top, "trace": trace, "top eigenvalue * |weights|^2": top * weights**2}


def _top_eigenvalues(part: xr.Dataset) -> NDArray[np.float64]:
    """Return the algebraically largest eigenvalue (n,); NaN where it need not be among the stored ones."""
    largest = np.fmax.reduce(part["eigenvalues"].transpose(axis_of(part), "mode").values, axis=1)
    is_known = {"LM": largest >= 0, "LA": True, "SA": False}[solver_order(part)]
    return np.where(is_known, largest, np.nan)


def _accuracies(part: xr.Dataset) -> NDArray[np.float64]:
    """Return (C + 1, n) accuracies: those of each class, then that of all rows."""
    by_class = part["class_accuracy"].transpose("label", axis_of(part)).values
    return np.concatenate([by_class, part["accuracy"].values[None]])
