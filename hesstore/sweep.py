"""The sweep: for each run, along λ: fit, store, analyse, store.

A chain of fits, each from the weights of the last good λ; the analysis of a λ needs only its weights. Both start from
weights as the store holds them, so a resumed sweep and an uninterrupted one are the same computation. Up to G fits that
do not wait for each other go side by side, and up to G analyses; results are written while the next are computed.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from hesstore.errors import ConfigError, StoreError
from hesstore.execution import LocalExecutor
from hesstore.experiment import Experiment, Point
from hesstore.recorder import Record, Recorder
from hesstore.store.growing import check_growing, grown, recover
from hesstore.store.local import LocalPlace
from hesstore.store.paths import local_path, locate
from hesstore.store.schema import Run, Status, StoreSpec
from hesstore.store.writing import SweepStore, check_matching
from hesstore.worker import Worker, facts_of

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection

    from distributed import Client
    from numpy.typing import NDArray

    from hesstore.config import SweepConfig
    from hesstore.execution import Executor
    from hesstore.store.place import Place
    from hesstore.worker import Facts, Outcome


LEAST_SHARE = 0.6
"""What compression leaves of a λ's arrays at the least (measured: 0.64 to 0.98)."""

Phase = Literal["opened", "fitting", "analysing", "complete", "failed"]


@dataclass(frozen=True)
class SweepEvent:
    """What a sweep tells its observer.

    Attributes
    ----------
    phase : str
        ``opened`` (once, before the first λ), then for each λ that is not finished yet: ``fitting`` (after each epoch),
        ``analysing``, and ``complete`` or ``failed`` once that is on disk, which may be while the next is computed.
    finished, total : int
        λ of all runs that are complete or failed, and all of them.
    run, l2 : Run, float
        Which λ.
    facts : mapping
        ``fitting``: epoch, loss; ``complete``: test_accuracy, worst_class, worst_class_accuracy, eigenvalue, matvecs;
        ``failed``: reason.
    """

    phase: Phase
    finished: int
    total: int
    run: Run
    l2: float
    facts: dict[str, float | str]


@dataclass(frozen=True)
class SweepSummary:
    """How a sweep ended: counts of λ over all runs, how many were computed now, and the seconds that it took."""

    complete: int
    failed: int
    pending: int
    computed: int
    seconds: float

    @property
    def total(self) -> int:
        """All λ of all runs."""
        return self.complete + self.failed + self.pending


