"""The sweep: :func:`run_sweep` computes every grid point of every run, and :func:`plan_sweep` estimates what it takes.

Along each run, a grid point is fitted, recorded, analysed, and recorded again. Each fit of a continuation starts from
the weights of the last grid point that was fitted; an analysis needs only the weights of its own grid point. Both start
from weights as the store holds them, so a resumed sweep and an uninterrupted one compute the same. Up to G fits that do
not depend on each other run side by side, and up to G analyses; results are written while the next ones are computed.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import TYPE_CHECKING

import numpy as np

from hesstore.config.sources import as_config
from hesstore.custom_code import calls_back
from hesstore.engine import sweep_plan
from hesstore.engine.collection import settings_identity
from hesstore.engine.devices import computing_on, resolve_device
from hesstore.engine.driver import Driver
from hesstore.engine.events import SweepEvent
from hesstore.engine.executor import LocalExecutor
from hesstore.engine.experiment import Experiment
from hesstore.engine.progress_display import observing
from hesstore.engine.side_by_side import SideBySideExecutor
from hesstore.engine.summary import SweepSummary, choose_runs, summarise
from hesstore.engine.sweep_plan import LEAST_SHARE, Effort, SweepPlan
from hesstore.engine.thread_choice import choose_threads
from hesstore.engine.worker import Worker
from hesstore.errors import StoreError
from hesstore.store.environments import record_environment
from hesstore.store.growing import check_growing, grow_store, statuses_after_growth
from hesstore.store.places.location import locate
from hesstore.store.reading import open_store
from hesstore.store.removing import check_removable, remove_store
from hesstore.store.schema import Run, Status, StoreSpec
from hesstore.store.writing import SweepStore

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from distributed import Client

    from hesstore.config.sources import ConfigLike
    from hesstore.engine.collection import Collection
    from hesstore.engine.executor import Executor
    from hesstore.store.places.place import Place

__all__ = ["SweepEvent", "SweepPlan", "SweepSummary", "plan_sweep", "run_sweep"]


@calls_back("observer", "on_plan", "stop")
def run_sweep(
    config: ConfigLike,
    location: str | os.PathLike[str],
    *,
    progress: bool = False,
    observer: Callable[[SweepEvent], None] | None = None,
    on_plan: Callable[[SweepPlan], None] | None = None,
    stop: Callable[[], bool] | None = None,
    workers: int = 0,
    scheduler: str = "",
    retry_failed: bool = False,
    grow: bool = False,
    overwrite: bool = False,
    runs: Iterable[int] = (),
    collection: Collection | None = None,
) -> SweepSummary:
    """Compute every grid point that the store at ``location`` lacks. Create the store if it does not exist.

    Parameters
    ----------
    config : SweepConfig, mapping, path or name
        The settings: a config, a mapping of settings, the path of a TOML file, or the name of a preset. A mapping may
        also name a ``preset`` to start from. An existing store must have been made with the same settings, except for
        the location of the data and the device.
    location : path, ``file://`` URL or ``s3://`` URL
        The location of the store.
    progress : bool
        Whether to show the progress: in a notebook as a bar, on a terminal as a line, elsewhere as lines on stderr.
    observer : callable, optional
        Called with each :class:`SweepEvent`.
    on_plan : callable, optional
        Called with the :class:`SweepPlan` before the store is made or changed. Measuring the speed takes about one
        second, and three if the number of threads is also to be chosen. It is not measured if complete grid points of
        the store show it, if nothing is left to do, or with workers, whose speed is not that of this process.
    stop : callable, optional
        Called before each grid point. Once it returns True, the grid points that have begun are finished, and no other
        one is begun.
    workers : int
        Number of worker processes to start on this machine, by Dask; 0: this process does the work.
    scheduler : str
        The address of a running Dask scheduler whose workers do the work. They must be able to reach the store and to
        import hesstore.
    retry_failed : bool
        Whether failed grid points are computed again.
    grow : bool
        Whether an existing store first grows to fit ``config``: with more grid points or runs, or with spectra that are
        computed again from the stored weights because k is larger or another setting of the spectrum differs.
    overwrite : bool
        Whether an existing store is deleted and made again. It is deleted when data, network and config have been
        checked, and after the plan.
    runs : iterable of int
        IDs of the runs to compute and to count in the summary; all by default. Other processes may compute the others.
    collection : Collection, optional
        The checkpoints from which the weights come, instead of from training; see :func:`hesstore.analyse`.

    Returns
    -------
    SweepSummary
        The number of grid points by status, and the duration.

    Raises
    ------
    HesstoreError
        Before anything is written, if the config can't be carried out or the store was made with another one.
    """
    began, runs = time.perf_counter(), tuple(runs)
    config = as_config(config)
    stop = stop or (lambda: False)
    place = locate(location)
    place.recover()
    if overwrite and not place.is_new():
        check_removable(place)
        existing = None
    else:  # before data are loaded or downloaded
        existing = open_existing_store(place, settings_identity(config, collection), grow=grow)
    with (
        observing(observer, progress=progress) as observe,
        computing_on(resolve_device(config.device), config.threads),
    ):
        experiment = Experiment.prepare(config, existing, collection=collection, whole_check=False)
        if collection is not None:
            collection.check(experiment.model, existing)
        probing = on_plan is not None and not stop() and not workers and not scheduler
        threads_reason = "" if workers or scheduler else choose_threads(experiment, existing, probing=probing)
        if on_plan is not None:
            options = {"retry_failed": retry_failed, "grow": grow, "probing": probing}
            on_plan(_plan(experiment, existing, place, runs, threads_reason, **options))
        experiment.finish_check()  # after the plan, because it may take as long as all that came before
        spec = experiment.spec()
        with connect_workers(workers, scheduler, config.threads) as client, ExitStack() as claims:
            if overwrite and not place.is_new():
                choose_runs(spec.runs, runs, place)
                remove_store(place)
            store = create_or_extend_store(place, existing, spec, runs, grow=grow)
            chosen = choose_runs(store.runs, runs, place)
            _claim(store, chosen, claims, workers=worker_count(client), retry_failed=retry_failed)
            is_chain = config.path == "continuation" and collection is None
            driver = Driver(store, chosen, observe, continuation=is_chain)
            if driver.finished < driver.total:
                place.check_space(least_bytes(spec, driver.total - driver.finished))
                record_environment(store, experiment.environment)
                with make_executor(experiment, store, client) as executor:
                    driver.drive(executor, stop)
    return summarise(store, chosen, driver.computed, began)


def _claim(store: SweepStore, runs: Iterable[Run], claims: ExitStack, *, workers: int, retry_failed: bool) -> None:
    """Hold the runs that have something left to do, and mark failed grid points as pending if they are tried again."""
    for run in runs:
        if retry_failed or (store.status(run) < Status.COMPLETE).any():
            claims.enter_context(store.claim(run, workers))
    if retry_failed:
        store.reset(Status.FAILED, runs)


def plan_sweep(
    config: ConfigLike,
    location: str | os.PathLike[str] | None = None,
    *,
    retry_failed: bool = False,
    grow: bool = False,
    runs: Iterable[int] = (),
) -> SweepPlan:
    """Estimate what :func:`run_sweep` with these arguments would take. Nothing is written.

    Without ``location``, the plan is that of a new store at any location.

    Raises
    ------
    HesstoreError
        In the same cases as :func:`run_sweep`, and if the store has no room.
    """
    config = as_config(config)
    place, runs = None if location is None else locate(location), tuple(runs)
    store = None if place is None else open_existing_store(place, config.identity(), grow=grow)
    with computing_on(resolve_device(config.device), config.threads):
        experiment = Experiment.prepare(config, store)
        reason = choose_threads(experiment, store, probing=True)
        plan = _plan(experiment, store, place, runs, reason, retry_failed=retry_failed, grow=grow)
    if place is not None:
        place.check_space(int(plan.disk_end.least) - plan.disk_now)
    return plan


# -- the store and its runs -----------------------------------------------------------------------------------


def open_existing_store(place: Place, identity: Mapping[str, Any], *, grow: bool) -> SweepStore | None:
    """Open the store at ``place`` and check that a sweep can continue it, as far as that is known without the data.

    What it holds is compared with its digests before this process claims a run, because a claim shows that a run was
    interrupted.

    Parameters
    ----------
    place : Place
        The place of the store.
    identity : mapping
        The part of the identity that follows from the config alone.
    grow : bool
        Whether an existing store is to grow.

    Returns
    -------
    store : SweepStore or None
        The store; None if a new one can be created there.

    Raises
    ------
    StoreError
        If the place is taken or can't be written, or if its store is damaged, was made with another config or can't
        grow.
    """
    if place.is_new():
        place.check_creatable()
        return None
    store = SweepStore.open(place)
    open_store(place, chunked=False, check=True)
    if grow:
        check_growing(store, identity)
    else:
        store.require(identity, partly=True)
    return store


def create_or_extend_store(
    place: Place, existing: SweepStore | None, spec: StoreSpec, runs: Sequence[int], *, grow: bool
) -> SweepStore:
    """Create the store, or grow or check the existing one. If another driver creates it first, that one is opened.

    Raises
    ------
    ConfigError
        If a new store would have none of the ``runs`` (IDs), before it is created.
    StoreError
        If the place has no room or can't be written, or its store has another identity.
    """
    if existing is not None and grow:
        return grow_store(existing, spec)
    if existing is None:
        chosen = choose_runs(spec.runs, runs, place)
        place.check_space(least_bytes(spec, len(spec.grid) * len(chosen)))
        try:
            return SweepStore.create(place, spec)
        except (StoreError, OSError):
            if place.is_new():
                raise
    store = existing or SweepStore.open(place)
    store.require(spec.identity)
    return store


def least_bytes(spec: StoreSpec, count: int) -> int:
    """A lower bound on the bytes that ``count`` grid points take on disk."""
    return int(LEAST_SHARE * spec.large_bytes) * count


# -- executors ------------------------------------------------------------------------------------------------


def connect_workers(workers: int, scheduler: str, threads: int) -> AbstractContextManager[Client | None]:
    """Return a context with a client of Dask workers, or with None if this process does the work.

    New workers use ``threads`` threads each; 0 divides the cores of this machine among them.
    """
    if not workers and not scheduler:
        return nullcontext()
    from hesstore.engine.dask_executor import connect  # noqa: PLC0415 - only a sweep with workers needs Dask

    return connect(workers, scheduler, threads)


def worker_count(client: Client | None) -> int:
    """The number of processes that compute now: the workers of ``client``, or this process."""
    return max(1, len(client.scheduler_info(n_workers=-1)["workers"])) if client is not None else 1


def make_executor(experiment: Experiment, store: SweepStore, client: Client | None) -> AbstractContextManager[Executor]:
    """Return a context with the executor of a sweep: on the workers of ``client``, or in this process."""
    if client is not None:
        from hesstore.engine.dask_executor import DaskExecutor  # noqa: PLC0415 - as above

        return nullcontext(DaskExecutor(client, experiment.config, store.place.address, experiment.collection))
    worker = Worker(experiment, store, remember=True)
    return SideBySideExecutor(worker) if experiment.is_side_by_side else nullcontext(LocalExecutor(worker))


# -- the plan --------------------------------------------------------------------------------------------------


def _plan(
    experiment: Experiment,
    store: SweepStore | None,
    place: Place | None,
    runs: Sequence[int],
    threads_reason: str,
    *,
    retry_failed: bool,
    grow: bool,
    probing: bool = True,
) -> SweepPlan:
    """The plan of some runs (IDs) of a store, as it is or after it has grown; of a new store if ``store`` is None."""
    effort = Effort()
    if store is None:
        spec = experiment.spec()
        pending = np.full(len(spec.grid), Status.PENDING, np.int8)
        statuses = dict.fromkeys(choose_runs(spec.runs, runs, place or "a new store"), pending)
    elif grow:
        grown = statuses_after_growth(store, experiment.spec())
        statuses = {run: grown[run] for run in choose_runs(tuple(grown), runs, store.place)}
    else:
        store.require(experiment.identity())
        chosen = choose_runs(store.runs, runs, store.place)
        statuses, effort = {run: store.status(run) for run in chosen}, Effort.of(store, chosen)
    if retry_failed:
        statuses = {run: np.where(at == Status.FAILED, np.int8(Status.PENDING), at) for run, at in statuses.items()}
    return sweep_plan.plan(
        experiment,
        statuses,
        place=place,
        is_new=store is None,
        effort=effort,
        threads_reason=threads_reason,
        probing=probing,
    )
