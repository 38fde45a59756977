"""Where along λ classes are lost, and whether the way back loses them elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import xarray as xr

from hesstore.analysis.labels import described, entry
from hesstore.analysis.selection import require, require_split
from hesstore.errors import AnalysisError
from hesstore.store.schema import Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from hesstore.analysis.labels import Entry

SKILL = "class_skill"
_OF_CLASSES = (SKILL, "class_accuracy")
_DIRECTIONS = ("up", "down")


def transitions(
    ds: xr.Dataset,
    quantity: str = SKILL,
    split: str = "test",
    margin: float = 0.1,
    resamples: int = 2000,
    seed: int = 0,
) -> xr.Dataset:
    """Where along λ each class is lost, run by run, and over the runs of each direction.

    Parameters
    ----------
    ds : Dataset
        A store.
    quantity : str
        ``class_skill``, see :func:`class_skill`, whose chance is 0; or a variable with the dimensions run and l2. For
        ``class_accuracy`` chance is 1/C, C the number of classes: but a network that gives one answer to everything
        has accuracy 1 for that class. Of any other the magnitude is taken, its chance is 0, and ``margin`` is a share
        of the largest magnitude of the series. Its further dimensions are kept.
    split : str
        ``"train"`` or ``"test"``, if the variable has it.
    margin : float
        A series is there where it is more than this above chance; from 0 to below 1.
    resamples, seed : int
        Bootstrap samples, and the seed they are drawn with.

    Returns
    -------
    Dataset
        For each run and class, over the complete λ at which the series is a number: ``onset``, the highest λ at which
        the class is there, NaN if at none; ``drop_from`` and ``drop_to``, the neighbouring λ between which it falls
        most, ``drop_l2``, their midpoint, and ``drop_size``, by how much; NaN and 0 if it never falls, all NaN
        with one λ.

        Over the runs of each ``direction`` that are not NaN, for onset, drop_l2 and drop_size: ``…_mean``;
        ``…_low`` and ``…_high``, the 95 % percentile bootstrap interval of the mean over runs, NaN with one run;
        ``…_count``, how many runs. With few runs such intervals are too narrow.

    Raises
    ------
    AnalysisError
        If no λ is complete, or an argument is out of range.
    """
    values = _values(ds, quantity, split)
    _check_margin(margin)
    if resamples < 1:
        raise AnalysisError(f"resamples is {resamples}: it must be at least 1")
    rest = tuple(map(str, values.dims[2:]))
    l2, series = ds["l2"].values, values.values
    chance = _chance(ds, quantity)

    def found(one: NDArray[np.float64]) -> tuple[float, ...]:
        return _transition(l2, one, _threshold(one, chance, margin, is_share=quantity not in _OF_CLASSES))

    columns = np.moveaxis(np.apply_along_axis(found, 1, series), 1, 0)
    by_run = dict(zip(_Transition._fields, columns, strict=True))
    units = str(values.attrs.get("units", "1"))
    directions = [name for name in _DIRECTIONS if (ds["direction"].values == name).any()]
    per_run = {name: entry(("run", *rest), by_run[name], _NAMES[name], _units(name, units)) for name in by_run}
    groups = [ds["direction"].values == name for name in directions]
    summary = _summary(by_run, groups, rest, units, resamples=resamples, seed=seed)
    coords = {str(dim): ds[str(dim)].variable for dim in ("run", *rest) if dim in ds.coords}
    of_run = {"seed": ("run", ds["seed"].values), "run_direction": ("run", ds["direction"].values)}
    return described(xr.Dataset({**per_run, **summary}, coords={**coords, **of_run, "direction": directions}))


def class_skill(ds: xr.Dataset, split: str = "test") -> xr.Dataset:
    """How much better than a guess each class is known, at each run and λ that is complete.

    P(ŷ = c | y = c) − P(ŷ = c | y ≠ c): the class's accuracy less the share of the other rows that are taken for it,
    which is what a guess with as many answers c would reach. 1 if c is known perfectly, 0 if answers say nothing of
    it, as of a network that gives one answer to everything. (Youden's J, Peirce's skill score.)

    Parameters
    ----------
    ds : Dataset
        A store.
    split : str
        ``"train"`` or ``"test"``.

    Returns
    -------
    Dataset
        ``class_skill`` (run, l2, label), between −1 and 1; NaN where λ are not complete, and for classes without rows.

    Raises
    ------
    AnalysisError
        If no λ is complete, or the split is unknown.
    """
    return described(_values(ds, SKILL, split).to_dataset(name=SKILL))


def hysteresis(ds: xr.Dataset, split: str = "test", margin: float = 0.1, quantity: str = SKILL) -> xr.Dataset:
    """How far the way up and the way down along λ differ, for each seed with both and each class.

    Parameters
    ----------
    ds : Dataset
        A store.
    split : str
        ``"train"`` or ``"test"``.
    margin : float
        How far above chance a class is there, as for :func:`transitions`.
    quantity : str
        ``class_skill`` or ``class_accuracy``, as for :func:`transitions`.

    Returns
    -------
    Dataset
        Each (seed, label), with the values a of the quantity on the λ that are complete in both runs: ``area`` =
        ∫ |a_up − a_down| dλ and ``signed_area`` = ∫ (a_up − a_down) dλ by the trapezoidal rule, NaN with fewer
        than two λ; ``width`` = onset_up − onset_down, NaN if the class is never there in one of them.

    Raises
    ------
    AnalysisError
        If no seed has both directions, none of them a λ complete in both, or an argument is out of range.
    """
    if quantity not in _OF_CLASSES:
        raise AnalysisError(f"quantity is {quantity!r}: choose from {', '.join(_OF_CLASSES)}")
    values = _values(ds, quantity, split)
    _check_margin(margin)
    pairs = _pairs(ds)
    l2, threshold = ds["l2"].values, _chance(ds, quantity) + margin
    series = values.values
    loops = [_loops(l2, series[up], series[down], threshold) for up, down in pairs.values()]
    if not any(loop.points for loop in loops):
        raise AnalysisError("no λ is complete both up and down for any seed: run the sweep further")
    dims = ("seed", "label")
    return described(
        xr.Dataset(
            {
                "area": entry(dims, np.stack([loop.area for loop in loops]), "area between the way up and down"),
                "signed_area": entry(
                    dims, np.stack([loop.signed_area for loop in loops]), "signed area, way up less way down"
                ),
                "width": entry(
                    dims, np.stack([loop.width for loop in loops]), "λ of loss on the way up less that on the way down"
                ),
            },
            coords={"seed": list(pairs), "label": ds["label"].variable},
        )
    )


# -- one series -------------------------------------------------------------------------------------------


class _Transition(NamedTuple):
    onset: float
    drop_l2: float
    drop_from: float
    drop_to: float
    drop_size: float


_NAMES = {
    "onset": "highest λ above chance",
    "drop_l2": "λ of the largest drop",
    "drop_from": "last λ before the largest drop",
    "drop_to": "first λ after the largest drop",
    "drop_size": "size of the largest drop",
}


def _units(name: str, of_quantity: str) -> str:
    return of_quantity if name == "drop_size" else "1"


def _threshold(series: NDArray[np.float64], chance: float, margin: float, *, is_share: bool) -> float:
    return margin * float(np.fmax.reduce(series, initial=0.0)) if is_share else chance + margin


def _transition(l2: NDArray[np.float64], series: NDArray[np.float64], threshold: float) -> _Transition:
    """Of one series (n,); where it is NaN it is not there, and its neighbours are neighbours."""
    there = np.isfinite(series)
    l2, series = l2[there], series[there]
    onset = _onset(l2, series, threshold)
    if l2.size < 2:
        return _Transition(onset, np.nan, np.nan, np.nan, np.nan)
    falls = series[:-1] - series[1:]
    at = int(falls.argmax())
    if falls[at] <= 0:
        return _Transition(onset, np.nan, np.nan, np.nan, 0.0)
    return _Transition(onset, (l2[at] + l2[at + 1]) / 2, l2[at], l2[at + 1], falls[at])


def _onset(l2: NDArray[np.float64], series: NDArray[np.float64], threshold: float) -> float:
    above = l2[series > threshold]
    return float(above[-1]) if above.size else np.nan


# -- over runs --------------------------------------------------------------------------------------------


def _summary(
    by_run: Mapping[str, NDArray[np.float64]],
    groups: list[NDArray[np.bool_]],
    rest: tuple[str, ...],
    units: str,
    *,
    resamples: int,
    seed: int,
) -> dict[str, Entry]:
    result = {}
    for name in ("onset", "drop_l2", "drop_size"):
        found = [np.apply_along_axis(_interval, 0, by_run[name][group], resamples, seed) for group in groups]
        mean, low, high, count = np.stack(found, axis=1)
        for suffix, values, long_name in (
            ("mean", mean, f"{_NAMES[name]}, mean over runs"),
            ("low", low, f"{_NAMES[name]}, lower end of the 95 % interval of the mean"),
            ("high", high, f"{_NAMES[name]}, upper end of the 95 % interval of the mean"),
        ):
            result[f"{name}_{suffix}"] = entry(("direction", *rest), values, long_name, _units(name, units))
        result[f"{name}_count"] = entry(("direction", *rest), count.astype(np.int64), f"{_NAMES[name]}, number of runs")
    return result


def _interval(values: NDArray[np.float64], resamples: int, seed: int) -> tuple[float, float, float, float]:
    """Mean, its 95 % percentile bootstrap interval, and number of the values that are not NaN."""
    values = values[np.isfinite(values)]
    if not values.size:
        return np.nan, np.nan, np.nan, 0
    mean = float(values.mean())
    if values.size == 1:
        return mean, np.nan, np.nan, 1
    # the same draws for every series, so that a series alone gives what it gives among others
    draws = np.random.default_rng(seed).integers(values.size, size=(resamples, values.size))
    low, high = np.quantile(values[draws].mean(1), (0.025, 0.975))
    return mean, float(low), float(high), values.size


# -- the way up and the way down --------------------------------------------------------------------------


class _Loops(NamedTuple):
    """Of one seed: λ in both runs; for each class, area, signed area, width."""

    points: int
    area: NDArray[np.float64]
    signed_area: NDArray[np.float64]
    width: NDArray[np.float64]


def _pairs(ds: xr.Dataset) -> dict[int, tuple[int, int]]:
    """Positions of the runs up and down, by seed."""
    runs = zip(ds["seed"].values.tolist(), ds["direction"].values.tolist(), strict=True)
    at = {run: position for position, run in enumerate(runs)}
    seeds = sorted({seed for seed, _ in at})
    pairs = {seed: (at[seed, "up"], at[seed, "down"]) for seed in seeds if {(seed, "up"), (seed, "down")} <= set(at)}
    if not pairs:
        raise AnalysisError("no seed has a run in both directions: sweep with --direction both")
    return pairs


def _loops(l2: NDArray[np.float64], up: NDArray[np.float64], down: NDArray[np.float64], threshold: float) -> _Loops:
    there = (np.isfinite(up) & np.isfinite(down)).any(1)  # a class without rows is NaN at every λ
    l2, up, down = l2[there], up[there], down[there]
    width = _onsets(l2, up, threshold) - _onsets(l2, down, threshold)
    if l2.size < 2:
        nothing = np.full(width.shape, np.nan)
        return _Loops(l2.size, nothing, nothing, width)
    area, signed = (_integral(heights, l2) for heights in (np.abs(up - down), up - down))
    return _Loops(l2.size, area, signed, width)


def _onsets(l2: NDArray[np.float64], accuracies: NDArray[np.float64], threshold: float) -> NDArray[np.float64]:
    return np.array([_onset(l2, series, threshold) for series in accuracies.T])


def _integral(heights: NDArray[np.float64], l2: NDArray[np.float64]) -> NDArray[np.float64]:
    """∫ dλ of (n, classes) by the trapezoidal rule; NumPy's own has another name before version 2."""
    total: NDArray[np.float64] = np.diff(l2) @ (heights[1:] + heights[:-1]) / 2
    return total


