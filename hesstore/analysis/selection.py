"""The selection of what an analysis may read: only complete grid points have results that one can rely on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from hesstore.config.l2_grid import AXIS, value_text
from hesstore.errors import AnalysisError
from hesstore.store.schema import BY_NAME, LOWEST, OF_ANALYSIS, SPLITS, Status, axis_of
from hesstore.store.variable import HESSIAN

if TYPE_CHECKING:
    from numpy.typing import NDArray

RECORDING_OPTIONS = {
    **dict.fromkeys(("class_response", "response_step", "predicted_rise", "measured_rise"), "--response 0.1"),
    **dict.fromkeys(("trace", "trace_error", "frobenius_norm", "frobenius_norm_error"), "--probes 16"),
    **dict.fromkeys(("scalar_curvature", "scalar_curvature_error"), "--probes 16"),
    **dict.fromkeys(("loss_scalar_curvature", "loss_scalar_curvature_error"), "--probes 16"),
    **dict.fromkeys(("density", "density_error"), "--density"),
    **dict.fromkeys(LOWEST, "--lowest 1"),
    **dict.fromkeys(("block_eigenvalues", "block_residual_norm", "block_bound"), "--blocks layer"),
    **dict.fromkeys(("block_trace", "block_trace_error"), "--blocks layer"),
}
"""The options of ``hesstore sweep`` that record optional variables, by variable."""


def _growing_command(ds: xr.Dataset) -> str:
    """Return the beginning of the command that grows the store of ``ds``."""
    return "hesstore sweep STORE …" if axis_of(ds) == AXIS else "hesstore analyse … -o STORE"


def analysing_advice(ds: xr.Dataset) -> str:
    """Return the advice for a store that was made with k = 0."""
    return f"analyse its weights with `{_growing_command(ds)} --k 30 --grow` and the other settings of the store"


def growing_advice(ds: xr.Dataset, options: str) -> str:
    """Return the command that records what a store lacks."""
    return f"`{_growing_command(ds)} {options} --grow`"


def complete(ds: xr.Dataset, run: int = 0) -> xr.Dataset:
    """Select the complete grid points of one run.

    Parameters
    ----------
    ds : Dataset
        A store.
    run : int
        Run ID.

    Returns
    -------
    Dataset
        ``ds`` without the dimension run, ``l2`` in ascending order. No large variable is read.

    Raises
    ------
    AnalysisError
        If the run does not exist or has no complete grid point.
    """
    part = ds.isel(run=run_position(ds, run))
    positions = np.flatnonzero(part["status"].values == Status.COMPLETE)
    if not positions.size:
        raise AnalysisError(f"run {run} has no complete grid point: run the sweep first")
    first, last = int(positions[0]), int(positions[-1])
    has_gaps = last - first + 1 > positions.size
    # a slice does not copy arrays that are in memory
    return part.isel({axis_of(ds): positions if has_gaps else slice(first, last + 1)})


def complete_variables(ds: xr.Dataset, run: int, *names: str) -> xr.Dataset:
    """Select the variables ``names`` at the complete grid points of ``run``.

    The same as ``complete(ds, run)[[*names]]``, but no other variable is indexed on the way.
    """
    require_variables(ds, *names, "status")
    return complete(ds[[*names, "status"]], run)[[*names]]


def run_position(ds: xr.Dataset, run: int) -> int:
    """Return the position of ``run`` along the dimension run."""
    require_variables(ds, "status")
    if "run" not in ds.dims:
        raise AnalysisError("the Dataset has no dimension run: pass the whole store, not one run of it")
    found = np.flatnonzero(ds["run"].values == run)
    if not found.size:
        raise AnalysisError(f"run {run} is not in the store: choose from {', '.join(map(str, ds['run'].values))}")
    return int(found[0])


def l2_position(l2: NDArray[np.float64], value: float, run: int, axis: str = AXIS) -> int:
    """Return the position of ``value`` in ``l2``, the λ (or other ``axis``) of the complete grid points of ``run``.

    The last digits of ``value`` may be off.
    """
    found = np.flatnonzero(np.isclose(l2, value, rtol=1e-9, atol=1e-12))
    if not found.size:
        nearest = l2[np.abs(l2 - value).argmin()] if np.isfinite(value) else l2[0]
        raise AnalysisError(
            f"{value_text(axis, value)} is not one of the {l2.size} complete grid points of run {run}: try {nearest:g}"
        )
    return int(found[0])


def require_variables(ds: xr.Dataset, *names: str) -> None:
    """Raise AnalysisError if ``ds`` lacks a variable."""
    missing = [name for name in names if name not in ds]
    if not missing:
        return
    if not has_analyses(ds) and OF_ANALYSIS & set(missing):
        raise AnalysisError(
            f"{', '.join(sorted(OF_ANALYSIS & set(missing)))}: not in this store, which was made without analyses "
            f"(k = 0): {analysing_advice(ds)}"
        )
    if set(missing) <= set(RECORDING_OPTIONS):
        other = matrix_name(ds) != "Hessian" and any(BY_NAME[name].of_hessian for name in missing)
        known = (RECORDING_OPTIONS[name] for name in missing)
        options = " ".join(dict.fromkeys([*known, *(["--operator hessian"] if other else [])]))
        verb, pronoun = ("is", "it") if len(missing) == 1 else ("are", "them")
        raise AnalysisError(
            f"{', '.join(missing)} {verb} not in this store: record {pronoun} with "
            f"{growing_advice(ds, options)} and the other settings of the store"
        )
    raise AnalysisError(f"the Dataset has no {', '.join(missing)}: pass a whole store")


def has_analyses(ds: xr.Dataset) -> bool:
    """Whether the store of ``ds`` has the results of analyses: with k = 0, it has only those of fits."""
    return bool(setting(ds, "k") != 0)


def mode_count(ds: xr.Dataset) -> int:
    """Return the number of eigenpairs per grid point.

    Raises
    ------
    AnalysisError
        If ``ds`` has none.
    """
    if "mode" not in ds.sizes:
        require_variables(ds, "eigenvalues")
    return ds.sizes["mode"]


def penalty_shift(ds: xr.Dataset) -> xr.DataArray:
    """Return 2cλ at each grid point, by which the penalty raises the eigenvalues of the Hessian."""
    if "penalty_scale" not in ds.attrs:
        raise AnalysisError("the Dataset has no attribute penalty_scale: pass a whole store")
    axis = axis_of(ds)
    l2 = ds[axis] if axis == AXIS else xr.full_like(ds[axis], float(setting(ds, "l2")[0]))
    shift: xr.DataArray = 2 * float(ds.attrs["penalty_scale"]) * l2
    return shift


def setting(ds: xr.Dataset, name: str) -> Any:
    """Return a setting that decides the results, from the identity of the store; None if the Dataset has none."""
    return json.loads(str(ds.attrs.get("identity", "{}"))).get(name)


def loss_unit(ds: xr.Dataset) -> str | None:
    """Return the unit of losses and their derivatives: nat for the cross-entropy, none for the squared error."""
    named = str(ds["loss"].attrs.get("long_name", "")) if "loss" in ds else ""
    return None if setting(ds, "loss") == "mse" or "squared error" in named else "nat"


def matrix_name(ds: xr.Dataset) -> str:
    """Return the name of the matrix whose eigenpairs the store has."""
    return "Gauss-Newton matrix" if (setting(ds, "operator") or HESSIAN) != HESSIAN else "Hessian"


def solver_order(ds: xr.Dataset) -> str:
    """Return which eigenvalues the store has: ``LM``, ``LA`` or ``SA``; ``LM`` if the Dataset does not say it."""
    return str(setting(ds, "which") or "LM")


def require_all_rows(ds: xr.Dataset) -> None:
    """Raise AnalysisError if H was taken over a subset of the training rows."""
    rows = setting(ds, "hessian_samples")
    if rows:
        raise AnalysisError(
            f"H was taken over {rows} of the training rows (hessian_samples), so its slopes do not belong to the "
            "gradients of all rows: use the split test, or a store whose Hessian uses all rows"
        )


def require_split(split: str) -> None:
    """Raise AnalysisError if ``split`` is not a part of the data."""
    if split not in SPLITS:
        raise AnalysisError(f"split is {split!r}: choose from {', '.join(SPLITS)}")


def evenly_spaced(count: int, most: int) -> NDArray[np.intp]:
    """Return at most ``most`` evenly spaced indices below ``count``, ascending, with the first and the last."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(np.intp)) if count else np.arange(0)
