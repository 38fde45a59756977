"""The sweep: for each run, along λ: fit, store, analyse, store.

A chain of fits, each from the weights of the last good λ; the analysis of a λ needs only its weights. Both start from
weights as the store holds them, so a resumed sweep and an uninterrupted one are the same computation. Up to G fits that
do not wait for each other go side by side, and up to G analyses; results are written while the next are computed.
"""

from __future__ import annotations

import json
import time
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hesstore.engine import sweep_plan
from hesstore.engine.driver import Driver, SweepEvent
from hesstore.engine.executor import LocalExecutor
from hesstore.engine.experiment import Experiment
from hesstore.engine.recorder import Recorder
from hesstore.engine.sweep_plan import SHRUNK, Effort, SweepPlan
from hesstore.engine.worker import Worker
from hesstore.errors import ConfigError, StoreError
from hesstore.store.environments import record_environment
from hesstore.store.growing import check_growing, grow_store, recover_store, statuses_after_growth
from hesstore.store.places.folder import FolderPlace
from hesstore.store.places.location import locate
from hesstore.store.schema import Run, Status, StoreSpec
from hesstore.store.writing import SweepStore

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection

    from distributed import Client

    from hesstore.config import SweepConfig
    from hesstore.engine.executor import Executor
    from hesstore.store.places.base import Place

__all__ = ["SweepEvent", "SweepPlan", "SweepSummary", "plan_sweep", "run_sweep"]


@dataclass(frozen=True)
class SweepSummary:
    """How a sweep ended: counts of λ over the runs asked for, how many were computed now, and the seconds."""

    complete: int
    failed: int
    pending: int
    computed: int
    seconds: float

    @property
    def total(self) -> int:
        """All λ of those runs."""
        return self.complete + self.failed + self.pending


def run_sweep(
    config: SweepConfig,
    location: str | os.PathLike[str],
    *,
    observer: Callable[[SweepEvent], None] | None = None,
    on_plan: Callable[[SweepPlan], None] | None = None,
    stop: Callable[[], bool] | None = None,
    workers: int = 0,
    scheduler: str = "",
    retry_failed: bool = False,
    grow: bool = False,
    runs: Collection[int] = (),
) -> SweepSummary:
    """Compute all λ of all runs that the store at ``location`` lacks; make the store if there is none.

    Parameters
    ----------
    config : SweepConfig
        What to compute. An existing store must have been made with the same one (but for where data lie and where the
        work is done).
    location : path, ``file://`` URL or ``s3://`` URL
        The store.
    observer : callable, optional
        Called with a :class:`SweepEvent` as work goes on.
    on_plan : callable, optional
        Called with the :class:`SweepPlan` before the first λ. To measure what it says takes two seconds, unless the
        store tells or nothing is left to do; with workers, whose speed is not this process's, it is not done.
    stop : callable, optional
        Asked before each λ is begun. Once it says True those in hand are finished, and no other.
    workers : int
        Processes on this machine that share the work, by Dask; 0: this process does it.
    scheduler : str
        The address of a running Dask scheduler whose workers do it; they must see the store and hesstore.
    retry_failed : bool
        Whether λ that failed are tried again.
    grow : bool
        Whether an existing store is first made larger to fit ``config``: more λ, more runs; or, with a larger k or
        another setting of the solver, made to have its spectra computed again from the stored weights.
    runs : collection of int
        IDs of the runs to compute, and to count in the summary; all by default. Other processes may compute others.

    Raises
    ------
    HesstoreError
        Before anything is written, if the config can't be carried out or the store is another's.
    """
    began = time.perf_counter()
    place = locate(location)
    if isinstance(place, FolderPlace):
        recover_store(place.path)
    existing = _existing(place, config, grow=grow)  # before data are loaded, or even downloaded
    experiment = Experiment.prepare(config)
    with ExitStack() as held:
        client = held.enter_context(_client(workers, scheduler))  # nothing is written if there is none
        store = _opened(place, existing, experiment, runs, grow=grow)
        chosen = _chosen(store.runs, runs, place)
        for run in chosen:
            if retry_failed or (store.status(run) < Status.COMPLETE).any():
                held.enter_context(store.claim(run))
        if retry_failed:
            store.reset(Status.FAILED, chosen)
        recorder = Recorder(store, room=2 * experiment.sizes.models + 2)
        in_order = config.path == "continuation"
        driver = Driver(store, chosen, recorder, observer or (lambda _: None), in_order=in_order)
        if on_plan is not None:
            asked_to_stop = stop is not None and stop()
            on_plan(_plan(experiment, store, chosen, probing=client is None and not asked_to_stop))
        if driver.finished < driver.total:
            place.check_space(_space(experiment.spec(), driver.total - driver.finished))
            record_environment(store, experiment.environment)
            held.enter_context(recorder)
            driver.drive(_executor(experiment, driver, client), stop or (lambda: False))
    statuses = np.stack([store.status(run) for run in chosen])
    return SweepSummary(
        complete=int((statuses == Status.COMPLETE).sum()),
        failed=int((statuses == Status.FAILED).sum()),
        pending=int((statuses < Status.COMPLETE).sum()),
        computed=driver.computed,
        seconds=time.perf_counter() - began,
    )


