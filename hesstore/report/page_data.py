"""The data of a report: a store as dicts of numbers, texts and lists that JSON can hold."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from hesstore.analysis import class_skill, sensitivity
from hesstore.analysis.lost_classes import MARGIN
from hesstore.analysis.selection import analysing_advice, has_analyses, loss_unit, require_variables, setting
from hesstore.config.l2_grid import AXIS, axis_symbol
from hesstore.dataset.completeness import ROUNDING, SpectrumSettings
from hesstore.errors import AnalysisError
from hesstore.plots.run_data import class_names, default_l2, mode_label, without_parameters
from hesstore.plots.running_median import median_window
from hesstore.report.losses import losses_of_run, mean_losses
from hesstore.report.rounding import json_list, round_to_digits, round_to_thousandths
from hesstore.store.decoding import decoding
from hesstore.store.import_origin import origin_of
from hesstore.store.schema import BY_NAME, SPLITS, Status, axis_attrs, axis_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    import xarray as xr
    from numpy.typing import NDArray

    from hesstore.dataset.completeness import Completeness

EXACT = (
    *("accuracy", "class_accuracy", "confusion", "loss", "penalty", "eigenvalues", "eigenvalue_bound", "converged"),
    *("lowest_eigenvalues", "lowest_bound"),
    *("epochs", "matvecs", "fit_seconds", "analysis_seconds"),
)
"""Variables whose values are exactly those of the store, except for the fill values of an import."""
ROUNDED = ("residual_norm", "gradient_norm", "weights_norm", "distance", "stationarity", "trace", "trace_error")
"""Variables whose values are rounded to :data:`DIGITS` significant digits."""
DIGITS = 4
DECIMALS = 3
"""Decimals of the maps of class × mode."""
TEXTS = ("failure", "solver_message")
_OTHERS = ("status",)
_OF_MODES = ("class_curvature", "class_slope")
_BLOCK = 32
"""Number of grid points that are read together from variables with one file per grid point."""


def store_data(ds: xr.Dataset) -> dict[str, Any]:
    """Return what is the same for all runs, and the list of runs.

    Raises
    ------
    AnalysisError
        If ``ds`` is not a whole store, or has no complete grid point.
    """
    axis = axis_of(ds)
    require_variables(ds, "status", "confusion")
    with decoding("status"):
        status = ds["status"].transpose("run", axis).values
    if not (status == Status.COMPLETE).any():
        raise AnalysisError("no grid point of the store is complete: run the sweep first")
    seeds, directions = ds["seed"].values, ds["direction"].values
    stores = ds["store"].values.astype(str).tolist() if "store" in ds.coords else [""] * len(seeds)
    spectra = _spectra_texts(ds)
    return {
        "labels": class_names(ds),
        "splits": list(SPLITS),
        "modes": ds.sizes.get("mode", 0),
        "mode_label": mode_label(ds),
        "axis": {"name": axis, "symbol": axis_symbol(axis), "label": axis_attrs(axis)["long_name"]},
        "l2": None if axis == AXIS else float(setting(ds, "l2")[0]),  # of all grid points
        "unit": loss_unit(ds) or "",
        "grid": ds[axis].values.tolist(),
        "margin": MARGIN,
        "window": median_window(ds.sizes[axis]),
        "lost_means": mean_losses(ds),
        "advice": "" if has_analyses(ds) else _without_analyses(ds),
        "penalty_scale": float(ds.attrs["penalty_scale"]) if "penalty_scale" in ds.attrs else None,
        "runs": [
            {
                "id": int(run),
                "store": stores[at],
                "seed": int(seeds[at]),
                "direction": str(directions[at]),
                "counts": {state.name.lower(): int((status[at] == state).sum()) for state in Status},
                "spectra": spectra[at],
            }
            for at, run in enumerate(ds["run"].values)
        ],
    }


def _without_analyses(ds: xr.Dataset) -> str:
    advice = analysing_advice(ds).replace("`", "")
    return f"The store was made without analyses (k = 0): {advice}."


def _spectra_texts(ds: xr.Dataset) -> list[str]:
    """Return how complete the spectra of each run are; empty for a run about which the store does not say it."""
    settings, names = SpectrumSettings.of(ds.attrs), ["status", "eigenvalues", "eigenvalue_bound"]
    if settings is None or not {*names} <= {*ds}:
        return [""] * ds.sizes["run"]
    small = _load(ds[names])
    summaries = [settings.summary(settings.spectra(small.isel(run=at))) for at in range(ds.sizes["run"])]
    return [summary.text if summary else "" for summary in summaries]


def run_data(ds: xr.Dataset, run: int, progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """Return the data of one run: lists along λ, with None at grid points that are not complete or lack the number.

    Parameters
    ----------
    ds : Dataset
        A store. Only this run is read, and no variable with one value per parameter.
    run : int
        Run ID.
    progress : callable, optional
        Called with (grid points read, all grid points of the run).

    Returns
    -------
    dict
        ``status`` and the :data:`TEXTS`, (l2,); the variables :data:`EXACT` and :data:`ROUNDED` with their own
        dimensions except run; ``class_skill`` (l2, split, label); ``tolerance`` (l2, mode), the residual norm up to
        which a pair is converged; ``complete_to`` (l2,) and ``spectrum`` (l2,), how complete the spectrum is, as a
        fraction and in words; ``curvature_share`` and ``slope`` (l2, split, label, mode) of
        :func:`hesstore.analysis.sensitivity`; ``response`` (l2, sign, label, mode), which is ``class_response``.
        A variable that has no number in the whole run is None. In addition ``start``, the index of the grid point to
        show first, and ``lost`` (:func:`hesstore.report.losses.losses_of_run`).
    """
    axis = axis_of(ds)
    part = _load_run(ds, run, progress)
    data: dict[str, Any] = {"status": part["status"].isel(run=0).values.tolist()}
    data |= {name: [_text(text) for text in part[name].values[0].tolist()] for name in TEXTS if name in part}
    if not (part["status"] == Status.COMPLETE).any():
        return {**data, **dict.fromkeys(SERIES), "start": 0, "lost": None}
    series = _variables(part)
    spectra: list[Completeness | None] = [None] * part.sizes[axis]
    if "eigenvalues" in series:
        series["tolerance"] = _tolerance(part, series["eigenvalues"])
        spectra = _spectra(part, series["eigenvalues"])
    data["spectrum"] = [each.text if each else "" for each in spectra]
    series["complete_to"] = np.array(
        [np.nan if not each or each.fraction is None else each.fraction for each in spectra]
    )
    series |= _skills(part, run) | _maps(part, run)
    return {
        **data,
        **{name: _json_series(series.get(name)) for name in SERIES},
        "start": int(np.flatnonzero(part[axis].values == default_l2(part, run))[0]),
        "lost": losses_of_run(part, run),
    }


SERIES = (*EXACT, *ROUNDED, "tolerance", "complete_to", "class_skill", "curvature_share", "slope", "response")
"""The numbers along λ in the result of :func:`run_data`."""


def _text(value: object) -> str:
    """Return a text of the store, which reads as NaN where it was not written."""
    return value if isinstance(value, str) else ""


def _load_run(ds: xr.Dataset, run: int, progress: Callable[[int, int], None] | None) -> xr.Dataset:
    """Load the variables of ``run`` that a report shows; the dimension run is kept."""
    axis = axis_of(ds)
    names = [name for name in (*EXACT, *ROUNDED, *TEXTS, *_OF_MODES, "class_response", *_OTHERS) if name in ds]
    part = without_parameters(ds[names].sel(run=[run]))
    large = [name for name in names if BY_NAME[name].by_l2]
    count = part.sizes[axis]
    blocks = []
    for first in range(0, count, _BLOCK):
        blocks.append(_load(part[[*large, "status"]].isel({axis: slice(first, first + _BLOCK)})))
        if progress is not None:
            progress(min(first + _BLOCK, count), count)
    small = _load(part.drop_vars(large))
    return small.assign({name: _concatenate([block[name] for block in blocks]) for name in large})


def _concatenate(blocks: list[xr.DataArray]) -> tuple[tuple[Hashable, ...], NDArray[np.float64]]:
    dims = blocks[0].dims
    return dims, np.concatenate([block.values for block in blocks], axis=dims.index(axis_of(blocks[0])))


def _load(part: xr.Dataset) -> xr.Dataset:
    """Load each variable of ``part``; an error names the damaged one."""
    for name, variable in part.variables.items():
        with decoding(str(name)):
            variable.load()
    return part


def _variables(part: xr.Dataset) -> dict[str, NDArray[np.float64]]:
    """Return the variables of the store, NaN at grid points that are not complete or lack the number."""
    complete = part["status"] == Status.COMPLETE
    values = {}
    for name in (*EXACT, *ROUNDED):
        if name in part:
            array = part[name].astype(np.float64).where(complete).isel(run=0)
            values[name] = array.transpose(axis_of(part), *BY_NAME[name].dims[2:]).values
    for name in {"confusion", "converged", "epochs", "matvecs"} & values.keys():
        values[name][values[name] < 0] = np.nan  # −1: an import without this number
    if {"converged", "residual_norm"} <= values.keys():
        values["converged"][~np.isfinite(values["residual_norm"])] = np.nan  # unknown without a residual norm
    return {name: round_to_digits(array, DIGITS) if name in ROUNDED else array for name, array in values.items()}


def _skills(part: xr.Dataset, run: int) -> dict[str, NDArray[np.float64]]:
    if not bool((part["confusion"] >= 0).any()):  # an import without counts
        return {}
    skills = [
        class_skill(part, split)["class_skill"].sel(run=run).transpose(axis_of(part), "label").values
        for split in SPLITS
    ]
    return {"class_skill": round_to_digits(np.stack(skills, axis=1), DIGITS)}


def _maps(part: xr.Dataset, run: int) -> dict[str, NDArray[np.float64]]:
    """Return the maps of class × mode, (l2, split or sign, label, mode) each, rounded."""
    axis = axis_of(part)
    if any(name not in part for name in _OF_MODES):
        return {}
    l2 = part[axis].values
    by_split = [sensitivity(part, run, split).reindex({axis: l2}).transpose(axis, "label", "mode") for split in SPLITS]
    shares, slopes = (np.stack([one[name].values for one in by_split], axis=1) for name in ("curvature_share", "slope"))
    maps = {"curvature_share": shares.round(DECIMALS) + 0.0, "slope": round_to_thousandths(slopes)}
    if "class_response" in part:
        response = part["class_response"].where(part["status"] == Status.COMPLETE).isel(run=0)
        maps["response"] = response.transpose(axis, "sign", "label", "mode").values.round(DECIMALS) + 0.0
    return maps


def _spectra(part: xr.Dataset, eigenvalues: NDArray[np.float64]) -> list[Completeness | None]:
    """Return how complete the spectrum of each grid point is, from (l2, mode); None if that is unknown."""
    settings = SpectrumSettings.of(part.attrs)
    if settings is None or "eigenvalue_bound" not in part:
        return [None] * len(eigenvalues)
    bounds = part["eigenvalue_bound"].isel(run=0).values.tolist()
    return [settings.completeness(*each) for each in zip(eigenvalues, bounds, strict=True)]


def _tolerance(part: xr.Dataset, eigenvalues: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the tolerance of each residual norm (l2, mode); NaN where it cannot be computed from the store.

    It is computed from the largest |μ| that the solver has found, which is in the store if the largest were requested.
    """
    config, origin = json.loads(part.attrs.get("config", "{}")), origin_of(part.attrs)
    if config.get("which") != "LM":
        return np.full_like(eigenvalues, np.nan)
    tol, eps = float(config["tol"]), float(np.finfo(config["dtype"]).eps)
    magnitudes = np.abs(eigenvalues)
    scale = np.fmax.reduce(magnitudes, axis=1, keepdims=True)
    tolerances = np.maximum(tol * magnitudes, max(tol * eps ** (2 / 3), ROUNDING * eps) * scale)
    run = int(part["run"].values[0])
    as_imported = [origin.is_as_imported(run, l2) for l2 in part[axis_of(part)].values.tolist()]
    return round_to_digits(np.where(np.array(as_imported)[:, None], np.nan, tolerances), DIGITS)


def _json_series(values: NDArray[np.float64] | None) -> list[Any] | None:
    """Return lists for JSON, or None if no number is finite."""
    return None if values is None or not np.isfinite(values).any() else json_list(values)