# -- what is asked ----------------------------------------------------------------------------------------


def _chance(ds: xr.Dataset, quantity: str) -> float:
    return 1 / ds.sizes["label"] if quantity == "class_accuracy" else 0.0


def _values(ds: xr.Dataset, quantity: str, split: str) -> xr.DataArray:
    """(run, l2, …) float64, in memory; NaN at λ that are not complete; magnitudes unless they are about classes."""
    require(ds, "confusion" if quantity == SKILL else quantity, "status")
    require_split(split)
    chosen = _skill(ds["confusion"].sel(split=split).load()) if quantity == SKILL else ds[quantity]
    if not {"run", "l2"} <= set(chosen.dims) or "param" in chosen.dims or chosen.dtype.kind not in "fiu":
        raise AnalysisError(
            f"{quantity} is not a small number at each run and λ: choose such as class_accuracy or trace"
        )
    status = ds["status"].transpose("run", "l2").load()
    if not (status == Status.COMPLETE).any():
        raise AnalysisError("no λ of any run is complete: run the sweep first")
    chosen = chosen.sel(split=split) if "split" in chosen.dims else chosen
    chosen = chosen.transpose("run", "l2", ...).load().astype(np.float64)
    chosen = chosen.where(status == Status.COMPLETE)
    if quantity == SKILL and bool(chosen.isnull().all()):
        if bool((ds["confusion"].sel(split=split) > 0).any()):
            raise AnalysisError(
                f"the {split} split has rows of one class alone, and skill compares classes: give another quantity, "
                f"such as class_accuracy, or the {'train' if split == 'test' else 'test'} split"
            )
        raise AnalysisError(
            "the store has no confusion counts, from which skill is: it was imported; give another quantity, such as "
            "class_accuracy, or import with --recompute"
        )
    return chosen if quantity in _OF_CLASSES else abs(chosen).assign_attrs(chosen.attrs)


def _skill(confusion: xr.DataArray) -> xr.DataArray:
    """(run, l2, label), from counts (run, l2, label, pred)."""
    counts = confusion.transpose("run", "l2", "label", "pred").values.astype(np.float64)
    counts[counts < 0] = np.nan  # an import that had none
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    rows, answers = counts.sum(-1), counts.sum(-2)
    others = rows.sum(-1, keepdims=True) - rows
    with np.errstate(invalid="ignore", divide="ignore"):  # a class without rows is not known, nor unknown
        skill = hits / rows - (answers - hits) / others
    attrs = {"long_name": "class accuracy less the share of other rows taken for the class", "units": "1"}
    return confusion.isel(pred=0, drop=True).copy(data=skill).assign_attrs(attrs)


def _check_margin(margin: float) -> None:
    if not 0 <= margin < 1:
        raise AnalysisError(f"margin is {margin:g}: it must be at least 0 and below 1")
