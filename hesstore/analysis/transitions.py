"""Transitions: where along λ a network changes suddenly, run by run, and how far runs agree on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from hesstore.analysis.attributes import follow_axis, variable, with_attributes
from hesstore.analysis.change_points import THRESHOLD
from hesstore.analysis.eigenvectors import eigenvector_reader
from hesstore.analysis.series import run_series
from hesstore.analysis.subspaces import one_minus_overlap
from hesstore.analysis.transition_search import Found, Search, Series, find_transitions, hysteresis
from hesstore.config.suggestions import did_you_mean
from hesstore.errors import AnalysisError
from hesstore.store.schema import Status, axis_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

QUANTITIES = ("loss", "weights_norm")
"""The quantities in which transitions are searched by default: every store has them, and they have little noise."""
OVERLAP = "overlap"
"""The quantity that is computed from the eigenvectors."""
LOGARITHMIC = ("weights_norm", "distance", "gradient_norm", "class_gradient_norm")
"""Quantities whose logarithm is searched: norms range over orders of magnitude along λ."""


def transitions(
    ds: xr.Dataset, quantities: str | Sequence[str] = QUANTITIES, split: str = "train", threshold: float = THRESHOLD
) -> xr.Dataset:
    """Find the transitions of each run: sudden rises and falls of some quantities along λ.

    Parameters
    ----------
    ds : Dataset
        A store.
    quantities : str or sequence of str
        Variables with the dimensions run and l2 (and split), such as ``loss``, ``accuracy``, ``weights_norm``,
        ``trace``; of norms, the logarithm is searched. ``overlap`` is the path that the span of the first C − 1
        eigenvectors covers along λ: the sum of √(1 − overlap) of neighbouring grid points (C classes). It reads the
        eigenvectors, which takes a while. A quantity without finite values in a run is not searched there.
    split : str
        ``"train"`` or ``"test"``, for quantities with the dimension split.
    threshold : float
        A transition has a larger strength or combined strength than this; above 0. See the notes.

    Returns
    -------
    Dataset
        One entry per ``transition``, in the order of runs and of λ; none if there are no transitions. ``run``,
        ``seed`` and ``run_direction`` say where; ``l2_from`` and ``l2_to`` are the grid points between which it
        lies: neighbours, or up to three gaps apart, or the ends of several steps. ``strength`` is the largest of the
        ``strengths`` (transition, quantity), which are positive for a rise as λ increases; ``quantity_name`` is the
        quantity that has it, and ``change`` is ``"rise"`` or ``"fall"``.

        ``runs_found`` of ``runs_searched`` runs in the same direction have this transition: runs are searched if they
        pass the value in the middle of the change, and have it if one of their changes, of at least half the
        threshold, passes it; ``runs_from`` and ``runs_to`` are the smallest l2_from and the largest l2_to of those.
        ``combined_strength`` is the sum of their strengths over √runs_searched. ``hysteresis`` is the
        λ of the transition in the run up minus that in the run down of the same seed, matched in the same way; NaN if
        the other run has no such transition.

    Raises
    ------
    AnalysisError
        If the store has no complete grid point or lacks a quantity, or an argument is out of range.

    Notes
    -----
    Only complete grid points at which the quantity is finite are used; with fewer than ten of them, and within the
    first or last four gaps of the grid, no transition can be found. The grid may be irregular. Changes with fewer than
    three gaps between them are one transition, also those of several quantities; it has the λ of the strongest.

    A change over one to three gaps counts as sudden if it stands out from the trends on both sides and lasts. D is the
    difference of its two grid points, and J that of the medians of three grid points on each side, extended along the
    trends. Trends are medians of the slopes of the 12 gaps on each side, weighted by their lengths. A rise is
    min(D, J) minus the larger trend; a fall is the reverse. Its strength is its size over the scatter of the 12 gaps:
    the mean of the smallest three quarters of the deviations from the trend, scaled to σ for normal noise, the larger
    one of both sides. The scatter is at least a quarter of the trend and 0.8 of the third largest deviation, so that
    smooth curves and constant series with single spikes have no transitions.

    This resembles the difference of one-sided kernel estimates (Müller, Ann. Stat. 20, 1992), with medians because
    a training can fail at one grid point. With the default threshold, fewer than 5 % of series of noise without a
    change have a transition: normal, heavy-tailed (Student's t with 2 degrees of freedom) or autocorrelated normal
    (up to 0.9) noise, about constants and smooth trends, on 12 to 1000 grid points. An autocorrelated series whose
    innovations are heavy-tailed does jump, so its jumps are found.
    """
    names = (quantities,) if isinstance(quantities, str) else tuple(dict.fromkeys(quantities))
    if not names:
        raise AnalysisError("no quantity is given: choose some, such as loss and weights_norm")
    if not threshold > 0:
        raise AnalysisError(f"threshold is {threshold:g}: it must be above 0")
    return _as_dataset(ds, names, find_transitions(_searches(ds, names, split), threshold))


# -- series along λ ---------------------------------------------------------------------------------------


def searched_series(ds: xr.Dataset, name: str, split: str = "train") -> Series:
    """Return a quantity of the only run of ``ds``, where it is finite, as transitions are searched in it."""
    values = _values(ds, name, split)[0]
    chosen = np.flatnonzero(np.isfinite(values))
    return Series(chosen, ds[axis_of(ds)].values[chosen], values[chosen])


def _searches(ds: xr.Dataset, names: Sequence[str], split: str) -> list[Search]:
    values = {name: _values(ds, name, split) for name in names}
    searches = []
    for at, run in enumerate(ds["run"].values):
        used = np.flatnonzero(np.isfinite([values[name][at] for name in names]).any(0))
        series = {}
        for name in names:
            chosen = np.flatnonzero(np.isfinite(values[name][at, used]))
            if chosen.size:
                series[name] = Series(chosen, ds[axis_of(ds)].values[used[chosen]], values[name][at, used[chosen]])
        searches.append(Search(int(run), int(ds["seed"].values[at]), str(ds["direction"].values[at]), series))
    return searches


def _values(ds: xr.Dataset, name: str, split: str) -> NDArray[np.float64]:
    """Return a quantity (run, l2) as it is searched."""
    axis = axis_of(ds)
    if name == OVERLAP:
        return _paths(ds)
    if name not in ds:
        series = [
            str(each) for each, values in ds.items() if {"run", axis} <= set(values.dims) <= {"run", axis, "split"}
        ]
        hint = did_you_mean(name, [*series, OVERLAP]) or f": choose one such as {' or '.join(QUANTITIES)}"
        raise AnalysisError(f"{name!r} is not a quantity of this store{hint}")
    values = run_series(ds, name, split)
    if values.ndim > 2:
        dims = ", ".join(map(str, values.dims[2:]))
        raise AnalysisError(f"{name} has the further dimension {dims}: choose a quantity with one value per grid point")
    if name not in LOGARITHMIC:
        return values.values
    positive = np.where(values.values > 0, values.values, np.nan)
    return np.log(positive)


def _paths(ds: xr.Dataset) -> NDArray[np.float64]:
    """Return the path of the span of the first C − 1 eigenvectors (run, l2), 0 at the first complete grid point."""
    axis = axis_of(ds)
    paths = np.full((ds.sizes["run"], ds.sizes[axis]), np.nan)
    status = ds["status"].transpose("run", axis).values
    for at, run in enumerate(ds["run"].values):
        if not (status[at] == Status.COMPLETE).any():
            continue
        reader = eigenvector_reader(ds, int(run))
        k = min(max(ds.sizes["label"] - 1, 1), reader.num_modes)
        before, length = reader.read(0, k), 0.0
        for index, position in enumerate(reader.positions):
            vectors = reader.read(index, k)
            length += float(np.sqrt(one_minus_overlap(before, vectors)))
            paths[at, position], before = length, vectors
    return paths


# -- the table --------------------------------------------------------------------------------------------


def _as_dataset(ds: xr.Dataset, names: Sequence[str], found: Sequence[Found]) -> xr.Dataset:
    alone = [each.transition for each in found]
    strengths = np.array([[each.strengths.get(name, np.nan) for name in names] for each in alone])
    units = ds[axis_of(ds)].attrs.get("units")
    numbers = {
        "l2_from": ([each.l2_from for each in alone], "λ before the transition", units),
        "l2_to": ([each.l2_to for each in alone], "λ after the transition", units),
        "strength": ([each.strength for each in found], "change over scatter, largest quantity", None),
        "combined_strength": ([each.combined_strength for each in found], "change over scatter, over runs", None),
        "runs_from": ([min(peer.l2_from for peer in each.peers) for each in found], "smallest λ before, runs", units),
        "runs_to": ([max(peer.l2_to for peer in each.peers) for each in found], "largest λ after, runs", units),
        "hysteresis": ([hysteresis(each, found) for each in alone], "λ in the run up minus in the run down", units),
    }
    counts = {
        "runs_found": ([len(each.peers) for each in found], "runs with the transition"),
        "runs_searched": ([each.runs_searched for each in found], "runs that pass its level"),
    }
    texts = {
        "quantity_name": ([each.name for each in alone], "quantity with the largest strength"),
        "change": (["rise" if each.change.strength > 0 else "fall" for each in alone], "direction of the change"),
    }
    coords: dict[str, Any] = {
        "transition": np.arange(len(found)),
        "run": ("transition", np.array([each.search.run for each in alone], np.int64)),
        "seed": ("transition", np.array([each.search.seed for each in alone], np.int64)),
        "run_direction": ("transition", np.array([each.search.direction for each in alone], object)),
        "quantity": list(names),
    }
    one = ("transition",)
    variables = {
        **{
            name: variable(one, np.array(values, np.float64), text, unit)
            for name, (values, text, unit) in numbers.items()
        },
        "strengths": variable(
            ("transition", "quantity"), strengths.reshape(-1, len(names)), "change over scatter, positive for a rise"
        ),
        **{name: variable(one, np.array(values, np.int64), text) for name, (values, text) in counts.items()},
        **{name: variable(one, np.array(values, object), text) for name, (values, text) in texts.items()},
    }
    return follow_axis(with_attributes(xr.Dataset(variables, coords=coords)), axis_of(ds))
