"""The data of one run for figures: series along λ, single grid points, names, and where classes are lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hesstore.analysis import class_skill, complete, lost_classes, transitions
from hesstore.analysis.lost_classes import LOST_BEFORE, NEVER_LOST
from hesstore.analysis.selection import (
    complete_variables,
    l2_position,
    mode_count,
    penalty_shift,
    require_variables,
    setting,
    solver_order,
)
from hesstore.analysis.transitions import QUANTITIES
from hesstore.config.l2_grid import value_text
from hesstore.store.schema import Status, axis_of

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray


def run_series(ds: xr.Dataset, run: int, *names: str) -> xr.Dataset:
    """Load the variables ``names`` of ``run``, with NaN at grid points that are not complete between those that are."""
    return with_gaps(complete_variables(ds, run, *names).load(), ds)


def with_gaps(part: xr.Dataset, ds: xr.Dataset) -> xr.Dataset:
    """Return ``part`` at all grid points of ``ds`` from its first to its last one, NaN where it has no value."""
    axis = axis_of(ds)
    l2, complete_l2 = ds[axis].values, part[axis].values
    return part.reindex({axis: l2[(l2 >= complete_l2[0]) & (l2 <= complete_l2[-1])]})


def complete_point(ds: xr.Dataset, run: int, l2: float, *names: str) -> xr.Dataset:
    """Load the variables ``names`` at one complete grid point; the dimensions run and l2 are kept.

    Raises
    ------
    AnalysisError
        If the run has no complete grid point at ``l2``; the message names the nearest one.
    """
    axis = axis_of(ds)
    require_variables(ds, *names, "status")
    selected = ds[[*names, "status"]]
    complete_l2 = complete(selected, run)[axis].values
    position = l2_position(complete_l2, l2, run, axis)
    return selected.sel({"run": [run], axis: complete_l2[[position]]}).load()


def runs_of_seed(ds: xr.Dataset, run: int) -> dict[str, int]:
    """Return the runs with the seed of ``run`` that have complete grid points, by direction: up first."""
    require_variables(ds, "status")
    complete(ds[["status"]], run)
    seeds, directions = ds["seed"].values, ds["direction"].values
    seed = seeds[ds["run"].values == run][0]
    chosen = (ds["status"].transpose("run", axis_of(ds)).values == Status.COMPLETE).any(1) & (seeds == seed)
    runs = {str(directions[at]): int(ds["run"].values[at]) for at in np.flatnonzero(chosen)}
    return {name: runs[name] for name in ("up", "down") if name in runs}


def point_name(ds: xr.Dataset, run: int, l2: float) -> str:
    """Return the name of a grid point, such as "λ = 0.006, run 0 (seed 0, up)"."""
    return f"{value_text(axis_of(ds), l2)}, {run_name(ds, run)}"


def run_name(ds: xr.Dataset, run: int) -> str:
    """Return the name of a run, such as "run 0 (seed 0, up)"."""
    one = ds.sel(run=run)
    return f"run {run} (seed {int(one['seed'])}, {one['direction'].values})"


def run_names(ds: xr.Dataset, run: int) -> str:
    """Return the name of the runs with the seed of ``run``, such as "runs 0 and 1 (seed 0, up and down)"."""
    runs = runs_of_seed(ds, run)
    if len(runs) < 2:
        return run_name(ds, run)
    seed = int(ds["seed"].sel(run=run))
    return f"runs {' and '.join(map(str, runs.values()))} (seed {seed}, {' and '.join(runs)})"


def class_names(ds: xr.Dataset) -> list[str]:
    """Return the names of the classes."""
    return [str(label) for label in ds["label"].values]


def stationarity_note(ds: xr.Dataset, run: int) -> str:
    """Return a note for the heading of a spectrum: its range of stationarity, or nothing if it is not known."""
    if "stationarity" not in ds or not (penalty_shift(ds) > 0).any():  # without a penalty it is 1 everywhere
        return ""
    values = complete_variables(ds, run, "stationarity")["stationarity"].values
    low, high = (reduce(values, initial=np.nan) for reduce in (np.fmin.reduce, np.fmax.reduce))
    return f";  stationarity {low:.2g} to {high:.2g}" if np.isfinite(low) else ""


def stationarity_label(ds: xr.Dataset) -> str:
    """Return the label of an axis of the stationarity, with the centre of the penalty if it has one."""
    displacement = "(θ − θ_ref)" if setting(ds, "center") else "θ"
    return f"‖∇E + 2cλ{displacement}‖ / ‖∇E‖\n(0: stationary)"


def mode_label(ds: xr.Dataset) -> str:
    """Return the label of an axis of modes, which names their order."""
    order = {"LM": "by |eigenvalue|", "LA": "largest eigenvalue first", "SA": "smallest eigenvalue first"}
    return f"mode, {order[solver_order(ds)]}"


def without_parameters(ds: xr.Dataset) -> xr.Dataset:
    """Return ``ds`` without the variables that have one value per parameter."""
    return ds.drop_dims("param", errors="ignore")


def run_losses(ds: xr.Dataset, run: int, split: str = "test") -> xr.Dataset | None:
    """Return where each class of ``run`` is lost, by skill (label,), or None for an import without counts."""
    require_variables(ds, "confusion", "status")
    complete(ds[["status"]], run)
    small = without_parameters(ds).sel(run=[run])
    if not bool((small["confusion"] >= 0).any()):
        return None
    return lost_classes(small, split=split).isel(run=0)


def lost_at(ds: xr.Dataset, run: int, split: str = "test") -> NDArray[np.float64]:
    """Return the λ at which each class is lost (label,); NaN for classes for which it is unknown."""
    losses = run_losses(ds, run, split)
    l2: NDArray[np.float64] = (
        np.full(ds.sizes["label"], np.nan) if losses is None else losses[f"lost_{axis_of(ds)}"].values
    )
    return l2


def run_transitions(ds: xr.Dataset, run: int) -> NDArray[np.float64]:
    """Return the last λ before and the first λ after each transition of ``run`` (transition, 2)."""
    names = [name for name in QUANTITIES if name in ds]
    if not names:
        return np.empty((0, 2))
    found = transitions(ds[[*names, "status"]], names)
    axis = axis_of(ds)
    ends = np.stack([found[f"{axis}_from"].values, found[f"{axis}_to"].values], axis=1)
    of_run: NDArray[np.float64] = ends[found["run"].values == run]
    return of_run


def skill_series(ds: xr.Dataset, run: int, split: str) -> xr.DataArray:
    """Return the skill of the classes of ``run`` (l2, label), with NaN at grid points that are not complete."""
    axis = axis_of(ds)
    require_variables(ds, "confusion")
    complete_l2 = complete(ds[["status"]], run)[axis].values
    skill = class_skill(without_parameters(ds).sel(run=[run]), split).isel(run=0).sel({axis: complete_l2})
    return with_gaps(skill, ds)["class_skill"].transpose(axis, "label")


def default_l2(ds: xr.Dataset, run: int) -> float:
    """Return the last complete λ before the first class is lost, or the first λ if no class is ever known.

    For an import without counts, which does not show when classes are lost, it is the middle one.
    """
    l2 = complete(ds[["status"]], run)[axis_of(ds)].values
    losses = run_losses(ds, run)
    if losses is None:
        return float(l2[l2.size // 2])
    ends = {NEVER_LOST: l2[-1], LOST_BEFORE: np.nan}
    pairs = zip(losses["censored"].values.tolist(), losses["lost_from"].values, strict=True)
    known_to = np.array([ends.get(reason, value) for reason, value in pairs])
    return float(np.fmin.reduce(known_to)) if np.isfinite(known_to).any() else float(l2[0])


def default_k(ds: xr.Dataset) -> int:
    """Return classes − 1, the number of eigenvalues that stand out, or all modes if there are fewer."""
    return min(ds.sizes["label"] - 1, mode_count(ds))
