"""A collection of checkpoints, which the engine analyses as it does a sweep: its fits read files and train nothing.

The grid of its store is what the checkpoints differ in, such as the training step.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hesstore.config import TRAINING_SETTINGS
from hesstore.errors import ImportFilesError
from hesstore.problem.models import constant_buffers, statistics
from hesstore.problem.state_dicts import read_network, read_state_dict
from hesstore.store.schema import Point, Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from hesstore.config import SweepConfig
    from hesstore.problem.models import FlatModel
    from hesstore.store.writing import SweepStore


@dataclass(frozen=True)
class Collection:
    """A collection of checkpoints.

    Attributes
    ----------
    axis : str
        The name of the grid's dimension, such as ``step``.
    values : tuple of float
        The values of the grid, ascending.
    files : tuple of (int, int, str)
        The run ID, the index on the grid, and the path of each checkpoint.
    """

    axis: str
    values: tuple[float, ...]
    files: tuple[tuple[int, int, str], ...]

    def identity(self) -> dict[str, Any]:
        """The part of a store's identity that follows from the collection."""
        facts = sorted((run, self.values[index], Path(path).name) for run, index, path in self.files)
        source = hashlib.blake2b(repr(facts).encode(), digest_size=16).hexdigest()
        return {"axis": self.axis, "values": list(self.values), "source": source}

    def read_statistics(self, model: FlatModel) -> dict[str, NDArray[np.float32]]:
        """The running statistics of batch norm in the first checkpoint."""
        names = constant_buffers(model.module)
        return read_state_dict(Path(self.files[0][2]), model.layout.names, names).statistics

    def read(self, point: Point, model: FlatModel) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Read the weights (P,) and the running statistics of batch norm (S,) of a grid point.

        Raises
        ------
        ImportFilesError
            If it has no checkpoint, or one that is damaged or does not fit the network.
        """
        path = next((path for run, index, path in self.files if (run, index) == (point.run.id, point.index)), None)
        if path is None:
            raise ImportFilesError(f"run {point.run.id} has no checkpoint with {point.text}")
        return _read(path, model)

    def check(self, model: FlatModel, store: SweepStore | None) -> None:
        """Check that each checkpoint that is still to be read fits the network.

        Raises
        ------
        ImportFilesError
            If one of them is damaged, has other parameters, or has values that are NaN or infinite.
        """
        done: set[tuple[int, float]] = set()
        if store is not None:
            for run in store.runs:
                kept = store.grid[store.status(run) != Status.PENDING]
                done |= {(run.id, float(value)) for value in kept}
        for run_id, index, path in self.files:
            if (run_id, self.values[index]) not in done:
                _read(path, model)


def _read(path: str, model: FlatModel) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    layout = model.layout
    own = {name: tuple(buffer.shape) for name, buffer in statistics(model.module).items()}
    shapes = dict(zip(layout.names, layout.shapes, strict=True))
    found = read_network(Path(path), shapes, own, constant_buffers(model.module))
    weights, values = (
        np.concatenate([np.empty(0, np.float32), *(array.reshape(-1) for array in part.values())]) for part in found
    )
    return weights, values


def settings_identity(config: SweepConfig, collection: Collection | None) -> dict[str, Any]:
    """Return the part of a store's identity that follows from the settings and the collection, if there is one."""
    if collection is None:
        return config.identity()
    return without_training(config.identity()) | collection.identity()


def without_training(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that concern a collection of checkpoints."""
    return {name: value for name, value in settings.items() if name not in TRAINING_SETTINGS}
