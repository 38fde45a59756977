"""What pictures read: complete λ of a run, and what its seed's other run and the classes do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hesstore.analysis import class_skill, complete, transitions
from hesstore.analysis.selection import complete_variables, l2_position, require_variables
from hesstore.store.schema import Status

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

MARGIN = 0.1
"""The skill above which a class is there, as in :func:`hesstore.analysis.transitions`."""


def series_of(ds: xr.Dataset, run: int, *names: str) -> xr.Dataset:
    """The variables ``names`` of ``run``, in memory, with NaN at λ that are not complete between those that are."""
    return with_gaps(complete_variables(ds, run, *names).load(), ds)


def with_gaps(part: xr.Dataset, ds: xr.Dataset) -> xr.Dataset:
    """``part`` at all λ of ``ds`` between its first and its last, NaN where it has none."""
    l2, there = ds["l2"].values, part["l2"].values
    return part.reindex(l2=l2[(l2 >= there[0]) & (l2 <= there[-1])])


def at_l2(ds: xr.Dataset, run: int, l2: float, *names: str) -> xr.Dataset:
    """The variables ``names`` of ``run`` at the complete λ ``l2``, in memory; the dimensions run and l2 stay.

    Raises
    ------
    AnalysisError
        If it is not one of the complete λ, with the nearest of these.
    """
    require_variables(ds, *names, "status")
    chosen = ds[[*names, "status"]]
    part = complete(chosen, run)
    position = l2_position(part["l2"].values, l2, run)
    return chosen.sel(run=[run], l2=part["l2"].values[[position]]).load()


def runs_of_seed(ds: xr.Dataset, run: int) -> dict[str, int]:
    """The runs of the seed of ``run`` that have complete λ, by direction: up first."""
    require_variables(ds, "status")
    complete(ds[["status"]], run)
    seeds, directions = ds["seed"].values, ds["direction"].values
    seed = seeds[ds["run"].values == run][0]
    there = (ds["status"].transpose("run", "l2").values == Status.COMPLETE).any(1) & (seeds == seed)
    found = {str(directions[at]): int(ds["run"].values[at]) for at in np.flatnonzero(there)}
    return {name: found[name] for name in ("up", "down") if name in found}


def named(ds: xr.Dataset, run: int) -> str:
    """«run 0 (seed 0, up)»."""
    one = ds.sel(run=run)
    return f"run {run} (seed {int(one['seed'])}, {one['direction'].values})"


def both_named(ds: xr.Dataset, run: int) -> str:
    """«runs 0 and 1 (seed 0, up and down)», or :func:`named` if there is one way alone."""
    runs = runs_of_seed(ds, run)
    if len(runs) < 2:
        return named(ds, run)
    seed = int(ds["seed"].sel(run=run))
    return f"runs {' and '.join(map(str, runs.values()))} (seed {seed}, {' and '.join(runs)})"


def labels_of(ds: xr.Dataset) -> list[str]:
    """The classes."""
    return [str(label) for label in ds["label"].values]


def without_parameters(ds: xr.Dataset) -> xr.Dataset:
    """``ds`` without what is large."""
    return ds.drop_dims("param", errors="ignore")


def onsets(ds: xr.Dataset, run: int, split: str = "test") -> NDArray[np.float64]:
    """(label,) the highest λ at which the skill of each class is above :data:`MARGIN`; NaN if at none."""
    require_variables(ds, "confusion", "status")
    complete(ds[["status"]], run)
    small = without_parameters(ds).sel(run=[run])
    if not bool((small["confusion"] >= 0).any()):  # an import that had no counts
        return np.full(ds.sizes["label"], np.nan)
    found: NDArray[np.float64] = transitions(small, split=split, margin=MARGIN, resamples=1)["onset"].values[0]
    return found


def skill_of(ds: xr.Dataset, run: int, split: str) -> xr.DataArray:
    """:func:`hesstore.analysis.class_skill` of ``run`` (l2, label), with NaN at λ that are not complete."""
    require_variables(ds, "confusion")
    there = complete(ds[["status"]], run)["l2"].values
    found = class_skill(without_parameters(ds).sel(run=[run]), split).isel(run=0).sel(l2=there)
    return with_gaps(found, ds)["class_skill"].transpose("l2", "label")


def losses(ds: xr.Dataset, run: int, split: str = "test") -> NDArray[np.float64]:
    """:func:`onsets`, NaN also for classes that are there at the last complete λ."""
    last = complete(ds[["status"]], run)["l2"].values[-1]
    found = onsets(ds, run, split)
    return np.where(found < last, found, np.nan)


def telling_l2(ds: xr.Dataset, run: int) -> float:
    """The last complete λ before the first class is lost; the first one if no class is ever there."""
    found = onsets(ds, run)
    first = float(complete(ds[["status"]], run)["l2"].values[0])
    return float(np.fmin.reduce(found, initial=np.inf)) if np.isfinite(found).any() else first


def outliers(ds: xr.Dataset, k: int | None) -> int:
    """``k``, by default classes − 1: the eigenvalues that stand out; at most all modes."""
    return min(ds.sizes["label"] - 1, ds.sizes["mode"]) if k is None else k
