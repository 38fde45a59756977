"""The driver decides which fit or analysis comes next, records the outcomes, and reports events to the observer."""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from hesstore.engine.events import SweepEvent
from hesstore.engine.outcome import accuracy_facts
from hesstore.engine.recorder import Recorder
from hesstore.store.schema import Point, Run, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from hesstore.engine.events import Facts, Phase
    from hesstore.engine.executor import Executor
    from hesstore.engine.outcome import Outcome
    from hesstore.store.writing import SweepStore

SPARE_ROOM = 3
"""The number of outcomes that may wait for the disk in addition to an executor's capacity."""


class Driver:
    """Drives runs along λ: submits fits and analyses to an executor and records their outcomes.

    Parameters
    ----------
    store : SweepStore
        The store of the runs. The caller holds the claims on them.
    runs : iterable of Run
        The runs to drive.
    observer : callable
        Called with each :class:`SweepEvent`.
    continuation : bool
        Whether each fit of a run starts from the weights of an earlier grid point, so that its fits form a chain.

    Attributes
    ----------
    total, finished : int
        The number of grid points of the runs, and how many of them are complete or failed.
    computed : int
        The number of grid points that this driver has finished.
    """

    def __init__(
        self,
        store: SweepStore,
        runs: Iterable[Run],
        observer: Callable[[SweepEvent], None],
        *,
        continuation: bool,
    ) -> None:
        self.store, self.observer = store, observer
        self._runs = {run.id: _RunState(store, run, continuation=continuation) for run in runs}
        statuses = np.stack([run.status for run in self._runs.values()])
        self.total, self.finished = statuses.size, int((statuses >= Status.COMPLETE).sum())
        self.computed = 0
        self._accuracies: dict[Point, Facts] = {}  # of the grid points that were fitted but not yet analysed

    def drive(self, executor: Executor, stop: Callable[[], bool], *, fits: bool = True) -> None:
        """Finish every grid point of every run; once ``stop`` returns True, only those that have begun.

        Without ``fits``, only grid points that are already fitted are finished.
        """
        with Recorder(self.store, room=executor.capacity + SPARE_ROOM) as recorder:
            self._run_tasks(executor, recorder, stop, fits=fits)
            recorder.close()
            self._report_written(recorder)

    def _run_tasks(self, executor: Executor, recorder: Recorder, stop: Callable[[], bool], *, fits: bool) -> None:
        """Submit tasks and accept their outcomes until nothing is left to do."""

        def report(phase: Phase, point: Point, facts: Facts) -> None:
            self._report_written(recorder)
            self._send(phase, point, facts)

        runs = self._runs.values()
        report("opened", next(run.first_unfinished for run in runs if run.first_unfinished is not None), {})
        fitted_before = deque(point for run in runs for point in run.fitted())
        fitted_now: deque[Point] = deque()
        outstanding = 0
        while True:
            stopping, capacity = stop(), executor.capacity
            if stopping:
                outstanding -= len(executor.withdraw())
                fitted_before.clear()
            while outstanding < capacity and (fitted_before or fitted_now):
                executor.submit_analysis((fitted_before or fitted_now).popleft())
                outstanding += 1
            for run in runs if fits and not stopping else ():
                for point in run.ready_fits(capacity - outstanding):
                    executor.submit_fit(point, run.begin_fit(point))
                    outstanding += 1
            if not outstanding:
                return
            for outcome in executor.wait(report):
                outstanding -= 1
                self._accept(outcome, recorder)
                if outcome.status == Status.FITTED:
                    fitted_now.append(outcome.point)

    def _accept(self, outcome: Outcome, recorder: Recorder) -> None:
        """Take note of an outcome and pass it to the recorder."""
        point = outcome.point
        self._runs[point.run.id].end(point, outcome.status)
        if outcome.status == Status.FITTED:
            self._accuracies[point] = outcome.facts
        elif outcome.status == Status.COMPLETE:
            outcome = replace(outcome, facts={**self._take_accuracies(outcome), **outcome.facts})
        recorder.put(outcome)
        self._report_written(recorder)

    def _take_accuracies(self, outcome: Outcome) -> Facts:
        """The accuracies at a complete grid point, unless the outcome itself has them: it is a fit if k is 0."""
        point = outcome.point
        if "test_accuracy" in outcome.facts:
            return {}
        if point in self._accuracies:
            return self._accuracies.pop(point)
        accuracy, classes = (self.store.read(name, point.run, point.index) for name in ("accuracy", "class_accuracy"))
        return accuracy_facts(float(accuracy[1]), classes[1])

    def _report_written(self, recorder: Recorder) -> None:
        """Report the grid points whose final results are on disk since the last call."""
        for outcome in recorder.take_written():
            if outcome.status >= Status.COMPLETE:
                self.finished += 1
                self.computed += 1
                self._send("complete" if outcome.status == Status.COMPLETE else "failed", outcome.point, outcome.facts)

    def _send(self, phase: Phase, point: Point, facts: Facts) -> None:
        self.observer(SweepEvent(phase, self.finished, self.total, point.run, point.value, facts, point.axis))


class _RunState:
    """The state of one run: the status of its grid points, the fits that are left, and where each fit starts.

    Parameters
    ----------
    store : SweepStore
        The store of the run.
    run : Run
        The run.
    continuation : bool
        Whether each fit starts from the weights of an earlier grid point.

    Attributes
    ----------
    status : ndarray
        (L,) the status of each grid point, which is kept up to date.
    """

    def __init__(self, store: SweepStore, run: Run, *, continuation: bool) -> None:
        self.status, self._continuation = store.status(run), continuation
        points = [store.point(run, index) for index in range(len(store.grid))]
        self._points = points if run.direction == "up" else points[::-1]
        self._pending = deque(self._with_status(Status.PENDING))
        self._running: set[Point] = set()

    def _with_status(self, *statuses: Status) -> list[Point]:
        return [point for point in self._points if self.status[point.index] in statuses]

    def fitted(self) -> list[Point]:
        """The grid points that are fitted and not yet analysed, in the run's order."""
        return self._with_status(Status.FITTED)

    @property
    def first_unfinished(self) -> Point | None:
        """The first grid point, in the run's order, that is neither complete nor failed."""
        return next(iter(self._with_status(Status.PENDING, Status.FITTED)), None)

    def ready_fits(self, most: int) -> list[Point]:
        """The next grid points, at most ``most``, whose fits do not depend on an unfinished fit."""
        if self._continuation:
            most = min(most, 1 - len(self._running))
        return list(itertools.islice(self._pending, max(most, 0)))

    def begin_fit(self, point: Point) -> Point | None:
        """Mark a fit as running; return the grid point whose weights it starts from.

        This is the nearest earlier grid point that was fitted. None stands for the run's initial weights.
        """
        self._pending.remove(point)
        self._running.add(point)
        if not self._continuation:
            return None
        has_weights = {Status.FITTED, Status.COMPLETE}
        earlier = itertools.takewhile(lambda other: other != point, self._points)
        return next((other for other in reversed(list(earlier)) if self.status[other.index] in has_weights), None)

    def end(self, point: Point, status: Status) -> None:
        """Set the new status of a grid point whose fit or analysis has ended."""
        self._running.discard(point)
        self.status[point.index] = status
