"""The weights that a config names: the centre of the penalty, and those before the first fit.

They come from a checkpoint, or from a grid point of a store. The store of the sweep keeps copies, so that resuming or
checking it needs no other file.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hesstore.config.l2_grid import L2_DECIMALS, value_text
from hesstore.errors import ConfigError, ImportFilesError, StoreError
from hesstore.problem.models import constant_buffers
from hesstore.problem.state_dicts import read_weights
from hesstore.store.decoding import decoding
from hesstore.store.identity import identity_of
from hesstore.store.places.location import expand_home, locate
from hesstore.store.reading import open_store
from hesstore.store.schema import REFERENCES, Status, axis_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from hesstore.config import SweepConfig
    from hesstore.problem.models import FlatModel, ParameterLayout
    from hesstore.store.places.place import Place
    from hesstore.store.writing import SweepStore

    Weights = NDArray[np.float32]

_GRID_POINT = re.compile(r"(?P<store>.+)#(?P<run>\d+),(?P<l2>[^,#]+)")


class GridPointName(NamedTuple):
    """A grid point of a store, as text names it: its location, run ID and value on the grid."""

    store: str
    run: int
    value: float

    @classmethod
    def parse(cls, text: str) -> GridPointName | None:
        """Parse ``STORE#run,l2``; None for any other text, which is the name of a file."""
        found = _GRID_POINT.fullmatch(text)
        try:
            return None if found is None else cls(found["store"], int(found["run"]), float(found["l2"]))
        except ValueError:
            return None


def load_references(
    config: SweepConfig, model: FlatModel, store: SweepStore | None, *, reread: bool
) -> Mapping[str, Weights]:
    """Return the weights (P,) that ``config`` names, by setting.

    Parameters
    ----------
    config : SweepConfig
        The settings.
    model : FlatModel
        The network.
    store : SweepStore, optional
        The store of the sweep, if it exists.
    reread : bool
        Whether they are read from where the config says, if they are still there. Otherwise the copies of ``store``
        are used.

    Raises
    ------
    ConfigError
        If they do not exist, are damaged, or do not fit the network.
    CorruptStoreError
        If a copy is needed and damaged.
    """
    found = {}
    for name in REFERENCES:
        text = getattr(config, name)
        if store is not None and name in store.identity and (not reread or _is_gone(name, text, store)):
            found[name] = store.reference(name)
        elif text:
            try:
                found[name] = read_reference(text, model)
            except (ConfigError, ImportFilesError, StoreError) as error:
                raise ConfigError(f"{name}: {error}") from None
    return found


def _is_gone(name: str, text: str, store: SweepStore) -> bool:
    """Whether ``text`` is the one with which ``store`` was made, and what it names no longer exists."""
    if text != json.loads(str(store.group.attrs["config"])).get(name):
        return False
    point = GridPointName.parse(text)
    return not expand_home(text).exists() if point is None else locate(point.store).is_new()


def read_reference(text: str, model: FlatModel) -> Weights:
    """Read weights (P,) from ``FILE.pth``, ``FILE.safetensors`` or ``STORE#run,l2``.

    Raises
    ------
    ConfigError
        If the file, store or grid point does not exist, or its parameters are not those of ``model``.
    ImportFilesError
        If the file is not a checkpoint of a network with these parameters.
    StoreError
        If the store is damaged or can't be read.
    """
    point = GridPointName.parse(text)
    if point is not None:
        return _read_grid_point(point, model.layout)
    path = expand_home(text)
    if not path.is_file():
        raise ConfigError(f"{text}: no such file: give a .pth or .safetensors file, or STORE#run,l2")
    shapes = dict(zip(model.layout.names, model.layout.shapes, strict=True))
    weights = read_weights(path, shapes, buffers=constant_buffers(model.module))
    return np.concatenate([array.reshape(-1) for array in weights.values()])


def _read_grid_point(point: GridPointName, layout: ParameterLayout) -> Weights:
    place = locate(point.store)
    if place.is_new():
        raise ConfigError(f"{point.store}: no such store: give STORE#run,l2, or a .pth or .safetensors file")
    ds = open_store(place, chunked=False, check=True)
    _check_parameters(identity_of(ds.attrs), place, layout)
    if point.run >= ds.sizes["run"]:
        raise ConfigError(f"run {point.run} is not in {place}, which has runs 0 to {ds.sizes['run'] - 1}")
    if "weights" not in ds:
        raise ConfigError(f"{place} was packed without weights: give the whole store")
    axis = axis_of(ds)
    grid = ds[axis].values
    hits = np.flatnonzero(grid == round(point.value, L2_DECIMALS))
    if not len(hits):
        nearest = grid[np.abs(grid - point.value).argmin()] if np.isfinite(point.value) else grid[0]
        raise ConfigError(
            f"{value_text(axis, point.value)} is not on the grid of {place}: the nearest is {nearest:.10g}"
        )
    with decoding(str(place)):
        at = ds[["status", "weights"]].isel({"run": point.run, axis: int(hits[0])}).load()
    status = Status(int(at["status"]))
    where = f"run {point.run} at {value_text(axis, float(at[axis]))} of {place}"
    if status not in {Status.FITTED, Status.COMPLETE}:
        raise ConfigError(f"{where} is {status.name.lower()} and has no weights: choose another grid point")
    weights: Weights = at["weights"].values
    if not np.isfinite(weights).all():
        raise ConfigError(f"{where} has no weights, or damaged ones: `hesstore verify {place}` lists all damage")
    return weights


def _check_parameters(identity: Mapping[str, Any], place: Place, layout: ParameterLayout) -> None:
    """Raise :class:`ConfigError` unless the networks of the store at ``place`` have the parameters of ``layout``."""
    own = [(name, list(shape)) for name, shape in zip(layout.names, layout.shapes, strict=True)]
    stored = [(name, shape) for name, shape in identity["parameters"]]
    if own == stored:
        return
    there, here = next((pair for pair in zip(stored, own, strict=False) if pair[0] != pair[1]), (None, None))
    if there is None or here is None:
        raise ConfigError(f"{place} has {len(stored)} parameter arrays, but this network has {len(own)}")
    raise ConfigError(
        f"{place} has {there[0]} {tuple(there[1])} where this network has {here[0]} {tuple(here[1])}: choose a "
        "store of the same network"
    )
