"""Where along λ classes are lost: the onset and the largest drop of a quantity, run by run and over runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import xarray as xr

from hesstore.analysis.attributes import variable, with_attributes
from hesstore.analysis.class_quantities import CLASS_QUANTITIES, SKILL, chance, class_values, require_margin
from hesstore.analysis.run_means import mean_over_runs
from hesstore.store.schema import AXIS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

_DIRECTIONS = ("up", "down")


def transitions(
    ds: xr.Dataset,
    quantity: str = SKILL,
    split: str = "test",
    margin: float = 0.1,
) -> xr.Dataset:
    """Find where along λ each class is lost, for each run and as a mean over the runs of each direction.

    Parameters
    ----------
    ds : Dataset
        A store.
    quantity : str
        ``class_skill`` (see :func:`class_skill`), whose chance level is 0; or a variable with the dimensions run and
        l2, whose further dimensions are kept. The chance level of ``class_accuracy`` is 1/C for C classes; note that
        a network that predicts the same class for every row has accuracy 1 for that class. Every other variable is
        replaced by its magnitude, its chance level is 0, and ``margin`` is a share of the largest magnitude of the
        series.
    split : str
        ``"train"`` or ``"test"``, for a quantity with the dimension split.
    margin : float
        A class is known where the quantity exceeds the chance level by more than this; at least 0 and below 1.

    Returns
    -------
    Dataset
        For each run and class, from the complete grid points where the quantity is finite: ``onset``, the highest λ
        at which the class is known, NaN if it is never known; ``drop_from`` and ``drop_to``, the two neighbouring λ
        between which the quantity falls most; ``drop_l2``, their midpoint; and ``drop_size``, the size of that fall.
        If the quantity never falls, ``drop_size`` is 0 and the others are NaN; with a single grid point all four
        are NaN.

        For onset, drop_l2 and drop_size, over the runs of each ``direction`` that are not NaN: ``…_mean``;
        ``…_low`` and ``…_high``, Student's 95 % interval of the mean over runs, NaN for one run and for equal values;
        ``…_count``, the number of runs.

    Raises
    ------
    AnalysisError
        If the store has no complete grid point, or an argument is out of range.
    """
    values = class_values(ds, quantity, split)
    require_margin(margin)
    rest = tuple(map(str, values.dims[2:]))
    units = values.attrs.get("units")
    by_run = _transitions_by_run(ds, values, quantity, margin)
    per_run = {name: variable(("run", *rest), by_run[name], _NAMES[name], _units(name, units)) for name in by_run}
    directions = [name for name in _DIRECTIONS if (ds["direction"].values == name).any()]
    groups = [ds["direction"].values == name for name in directions]
    summary = _summary(by_run, groups, rest, units)
    coords = {str(dim): ds[str(dim)].variable for dim in ("run", *rest) if dim in ds.coords}
    of_runs = {"seed": ("run", ds["seed"].values), "run_direction": ("run", ds["direction"].values)}
    return with_attributes(xr.Dataset({**per_run, **summary}, coords={**coords, **of_runs, "direction": directions}))


# -- one series along λ -----------------------------------------------------------------------------------


class _Transition(NamedTuple):
    onset: float
    drop_l2: float
    drop_from: float
    drop_to: float
    drop_size: float


_NAMES = {
    "onset": "highest λ above the chance level",
    "drop_l2": "λ of the largest drop",
    "drop_from": "last λ before the largest drop",
    "drop_to": "first λ after the largest drop",
    "drop_size": "size of the largest drop",
}


def _units(name: str, of_quantity: str | None) -> str | None:
    return of_quantity if name == "drop_size" else None


def _transitions_by_run(
    ds: xr.Dataset, values: xr.DataArray, quantity: str, margin: float
) -> dict[str, NDArray[np.float64]]:
    """Return the fields of :class:`_Transition` by name, (run, …) each."""
    l2, chance_level = ds[AXIS].values, chance(ds, quantity)
    is_share = quantity not in CLASS_QUANTITIES

    def transition(series: NDArray[np.float64]) -> tuple[float, ...]:
        return _transition(l2, series, _threshold(series, chance_level, margin, is_share=is_share))

    fields = np.moveaxis(np.apply_along_axis(transition, 1, values.values), 1, 0)
    return dict(zip(_Transition._fields, fields, strict=True))


def _threshold(series: NDArray[np.float64], chance_level: float, margin: float, *, is_share: bool) -> float:
    return margin * float(np.fmax.reduce(series, initial=0.0)) if is_share else chance_level + margin


def _transition(l2: NDArray[np.float64], series: NDArray[np.float64], threshold: float) -> _Transition:
    """Return the transition of one series (n,). NaN entries are left out, which makes their neighbours adjacent."""
    is_known = np.isfinite(series)
    l2, series = l2[is_known], series[is_known]
    onset = onset_of(l2, series, threshold)
    if l2.size < 2:
        return _Transition(onset, np.nan, np.nan, np.nan, np.nan)
    falls = series[:-1] - series[1:]
    at = int(falls.argmax())
    if falls[at] <= 0:
        return _Transition(onset, np.nan, np.nan, np.nan, 0.0)
    return _Transition(onset, (l2[at] + l2[at + 1]) / 2, l2[at], l2[at + 1], falls[at])


def onset_of(l2: NDArray[np.float64], series: NDArray[np.float64], threshold: float) -> float:
    """Return the highest λ at which a series (n,) is above ``threshold``; NaN if there is no such λ."""
    above = l2[series > threshold]
    return float(above[-1]) if above.size else np.nan


# -- the mean over runs -----------------------------------------------------------------------------------


def _summary(
    by_run: Mapping[str, NDArray[np.float64]],
    groups: list[NDArray[np.bool_]],
    rest: tuple[str, ...],
    units: str | None,
) -> dict[str, xr.Variable]:
    result = {}
    dims = ("direction", *rest)
    for name in ("onset", "drop_l2", "drop_size"):
        intervals = [np.apply_along_axis(mean_over_runs, 0, by_run[name][group]) for group in groups]
        mean, low, high, count = np.stack(intervals, axis=1)
        for suffix, values, text in (
            ("mean", mean, "mean over runs"),
            ("low", low, "lower end of the 95 % interval of the mean"),
            ("high", high, "upper end of the 95 % interval of the mean"),
        ):
            result[f"{name}_{suffix}"] = variable(dims, values, f"{_NAMES[name]}, {text}", _units(name, units))
        result[f"{name}_count"] = variable(dims, count.astype(np.int64), f"{_NAMES[name]}, number of runs")
    return result
