"""What drives runs along λ: which fit or analysis is next, and what is told and recorded of it."""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from hesstore.engine.recorder import Record, Recorder
from hesstore.engine.worker import facts_of
from hesstore.store.schema import Point, Run, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from hesstore.engine.executor import Executor
    from hesstore.engine.worker import Facts, Outcome
    from hesstore.store.writing import SweepStore

Phase = Literal["opened", "fitting", "analysing", "complete", "failed"]


@dataclass(frozen=True)
class SweepEvent:
    """What a sweep tells its observer.

    Attributes
    ----------
    phase : str
        ``opened`` (once, before the first λ), then for each λ that is not finished yet: ``fitting`` (after each epoch)
        and ``analysing``, where this process does that itself; ``complete`` or ``failed`` once that is on disk, which
        may be while the next is computed.
    finished, total : int
        λ that are complete or failed, and all of them.
    run, l2 : Run, float
        Which λ.
    facts : mapping
        ``fitting``: epoch, loss; ``complete``: test_accuracy, worst_class, worst_class_accuracy, eigenvalue, matvecs,
        and perhaps a warning; ``failed``: reason.
    """

    phase: Phase
    finished: int
    total: int
    run: Run
    l2: float
    facts: dict[str, float | str]


class Driver:
    """Drives runs along λ: has fitted what can be fitted, has analysed what was, records what came of it.

    Parameters
    ----------
    store : SweepStore
        Whose claims on the runs are held.
    runs : iterable of Run
        What to drive.
    recorder : Recorder
        Of the store; nobody else uses it.
    observer : callable
        Is told of what goes on.
    in_order : bool
        Whether each fit of a run starts from the weights of an earlier λ.
    """

    def __init__(
        self,
        store: SweepStore,
        runs: Iterable[Run],
        recorder: Recorder,
        observer: Callable[[SweepEvent], None],
        *,
        in_order: bool,
    ) -> None:
        self.store, self.recorder, self.observer = store, recorder, observer
        self.chains = {run.id: _Chain(run, store.l2, store.status(run), in_order=in_order) for run in runs}
        statuses = np.stack([chain.status for chain in self.chains.values()])
        self.total, self.finished = statuses.size, int((statuses >= Status.COMPLETE).sum())
        self.computed = 0
        self._facts: dict[Point, Facts] = {}

    def drive(self, executor: Executor, stop: Callable[[], bool], *, fits: bool = True) -> None:
        """Finish every λ of every run (without ``fits`` those that are fitted), or those in hand once told to stop."""
        self.tell("opened", next(chain.first for chain in self.chains.values() if chain.first is not None))
        left = deque(point for chain in self.chains.values() for point in chain.fitted)  # by an earlier sweep
        fresh: deque[Point] = deque()
        outstanding = 0
        while True:
            stopping, capacity = stop(), executor.capacity
            if stopping:
                outstanding -= len(executor.withdraw_fits())
                left.clear()
            while outstanding < capacity and (left or fresh):
                executor.submit_analysis(left.popleft() if left else fresh.popleft())
                outstanding += 1
            for chain in () if stopping or not fits else self.chains.values():
                for point in chain.ready(capacity - outstanding):
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
