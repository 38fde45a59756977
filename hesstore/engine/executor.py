"""Executors carry out tasks: in this process, or on Dask workers (:mod:`hesstore.engine.dask_executor`)."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

from hesstore.engine.events import Facts, Phase
from hesstore.store.schema import Point

if TYPE_CHECKING:
    from hesstore.engine.outcome import Outcome
    from hesstore.engine.worker import Worker

T = TypeVar("T")

INTERVAL = 2.0
"""The time between two reports of an analysis, in seconds."""

Report = Callable[[Phase, Point, Facts], None]
"""A function that an executor calls while a task runs: with the phase, the grid point and facts about it."""


class Executor(Protocol):
    """Accepts tasks and returns their outcomes, in any order."""

    @property
    def capacity(self) -> int:
        """The number of tasks that should be submitted and unfinished at any time."""
        ...

    def submit_fit(self, point: Point, start: Point | None) -> None:
        """Submit a fit at ``point`` that starts from the weights of ``start``, or from the run's initial weights."""
        ...

    def submit_analysis(self, point: Point) -> None:
        """Submit an analysis of ``point``, which is fitted."""
        ...

    def wait(self, report: Report) -> list[Outcome]:
        """Return the outcomes of some tasks; call it only while tasks are unfinished.

        It returns none if nothing has finished for a while, so that the caller can look whether to stop. ``report`` is
        called as tasks advance that run in this process.
        """
        ...

    def withdraw(self) -> list[Point]:
        """Cancel the tasks that have not begun, except analyses in this process, and return their grid points."""
        ...


def _at_intervals(report: Report, point: Point) -> Callable[[int], None]:
    """Return a function that reports the number of products of an analysis every :data:`INTERVAL` seconds."""
    last = time.monotonic()

    def on_product(count: int) -> None:
        nonlocal last
        if time.monotonic() - last >= INTERVAL:
            last = time.monotonic()
            report("analysing", point, {"product": count})

    return on_product


class LocalExecutor:
    """Carries out tasks in this process: up to G fits side by side, or up to G analyses together.

    Parameters
    ----------
    worker : Worker
        Computes the fits and analyses.
    """

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self._fits: deque[tuple[Point, Point | None]] = deque()
        self._analyses: deque[Point] = deque()

    @property
    def stack_size(self) -> int:
        """G, the number of grid points that are computed together; smaller after the device ran out of memory."""
        return self.worker.experiment.sizes.models

    @property
    def capacity(self) -> int:
        """One full stack of fits or analyses, and the others that can accumulate next to it."""
        return 2 * self.stack_size - 1

    def submit_fit(self, point: Point, start: Point | None) -> None:
        """Queue a fit."""
        self._fits.append((point, start))

    def submit_analysis(self, point: Point) -> None:
        """Queue an analysis."""
        self._analyses.append(point)

    def wait(self, report: Report) -> list[Outcome]:
        """Compute one stack: of analyses if the stack is full or no fit is queued, otherwise of fits."""
        if self._fits and len(self._analyses) < self.stack_size:
            points, starts = zip(*self._next_stack(self._fits), strict=True)
            return self.worker.fit(
                points,
                starts,
                lambda point, epoch, loss: report("fitting", point, {"epoch": epoch, "loss": loss}),
            )
        to_analyse = self._next_stack(self._analyses)
        for point in to_analyse:
            report("analysing", point, {})
        return self.worker.analyse(to_analyse, _at_intervals(report, to_analyse[0]))

    def _next_stack(self, queue: deque[T]) -> list[T]:
        return [queue.popleft() for _ in range(min(self.stack_size, len(queue)))]

    def withdraw(self) -> list[Point]:
        """Empty the queue of fits and return their grid points."""
        points = [point for point, _ in self._fits]
        self._fits.clear()
        return points