def run_sweep(
    config: SweepConfig,
    location: str | os.PathLike[str],
    *,
    observer: Callable[[SweepEvent], None] | None = None,
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
    is_new = _check(place, config, grow=grow)  # before data are loaded, or even downloaded
    experiment = Experiment.prepare(config)
    with ExitStack() as held:
        client = held.enter_context(_client(workers, scheduler))  # nothing is written if there is none
        store = _opened(place, experiment, runs, is_new=is_new, grow=grow)
        chosen = _chosen(store.runs, runs, place)
        for run in chosen:
            if retry_failed or (store.status(run) < Status.COMPLETE).any():
                held.enter_context(store.claim(run))
        if retry_failed:
            store.reset(Status.FAILED, chosen)
        driver = _Driver(experiment, store, chosen, observer or (lambda _: None))
        if driver.finished < driver.total:
            place.check_space(_space(experiment.spec(), driver.total - driver.finished))
            driver.recorder = held.enter_context(Recorder(store, room=2 * experiment.sizes.models + 2))
            driver.drive(_executor(driver, client), stop or (lambda: False))
    statuses = np.stack([store.status(run) for run in chosen])
    return SweepSummary(
        complete=int((statuses == Status.COMPLETE).sum()),
        failed=int((statuses == Status.FAILED).sum()),
        pending=int((statuses < Status.COMPLETE).sum()),
        computed=driver.computed,
        seconds=time.perf_counter() - began,
    )


def _check(place: Place, config: SweepConfig, *, grow: bool) -> bool:
    """Whether a store is to be made at ``place``; raises if what is there is in the way."""
    if isinstance(place, LocalPlace):
        recover(place.path)
    elif grow:
        raise StoreError(f"{place}: only a store in a folder can grow: make a new one with the larger config")
    is_new = place.is_new()
    if is_new:
        place.check_creatable()
    elif grow:
        check_growing(local_path(place.location), config.identity())
    else:
        check_matching(place, config.identity(), partly=True)
    return is_new


def _opened(place: Place, experiment: Experiment, runs: Collection[int], *, is_new: bool, grow: bool) -> SweepStore:
    """The store, made or grown if need be; another driver may be quicker to make it."""
    spec = experiment.spec()
    if grow and not is_new:
        return grown(local_path(place.location), spec)
    if is_new:
        _chosen(spec.runs, runs, place)
        place.check_space(_space(spec, len(spec.l2) * (len(runs) or len(spec.runs))))
        try:
            return SweepStore.create(place, spec)
        except (StoreError, OSError):
            if place.is_new():
                raise
    return SweepStore.open_matching(place, experiment.identity())


def _space(spec: StoreSpec, count: int) -> int:
    """Bytes that so many λ surely take."""
    return int(LEAST_SHARE * spec.large_bytes) * count


def _chosen(there: tuple[Run, ...], ids: Collection[int], place: Place) -> tuple[Run, ...]:
    unknown = sorted(set(ids) - {run.id for run in there})
    if unknown:
        raise ConfigError(f"run: {unknown[0]} is not there: {place} has runs 0 to {len(there) - 1}")
    return tuple(run for run in there if not ids or run.id in ids)


def _client(workers: int, scheduler: str) -> AbstractContextManager[Client | None]:
    """A client of what carries the tasks out; None for this process."""
    if not workers and not scheduler:
        return nullcontext()
    from hesstore.dask_execution import connected  # noqa: PLC0415 - who uses no Dask needs none

    return connected(workers, scheduler)


def _executor(driver: _Driver, client: Client | None) -> Executor:
    experiment, store = driver.experiment, driver.store
    if client is not None:
        from hesstore.dask_execution import DaskExecutor  # noqa: PLC0415

        return DaskExecutor(client, experiment.config, store.place.address)
    return LocalExecutor(
        Worker(experiment, store, remember=True),
        lambda point, epoch, loss: driver.tell("fitting", point, epoch=epoch, loss=loss),
        lambda point: driver.tell("analysing", point),
    )


class _Driver:
    """Drives all runs along λ: has fitted what can be fitted, has analysed what was, records what came of it."""

    recorder: Recorder

    def __init__(
        self, experiment: Experiment, store: SweepStore, runs: tuple[Run, ...], observer: Callable[[SweepEvent], None]
    ) -> None:
        self.experiment, self.store, self.observer = experiment, store, observer
        in_order = experiment.config.path == "continuation"
        self.chains = {run.id: _Chain(run, store.l2, store.status(run), in_order=in_order) for run in runs}
        statuses = np.stack([chain.status for chain in self.chains.values()])
        self.total, self.finished = statuses.size, int((statuses >= Status.COMPLETE).sum())
        self.computed = 0
        self._facts: dict[Point, Facts] = {}

    def drive(self, executor: Executor, stop: Callable[[], bool]) -> None:
        """Finish every λ of every run, or those in hand once told to stop."""
        self.tell("opened", next(chain.first for chain in self.chains.values() if chain.first is not None))
        left = deque(point for chain in self.chains.values() for point in chain.fitted)  # by an earlier sweep
        fresh: deque[Point] = deque()
        outstanding = 0
        while True:
            stopping = stop()
            if stopping:
                outstanding -= len(executor.withdraw_fits())
                left.clear()
            while outstanding < executor.capacity and (left or fresh):
                executor.submit_analysis(left.popleft() if left else fresh.popleft())
                outstanding += 1
            for chain in () if stopping else self.chains.values():
                for point in chain.ready(executor.capacity - outstanding):
                    executor.submit_fit(point, chain.begin(point))
                    outstanding += 1
            if not outstanding:
                break
            for outcome in executor.wait():
                outstanding -= 1
                self._take(outcome)
                fresh += [outcome.point] if outcome.status == Status.FITTED else []
        self.recorder.close()
        self._report()

    def _take(self, outcome: Outcome) -> None:
        """Note and record what came of a task."""
        point, facts = outcome.point, outcome.facts
        self.chains[point.run.id].end(point, outcome.status)
        if outcome.status == Status.FITTED:
            self._facts[point] = facts
        elif outcome.status == Status.COMPLETE:
            facts = {**(self._facts.pop(point, {}) or self._stored_facts(point)), **facts}
        self.recorder.put(
            Record(point.run, point.index, outcome.status, outcome.values, (point, facts), outcome.covering)
        )
        self._report()

    def _stored_facts(self, point: Point) -> Facts:
        accuracy, classes = (self.store.read(name, point.run, point.index) for name in ("accuracy", "class_accuracy"))
        return facts_of(float(accuracy[1]), classes[1])

    def _report(self) -> None:
        """Tell of what has come to be on disk."""
        for record in self.recorder.written():
            point, facts = record.note
            if record.status >= Status.COMPLETE:
                self.finished += 1
                self.computed += 1
                self._send("complete" if record.status == Status.COMPLETE else "failed", point, facts)

    def tell(self, phase: Phase, point: Point, **facts: float | str) -> None:
        """Tell the observer of what goes on."""
        self._report()
        self._send(phase, point, facts)

    def _send(self, phase: Phase, point: Point, facts: Facts) -> None:
        self.observer(SweepEvent(phase, self.finished, self.total, point.run, point.l2, facts))


class _Chain:
    """One run: what is left to fit, in its order, and where each fit starts from."""

    def __init__(self, run: Run, l2: NDArray[np.float64], status: NDArray[np.int8], *, in_order: bool) -> None:
        self.status, self._in_order = status, in_order
        points = [Point(run, index, float(value)) for index, value in enumerate(l2)]
        self._points = points if run.direction == "up" else points[::-1]
        self._pending = deque(self._with(Status.PENDING))
        self._begun: set[Point] = set()
        self.fitted = self._with(Status.FITTED)

    def _with(self, *statuses: Status) -> list[Point]:
        return [point for point in self._points if self.status[point.index] in statuses]

    @property
    def first(self) -> Point | None:
        """The first λ that is not finished."""
        return next(iter(self._with(Status.PENDING, Status.FITTED)), None)

    def ready(self, most: int) -> list[Point]:
        """The next fits that need no other first."""
        if self._in_order:
            most = min(most, 1 - len(self._begun))
        return list(itertools.islice(self._pending, max(most, 0)))

    def begin(self, point: Point) -> Point | None:
        """Begin a fit; returns whose weights it starts from: the nearest earlier λ that was fitted, if any."""
        self._pending.remove(point)
        self._begun.add(point)
        if not self._in_order:
            return None
        good = {Status.FITTED, Status.COMPLETE}
        earlier = itertools.takewhile(lambda other: other != point, self._points)
        return next((other for other in reversed(list(earlier)) if self.status[other.index] in good), None)

    def end(self, point: Point, status: Status) -> None:
        """Take note of what a λ has become."""
        self._begun.discard(point)
        self.status[point.index] = status
