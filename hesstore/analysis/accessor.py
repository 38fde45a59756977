"""``ds.hess``: the analyses as methods of a store's Dataset; importing this module registers them with xarray."""

from __future__ import annotations

import inspect
from functools import cached_property, wraps
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

import xarray as xr

from hesstore.analysis.alignment import alignment
from hesstore.analysis.class_quantities import class_skill
from hesstore.analysis.clusters import clusters
from hesstore.analysis.correlations import rank_correlations
from hesstore.analysis.hysteresis import hysteresis
from hesstore.analysis.localisation import layer_mass, participation_ratio
from hesstore.analysis.lost_classes import lost_classes
from hesstore.analysis.results import results, table
from hesstore.analysis.saddles import objective_index
from hesstore.analysis.selection import complete
from hesstore.analysis.sensitivity import sensitivity
from hesstore.analysis.sharpness import sharpness
from hesstore.analysis.spectral_measures import spectral_measures
from hesstore.analysis.subspaces import overlap, overlap_map, principal_angles
from hesstore.analysis.tracking import track
from hesstore.analysis.transitions import transitions
from hesstore.store.reading import check_dataset

if TYPE_CHECKING:
    from collections.abc import Callable

_P = ParamSpec("_P")
_R = TypeVar("_R")


def _method(function: Callable[Concatenate[xr.Dataset, _P], _R]) -> Callable[Concatenate[Hess, _P], _R]:
    """Return ``function`` as a method whose first argument is the accessor's Dataset."""

    @wraps(function)
    def method(self: Hess, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        return function(self._dataset, *args, **kwargs)

    signature = inspect.signature(function)
    first = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    rest = list(signature.parameters.values())[1:]
    method.__signature__ = signature.replace(parameters=[first, *rest])  # type: ignore[attr-defined]  # inspect reads it
    return method


class Hess:
    """The analyses of a store as methods, such as ``ds.hess.overlap(0.0, 0.01)``.

    Before its first analysis, a Dataset of a whole store is checked as by ``hesstore.open(…, check=True)``.

    Parameters
    ----------
    dataset : Dataset
        The store: the argument ``ds`` of every method.
    """

    def __init__(self, dataset: xr.Dataset) -> None:
        self._given = dataset

    @cached_property
    def _dataset(self) -> xr.Dataset:
        """The store, whose small variables were compared with their digests, if it is whole."""
        return check_dataset(self._given)

    complete = _method(complete)
    results = _method(results)
    table = _method(table)
    overlap = _method(overlap)
    principal_angles = _method(principal_angles)
    overlap_map = _method(overlap_map)
    track = _method(track)
    layer_mass = _method(layer_mass)
    participation_ratio = _method(participation_ratio)
    objective_index = _method(objective_index)
    class_skill = _method(class_skill)
    alignment = _method(alignment)
    clusters = _method(clusters)
    spectral_measures = _method(spectral_measures)
    sharpness = _method(sharpness)
    transitions = _method(transitions)
    lost_classes = _method(lost_classes)
    hysteresis = _method(hysteresis)
    sensitivity = _method(sensitivity)
    rank_correlations = _method(rank_correlations)


xr.register_dataset_accessor("hess")(Hess)  # type: ignore[no-untyped-call]  # of xarray
