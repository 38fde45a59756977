"""The result of a sweep, and how a finished sweep is recognised from its store alone.

This module needs neither torch nor data, so that a sweep with nothing to do ends within a second.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hesstore.config import settings
from hesstore.errors import ConfigError
from hesstore.store.places.location import locate
from hesstore.store.schema import Status
from hesstore.store.writing import SweepStore

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Sequence

    from hesstore.config import SweepConfig
    from hesstore.store.places.place import Place
    from hesstore.store.schema import Run


@dataclass(frozen=True)
class SweepSummary:
    """The result of a call of :func:`hesstore.run_sweep`.

    Attributes
    ----------
    complete, failed, pending : int
        The number of grid points of the selected runs that are complete, that failed, and that are not finished.
    computed : int
        The number of grid points that this call finished.
    seconds : float
        The duration of the call.
    """

    complete: int
    failed: int
    pending: int
    computed: int
    seconds: float

    @property
    def total(self) -> int:
        """The number of all grid points of the selected runs."""
        return self.complete + self.failed + self.pending


def finished_sweep(
    config: SweepConfig, location: str | os.PathLike[str], *, runs: Collection[int] = ()
) -> SweepSummary | None:
    """Return the summary of a sweep with nothing left to do, without its data and network.

    Parameters
    ----------
    config, location, runs
        As for :func:`hesstore.run_sweep`.

    Returns
    -------
    SweepSummary or None
        None if a grid point is left, if there is no store yet, or if only the data and the network show whether the
        store was made with this config: the config names files or custom code, which may have changed.

    Raises
    ------
    ConfigError
        If one of the ``runs`` does not exist.
    StoreError
        If the store was made with another config.
    """
    began = time.perf_counter()
    place = locate(location)
    if not _is_fixed(config) or place.is_new():
        return None
    store = SweepStore.open(place)
    store.require(config.identity(), partly=True)
    found = summarise(store, choose_runs(store.runs, runs, place), 0, began)
    return None if found.pending else found


def summarise(store: SweepStore, runs: Sequence[Run], computed: int, began: float) -> SweepSummary:
    """Return the summary of a sweep of ``runs`` that began at the time ``began`` and finished ``computed`` points."""
    statuses = np.stack([store.status(run) for run in runs])
    return SweepSummary(
        complete=int((statuses == Status.COMPLETE).sum()),
        failed=int((statuses == Status.FAILED).sum()),
        pending=int((statuses < Status.COMPLETE).sum()),
        computed=computed,
        seconds=time.perf_counter() - began,
    )


def choose_runs(runs: Sequence[Run], ids: Collection[int], place: Place | str) -> tuple[Run, ...]:
    """The runs with the given IDs, or all runs without IDs.

    Raises
    ------
    ConfigError
        If an ID does not exist; ``place`` is what the message names.
    """
    unknown = sorted(set(ids) - {run.id for run in runs})
    if unknown:
        raise ConfigError(f"run: {unknown[0]} does not exist: {place} has runs 0 to {len(runs) - 1}")
    return tuple(run for run in runs if not ids or run.id in ids)


def _is_fixed(config: SweepConfig) -> bool:
    """Whether the config alone decides the data, the network and the reference weights."""
    known = {setting.name: setting.metadata["type"].choices for setting in settings()}
    has_files = config.data_dir or config.center or config.start
    return config.dataset in known["dataset"] and config.model in known["model"] and not has_files
