"""What a report shows, as plain values: a store → dicts of numbers, texts and lists that JSON can hold."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from hesstore.analysis import class_skill, sensitivity
from hesstore.analysis.selection import require
from hesstore.errors import AnalysisError, CorruptStoreError
from hesstore.plots import plot_data
from hesstore.report.rounding import in_thousandths, listed, significant
from hesstore.store.origin import origin_of
from hesstore.store.schema import BY_NAME, SPLITS, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    import xarray as xr
    from numpy.typing import NDArray

    Progress = Callable[[int, int], None]

EXACT = (
    *("accuracy", "class_accuracy", "confusion", "loss", "penalty", "eigenvalues", "converged"),
    *("epochs", "matvecs", "fit_seconds", "analysis_seconds"),
)
"""Variables that a report has as they are in the store, but for fillers of what an import lacks."""
IN_DIGITS = ("residual_norm", "gradient_norm", "weights_norm", "stationarity", "trace", "trace_error")
"""Those that it has to :data:`DIGITS` significant digits."""
DIGITS = 4
DECIMALS = 3
"""Of the maps of class × mode."""
TEXTS = ("failure", "solver_message")
_OF_MODES = ("class_curvature", "class_slope")
_BLOCK = 32
"""λ that are read at once of what has a file a λ."""
_ROUNDING = 16.0
"""As in :mod:`hesstore.linalg.eigenpairs`, which needs PyTorch."""


def overview(ds: xr.Dataset) -> dict[str, Any]:
    """What is the same for all runs, and what the runs are.

    Raises
    ------
    AnalysisError
        If it is not a whole store, or no λ of any run is complete.
    """
    require(ds, "status", "eigenvalues", "confusion")
    status = _read(ds["status"].transpose("run", "l2"))
    if not (status == Status.COMPLETE).any():
        raise AnalysisError("no λ of any run is complete: run the sweep first")
    seeds, directions = ds["seed"].values, ds["direction"].values
    return {
        "labels": plot_data.labels_of(ds),
        "splits": list(SPLITS),
        "modes": ds.sizes["mode"],
        "l2": ds["l2"].values.tolist(),
        "penalty_scale": float(ds.attrs["penalty_scale"]) if "penalty_scale" in ds.attrs else None,
        "runs": [
            {
                "id": int(run),
                "seed": int(seeds[at]),
                "direction": str(directions[at]),
                "counts": {state.name.lower(): int((status[at] == state).sum()) for state in Status},
            }
            for at, run in enumerate(ds["run"].values)
        ],
    }


def of_run(ds: xr.Dataset, run: int, progress: Progress | None = None) -> dict[str, Any]:
    """All that is shown of one run: lists along λ, with None where a λ is not complete or has no such number.

    Parameters
    ----------
    ds : Dataset
        A store. Only this run is read, and nothing of the size of the weights.
    run : int
        Run ID.
    progress : callable, optional
        Is told (λ read, λ of the run).

    Returns
    -------
    dict
        ``status`` and the :data:`TEXTS`, (l2,); the variables :data:`EXACT` and :data:`IN_DIGITS` with their own
        dimensions less run; ``class_skill`` (l2, split, label); ``tolerance`` (l2, mode), the residual norm up to which
        a pair is converged; ``curvature_share`` and ``slope`` (l2, split, label, mode) of
        :func:`hesstore.analysis.sensitivity`; ``response`` (l2, sign, label, mode), which is ``class_response``.
        What the store has at no λ of the run is None. Further ``start``, the index of the λ to show first, and
        ``last_known`` (split, label), the highest λ at which each class's skill is above 0.1.
    """
    part = _loaded(ds, run, progress)
    found: dict[str, Any] = {"status": part["status"].isel(run=0).values.tolist()}
    found |= {name: [_text(text) for text in part[name].values[0].tolist()] for name in TEXTS if name in part}
    if not (part["status"] == Status.COMPLETE).any():
        return {**found, **dict.fromkeys(SERIES), "start": 0, "last_known": None}
    series = _variables(part)
    series["tolerance"] = _tolerance(part, series["eigenvalues"])
    series |= _skills(part, run) | _maps(part, run)
    start = int(np.flatnonzero(part["l2"].values == plot_data.telling_l2(part, run))[0])
    last_known = np.stack([plot_data.onsets(part, run, split) for split in SPLITS])
    return {
        **found,
        **{name: _there(series.get(name)) for name in SERIES},
        "start": start,
        "last_known": listed(last_known),
    }


SERIES = (*EXACT, *IN_DIGITS, "tolerance", "class_skill", "curvature_share", "slope", "response")
"""What :func:`of_run` has along λ, but for status and texts."""


def _text(value: object) -> str:
    """Return a text, which is NaN if it is missing."""
    return value if isinstance(value, str) else ""


def _loaded(ds: xr.Dataset, run: int, progress: Progress | None) -> xr.Dataset:
    """What is shown of ``run``, in memory; the dimension run stays."""
    names = [name for name in (*EXACT, *IN_DIGITS, *TEXTS, *_OF_MODES, "class_response", "status") if name in ds]
    part = plot_data.without_parameters(ds[names].sel(run=[run]))
    by_l2 = [name for name in names if BY_NAME[name].by_l2]
    count = part.sizes["l2"]
    blocks = []
    for first in range(0, count, _BLOCK):
        blocks.append(_read_all(part[[*by_l2, "status"]].isel(l2=slice(first, first + _BLOCK))))
        if progress is not None:
            progress(min(first + _BLOCK, count), count)
    small = _read_all(part.drop_vars(by_l2))
    return small.assign({name: _joined([block[name] for block in blocks]) for name in by_l2})


def _joined(blocks: list[xr.DataArray]) -> tuple[tuple[Hashable, ...], NDArray[np.float64]]:
    dims = blocks[0].dims
    return dims, np.concatenate([block.values for block in blocks], axis=dims.index("l2"))


def _read_all(part: xr.Dataset) -> xr.Dataset:
    try:
        return part.load()
    except (ValueError, RuntimeError) as error:
        raise CorruptStoreError(f"{', '.join(map(str, part.data_vars))}: {error}") from error


def _read(array: xr.DataArray) -> NDArray[Any]:
    return _read_all(array.to_dataset(name=array.name))[array.name].values


def _variables(part: xr.Dataset) -> dict[str, NDArray[np.float64]]:
    """Those of the store, NaN where there is none."""
    complete = part["status"] == Status.COMPLETE
    values = {}
    for name in (*EXACT, *IN_DIGITS):
        if name in part:
            chosen = part[name].astype(np.float64).where(complete).isel(run=0)
            values[name] = chosen.transpose("l2", *BY_NAME[name].dims[2:]).values
    for name in {"confusion", "converged", "epochs", "matvecs"} & values.keys():
        values[name][values[name] < 0] = np.nan  # an import may lack them
    if {"converged", "residual_norm"} <= values.keys():
        values["converged"][~np.isfinite(values["residual_norm"])] = np.nan  # nothing is known of what has no residual
    return {name: significant(array, DIGITS) if name in IN_DIGITS else array for name, array in values.items()}


def _skills(part: xr.Dataset, run: int) -> dict[str, NDArray[np.float64]]:
    if not bool((part["confusion"] >= 0).any()):  # an import that had no counts
        return {}
    both = [class_skill(part, split)["class_skill"].sel(run=run).transpose("l2", "label").values for split in SPLITS]
    return {"class_skill": significant(np.stack(both, axis=1), DIGITS)}


def _maps(part: xr.Dataset, run: int) -> dict[str, NDArray[np.float64]]:
    """(l2, split or sign, label, mode) each, rounded."""
    if any(name not in part for name in _OF_MODES):
        return {}
    l2 = part["l2"].values
    by_split = [sensitivity(part, run, split).reindex(l2=l2).transpose("l2", "label", "mode") for split in SPLITS]
    shares, slopes = (np.stack([one[name].values for one in by_split], axis=1) for name in ("curvature_share", "slope"))
    maps = {"curvature_share": shares.round(DECIMALS) + 0.0, "slope": in_thousandths(slopes)}
    if "class_response" in part:
        response = part["class_response"].where(part["status"] == Status.COMPLETE).isel(run=0)
        maps["response"] = response.transpose("l2", "sign", "label", "mode").values.round(DECIMALS) + 0.0
    return maps


def _tolerance(part: xr.Dataset, eigenvalues: NDArray[np.float64]) -> NDArray[np.float64]:
    """(l2, mode) what a residual norm is held against; NaN where the store can't tell.

    It is reckoned from the largest |μ| that the solver has seen, which a store has if the largest were asked for.
    """
    config, origin = json.loads(part.attrs.get("config", "{}")), origin_of(part.attrs)
    if config.get("which") != "LM":
        return np.full_like(eigenvalues, np.nan)
    tol, eps = float(config["tol"]), float(np.finfo(config["dtype"]).eps)
    magnitudes = np.abs(eigenvalues)
    scale = np.fmax.reduce(magnitudes, axis=1, keepdims=True)
    found = np.maximum(tol * magnitudes, max(tol * eps ** (2 / 3), _ROUNDING * eps) * scale)
    run = int(part["run"].values[0])
    as_imported = [origin.is_as_imported(run, strength) for strength in part["l2"].values.tolist()]
    return significant(np.where(np.array(as_imported)[:, None], np.nan, found), DIGITS)


def _there(values: NDArray[np.float64] | None) -> list[Any] | None:
    """As JSON; None if there is no number at all."""
    return None if values is None or not np.isfinite(values).any() else listed(values)
