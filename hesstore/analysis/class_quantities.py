"""The quantities that show whether a class is known, at each run and λ: skill and accuracy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hesstore.analysis.attributes import variable_attrs, with_attributes
from hesstore.analysis.selection import require_split, require_variables
from hesstore.analysis.series import complete_values, run_series
from hesstore.errors import AnalysisError
from hesstore.store.schema import axis_of

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

SKILL = "class_skill"
CLASS_QUANTITIES = (SKILL, "class_accuracy")
"""The quantities that have a value for guessing."""


def class_skill(ds: xr.Dataset, split: str = "test") -> xr.Dataset:
    """Compute how much better than guessing each class is known, at each run and complete grid point.

    The skill is P(ŷ = c | y = c) − P(ŷ = c | y ≠ c): the hit rate minus the false-alarm rate. It is 1 if class c is
    known perfectly, and 0 if the predictions say nothing about it, such as those of a network that predicts the same
    class for every row. It is also known as Youden's J and as Peirce's skill score.

    Parameters
    ----------
    ds : Dataset
        A store.
    split : str
        ``"train"`` or ``"test"``.

    Returns
    -------
    Dataset
        ``class_skill`` (run, l2, label), between −1 and 1; NaN at grid points that are not complete, and for classes
        without rows.

    Raises
    ------
    AnalysisError
        If the store has no complete grid point, or the split is unknown.
    """
    return with_attributes(class_values(ds, SKILL, split).to_dataset(name=SKILL))


def class_values(ds: xr.Dataset, quantity: str, split: str) -> xr.DataArray:
    """Return one of the :data:`CLASS_QUANTITIES` (run, l2, label); NaN at grid points that are not complete."""
    if quantity not in CLASS_QUANTITIES:
        raise AnalysisError(f"quantity is {quantity!r}: choose from {', '.join(CLASS_QUANTITIES)}")
    if quantity != SKILL:
        return run_series(ds, quantity, split)
    require_variables(ds, "confusion", "status")
    require_split(split)
    confusion = ds["confusion"].sel(split=split).load()
    skill = complete_values(ds, _skill(confusion), split)
    _require_skill(skill, confusion, split)
    return skill


def chance(ds: xr.Dataset, quantity: str) -> float:
    """Return the value of the quantity for guessing."""
    return 1 / ds.sizes["label"] if quantity == "class_accuracy" else 0.0


def require_margin(margin: float) -> None:
    """Raise AnalysisError if ``margin`` is out of range."""
    if not 0 <= margin < 1:
        raise AnalysisError(f"margin is {margin:g}: it must be at least 0 and below 1")


def _skill(confusion: xr.DataArray) -> xr.DataArray:
    """Return the skill (run, l2, label) from counts (run, l2, label, pred)."""
    counts = confusion.transpose("run", axis_of(confusion), "label", "pred").values.astype(np.float64)
    counts[counts < 0] = np.nan  # −1: an import without counts
    hits: NDArray[np.float64] = np.diagonal(counts, axis1=-2, axis2=-1)
    rows, predicted = counts.sum(-1), counts.sum(-2)
    others = rows.sum(-1, keepdims=True) - rows
    with np.errstate(invalid="ignore", divide="ignore"):  # a class without rows has no skill: 0/0 is NaN
        skill = hits / rows - (predicted - hits) / others
    result = confusion.isel(pred=0, drop=True).copy(data=skill)
    result.attrs = variable_attrs("skill of the class: hit rate minus false-alarm rate")
    return result


def _require_skill(skill: xr.DataArray, confusion: xr.DataArray, split: str) -> None:
    """Raise AnalysisError, with the reason, if no class has a skill at any grid point."""
    if not bool(skill.isnull().all()):
        return
    if bool((confusion > 0).any()):
        raise AnalysisError(
            f"the {split} split has rows of only one class, and skill compares classes: give another quantity, "
            f"such as class_accuracy, or the {'train' if split == 'test' else 'test'} split"
        )
    raise AnalysisError(
        "the store was imported without confusion counts, which skill needs: give another quantity, such as "
        "class_accuracy, or import with --recompute"
    )