def plan_sweep(
    config: SweepConfig,
    location: str | os.PathLike[str] | None = None,
    *,
    retry_failed: bool = False,
    grow: bool = False,
    runs: Collection[int] = (),
) -> SweepPlan:
    """What :func:`run_sweep` would take with these arguments; writes nothing.

    Without ``location`` the plan is that of a new store, wherever it may lie.

    Raises
    ------
    HesstoreError
        As :func:`run_sweep`, if the config can't be carried out, has no room, or the store is another's.
    """
    place = None if location is None else locate(location)
    store = None if place is None else _existing(place, config, grow=grow)
    experiment = Experiment.prepare(config)
    if store is None:
        spec = experiment.spec()
        chosen = _chosen(spec.runs, runs, place or "a new store")
        new = np.full(len(spec.l2), Status.PENDING, np.int8)
        plan = sweep_plan.plan(experiment, dict.fromkeys(chosen, new), place=place)
    elif grow:
        statuses = statuses_after_growth(store, experiment.spec())
        chosen = _chosen(tuple(statuses), runs, store.place)
        plan = sweep_plan.plan(experiment, {run: statuses[run] for run in chosen}, place=place)
    else:
        store.require(experiment.identity())
        plan = _plan(experiment, store, _chosen(store.runs, runs, store.place), retry_failed=retry_failed)
    if place is not None:
        place.check_space(int(plan.disk_end.least) - plan.disk_now)
    return plan


def _plan(
    experiment: Experiment,
    store: SweepStore,
    runs: tuple[Run, ...],
    *,
    retry_failed: bool = False,
    probing: bool = True,
) -> SweepPlan:
    """Of some runs of a store."""
    statuses = {run: store.status(run) for run in runs}
    if retry_failed:
        statuses = {run: np.where(at == Status.FAILED, np.int8(Status.PENDING), at) for run, at in statuses.items()}
    effort = Effort.of(store, runs, json.loads(str(store.group.attrs["environment"])))
    return sweep_plan.plan(experiment, statuses, place=store.place, effort=effort, probing=probing)


def _existing(place: Place, config: SweepConfig, *, grow: bool) -> SweepStore | None:
    """Return the store at ``place``, after a check, or None if a new one can be made there."""
    if grow and not isinstance(place, FolderPlace):
        raise StoreError(f"{place}: only a store in a folder can grow: make a new one with the larger config")
    if place.is_new():
        place.check_creatable()
        return None
    store = SweepStore.open(place)
    if grow:
        check_growing(store, config.identity())
    else:
        store.require(config.identity(), partly=True)
    return store


def _opened(
    place: Place, existing: SweepStore | None, experiment: Experiment, runs: Collection[int], *, grow: bool
) -> SweepStore:
    """The store, made or grown if need be; another driver may be quicker to make it."""
    spec = experiment.spec()
    if existing is not None and grow:
        return grow_store(existing, spec)
    if existing is None:
        _chosen(spec.runs, runs, place)
        place.check_space(_space(spec, len(spec.l2) * (len(runs) or len(spec.runs))))
        try:
            return SweepStore.create(place, spec)
        except (StoreError, OSError):
            if place.is_new():
                raise
    store = existing or SweepStore.open(place)
    store.require(spec.identity)
    return store


def _space(spec: StoreSpec, count: int) -> int:
    """Bytes that so many λ surely take."""
    return int(SHRUNK * spec.large_bytes) * count


def _chosen(there: tuple[Run, ...], ids: Collection[int], place: Place | str) -> tuple[Run, ...]:
    unknown = sorted(set(ids) - {run.id for run in there})
    if unknown:
        raise ConfigError(f"run: {unknown[0]} is not there: {place} has runs 0 to {len(there) - 1}")
    return tuple(run for run in there if not ids or run.id in ids)


def _client(workers: int, scheduler: str) -> AbstractContextManager[Client | None]:
    """A client of what carries the tasks out; None for this process."""
    if not workers and not scheduler:
        return nullcontext()
    from hesstore.engine.dask_executor import connect  # noqa: PLC0415 - who uses no Dask needs none

    return connect(workers, scheduler)


def _executor(experiment: Experiment, driver: Driver, client: Client | None) -> Executor:
    store = driver.store
    if client is not None:
        from hesstore.engine.dask_executor import DaskExecutor  # noqa: PLC0415

        return DaskExecutor(client, experiment.config, store.place.address)
    return LocalExecutor(
        Worker(experiment, store, remember=True),
        lambda point, epoch, loss: driver.tell("fitting", point, epoch=epoch, loss=loss),
        lambda point: driver.tell("analysing", point),
    )
