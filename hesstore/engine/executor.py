"""Executors carry tasks out: in this process, or on Dask workers (:mod:`hesstore.engine.dask_executor`)."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from hesstore.engine.worker import Outcome, Worker
    from hesstore.store.schema import Point

T = TypeVar("T")


class Executor(Protocol):
    """Takes tasks and gives their outcomes, in any order."""

    @property
    def capacity(self) -> int:
        """How many tasks it wants to have at hand."""
        ...

    def submit_fit(self, point: Point, start: Point | None) -> None:
        """Have ``point`` fitted from the weights of ``start``, or from the initial ones."""
        ...

    def submit_analysis(self, point: Point) -> None:
        """Have ``point`` analysed."""
        ...

    def wait(self) -> list[Outcome]:
        """Outcomes of at least one task; called while there are any."""
        ...

    def withdraw_fits(self) -> list[Point]:
        """Give back the fits that have not begun; they will not be done."""
        ...


class LocalExecutor:
    """In this process: up to G fits side by side, up to G analyses together.

    Parameters
    ----------
    worker : Worker
        What does them.
    on_fit : callable
        Called with (point, epoch, loss) along a fit.
    on_analysis : callable
        Called with each point whose analysis begins.
    """

    def __init__(
        self, worker: Worker, on_fit: Callable[[Point, int, float], None], on_analysis: Callable[[Point], None]
    ) -> None:
        self.worker, self.on_fit, self.on_analysis = worker, on_fit, on_analysis
        self.most = worker.experiment.sizes.models
        self._fits: deque[tuple[Point, Point | None]] = deque()
        self._analyses: deque[Point] = deque()

    @property
    def capacity(self) -> int:
        """A stack of either kind, and what can gather beside it."""
        return 2 * self.most - 1

    def submit_fit(self, point: Point, start: Point | None) -> None:
        """Queue a fit."""
        self._fits.append((point, start))

    def submit_analysis(self, point: Point) -> None:
        """Queue an analysis."""
        self._analyses.append(point)

    def wait(self) -> list[Outcome]:
        """Do one stack of work: analyses if there is a full stack of them, or nothing else."""
        if self._fits and len(self._analyses) < self.most:
            points, starts = zip(*self._next(self._fits), strict=True)
            return self.worker.fit(points, starts, self.on_fit)
        points = tuple(self._next(self._analyses))
        for point in points:
            self.on_analysis(point)
        return self.worker.analyse(points)

    def _next(self, queue: deque[T]) -> list[T]:
        return [queue.popleft() for _ in range(min(self.most, len(queue)))]

    def withdraw_fits(self) -> list[Point]:
        """Empty the queue of fits."""
        points = [point for point, _ in self._fits]
        self._fits.clear()
        return points
