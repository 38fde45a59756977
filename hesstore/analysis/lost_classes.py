"""Where along λ each class is lost, by a fit to all grid points, run by run and over runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr

from hesstore.analysis.attributes import follow_axis, variable, with_attributes
from hesstore.analysis.class_quantities import SKILL, chance, class_values, require_margin
from hesstore.analysis.run_means import mean_over_runs
from hesstore.analysis.step_fit import fit_step
from hesstore.store.schema import axis_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

MARGIN = 0.25
"""The default of ``margin``: between the skills of known classes and the small ones of lost classes."""
NEVER_LOST, LOST_BEFORE, NO_VALUES = "never lost", "lost before the first grid point", "no values"

_DIRECTIONS = ("up", "down")


def lost_classes(ds: xr.Dataset, quantity: str = SKILL, split: str = "test", margin: float = MARGIN) -> xr.Dataset:
    """Find where along λ each class is lost, for each run and as a mean over the runs of each direction.

    Parameters
    ----------
    ds : Dataset
        A store.
    quantity : str
        ``class_skill`` (see :func:`class_skill`), whose chance level is 0, or ``class_accuracy``, whose chance level is
        1/C for C classes; a network that predicts the same class for every row has accuracy 1 for that class.
    split : str
        ``"train"`` or ``"test"``.
    margin : float
        A class is known at a grid point if the quantity exceeds the chance level by more than this; at least 0 and
        below 1.

    Returns
    -------
    Dataset
        For each run and label: ``lost_l2``, the midpoint of the neighbouring grid points ``lost_from`` and ``lost_to``
        between which the class is lost; ``low`` and ``high``, its 95 % interval, NaN if it is open at that end of the
        grid; ``crossings``, how often the class changes between known and not known along λ; ``censored``, which is
        ``"never lost"``, ``"lost before the first grid point"`` or ``"no values"`` where lost_l2 is NaN, and empty
        elsewhere.

        For each direction and label: ``lost_l2_mean``, with ``lost_l2_mean_low`` and ``lost_l2_mean_high``, its 95 %
        interval, Student's, widened by half a gap of the grid, NaN for one run and for equal values; ``count``, the
        number of runs. Mean and interval are NaN if the class is censored in one of the runs, because the mean of the
        others would be too low or too high.

        For a collection of checkpoints, the name of its axis takes the place of ``l2`` in these names.

    Raises
    ------
    AnalysisError
        If the store has no complete grid point, or an argument is out of range.

    Notes
    -----
    Lost classes are known again at single grid points, and weak ones are not known at single grid points before. A
    step with exceptions is therefore fitted by maximum likelihood to whether the class is known, and the interval is
    that of its profile likelihood. In simulations of abrupt and gradual losses, with independent and persistent
    exceptions, the interval covers the λ of the loss in 92 to 100 % of cases, and in 82 % where the noise of a gradual
    loss has an autocorrelation of 0.7.
    """
    axis = axis_of(ds)
    values = class_values(ds, quantity, split)
    require_margin(margin)
    threshold = chance(ds, quantity) + margin
    losses = [[loss_of(ds[axis].values, series, threshold) for series in run.T] for run in values.values]
    dtypes = {"crossings": np.int64, "censored": np.object_}
    fields: dict[str, NDArray[Any]] = {
        name: np.array([[getattr(loss, name) for loss in run] for run in losses], dtypes.get(name, np.float64))
        for name in _NAMES
    }
    units = ds[axis].attrs.get("units")
    per_run = {
        name: variable(("run", "label"), fields[name], text, units if name in _OF_L2 else None)
        for name, text in _NAMES.items()
    }
    directions = [name for name in _DIRECTIONS if (ds["direction"].values == name).any()]
    groups = [ds["direction"].values == name for name in directions]
    summary = _summary(fields["lost_l2"], fields["lost_to"] - fields["lost_from"], groups, units)
    coords = {name: ds[name].variable for name in ("run", "label")}
    of_runs = {"seed": ("run", ds["seed"].values), "run_direction": ("run", ds["direction"].values)}
    found = xr.Dataset({**per_run, **summary}, coords={**coords, **of_runs, "direction": directions})
    return follow_axis(with_attributes(found), axis)


class Loss(NamedTuple):
    """The loss of one class in one run; the fields are the variables of :func:`lost_classes`."""

    lost_l2: float
    lost_from: float
    lost_to: float
    low: float
    high: float
    crossings: int
    censored: str


_NAMES = {
    "lost_l2": "λ at which the class is lost",
    "lost_from": "last λ before the class is lost",
    "lost_to": "first λ after the class is lost",
    "low": "lower end of the 95 % interval of the loss",
    "high": "upper end of the 95 % interval of the loss",
    "crossings": "number of changes between known and not known",
    "censored": "reason why the class has no λ of its loss",
}
_OF_L2 = ("lost_l2", "lost_from", "lost_to", "low", "high")


def loss_of(l2: NDArray[np.float64], series: NDArray[np.float64], threshold: float) -> Loss:
    """Return the loss of a class whose values (n,) are above ``threshold`` where it is known; NaN are left out."""
    is_finite = np.isfinite(series)
    l2, known = l2[is_finite], series[is_finite] > threshold
    if not known.size:
        return Loss(np.nan, np.nan, np.nan, np.nan, np.nan, 0, NO_VALUES)
    step = fit_step(known)
    crossings = int((known[1:] != known[:-1]).sum())
    low = float(l2[step.low - 1]) if step.low else np.nan
    high = float(l2[step.high]) if step.high < known.size else np.nan
    if not 0 < step.position < known.size:
        return Loss(np.nan, np.nan, np.nan, low, high, crossings, NEVER_LOST if step.position else LOST_BEFORE)
    before, after = float(l2[step.position - 1]), float(l2[step.position])
    return Loss((before + after) / 2, before, after, low, high, crossings, "")


# -- the mean over runs -----------------------------------------------------------------------------------


def _summary(
    l2: NDArray[np.float64], gaps: NDArray[np.float64], groups: list[NDArray[np.bool_]], units: str | None
) -> dict[str, xr.Variable]:
    """Return the mean over the runs of each group of the λ (runs, labels), which lie in gaps of these lengths."""
    means = np.array([_mean(l2[group], gaps[group]) for group in groups])
    counts = np.array([np.full(gaps.shape[1], group.sum()) for group in groups])
    dims = ("direction", "label")
    texts = ("mean over runs", "lower end of its 95 % interval", "upper end of its 95 % interval")
    names = ("lost_l2_mean", "lost_l2_mean_low", "lost_l2_mean_high")
    return {
        **{
            name: variable(dims, means[:, at], f"{_NAMES['lost_l2']}, {text}", units)
            for at, (name, text) in enumerate(zip(names, texts, strict=True))
        },
        "count": variable(dims, counts, "number of runs"),
    }


def _mean(l2: NDArray[np.float64], gaps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over runs (runs, labels) and the ends of its interval, (3, labels)."""
    means = [mean_over_runs(label if np.isfinite(label).all() else np.array([])) for label in l2.T]
    mean, low, high = (np.array([getattr(each, name) for each in means]) for name in ("mean", "low", "high"))
    half_gap = gaps.mean(0) / 2
    return np.stack([mean, low - half_gap, high + half_gap])
