"""Fits and analyses of one run at the same time on a GPU, each kind on a stream of its own.

The fits of a run form a chain of short kernels, which leave most of a GPU idle. The analyses of the grid points that
are already fitted run in a second thread meanwhile, on a stream of lower priority. The chain alone then decides how
long the run takes, as long as an analysis takes less time than a fit.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, NamedTuple, Self

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from hesstore.engine.executor import Report
    from hesstore.engine.outcome import Outcome
    from hesstore.engine.work_sizes import Sizes
    from hesstore.engine.worker import Worker
    from hesstore.store.schema import Point


class _Analysis(NamedTuple):
    """An analysis in the second thread. Its result is None if the memory was too small."""

    point: Point
    result: Future[list[Outcome] | None]


class SideBySideExecutor:
    """Carries out the tasks of one run on a GPU: fits in this thread, analyses in another one.

    The first analysis with given sizes is carried out alone. It traces the programs that later ones use, and PyTorch
    traces in one thread at a time. A context manager; on exit, the second thread has finished.

    Parameters
    ----------
    worker : Worker
        Computes the fits and analyses, on a GPU.
    """

    capacity = 3
    """A fit, the analysis that runs at the same time, and one that waits."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self._device = worker.experiment.device
        self._stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        self._thread = ThreadPoolExecutor(1, "hesstore-analysis")
        self._fits: deque[tuple[Point, Point | None]] = deque()
        self._analyses: deque[Point] = deque()
        self._running: deque[_Analysis] = deque()
        self._traced: Sizes | None = None  # the sizes with which an analysis has been carried out
        worker.finish_other_work = self._finish_analyses

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()

    def submit_fit(self, point: Point, start: Point | None) -> None:
        """Queue a fit."""
        self._fits.append((point, start))

    def submit_analysis(self, point: Point) -> None:
        """Queue an analysis."""
        self._analyses.append(point)

    def wait(self, report: Report) -> list[Outcome]:
        """Begin the analyses; then carry out a fit or, if none is queued, wait for the first analysis."""
        while self._analyses:
            point = self._analyses.popleft()
            report("analysing", point, {})
            if self._traced != self.worker.experiment.sizes:
                return self._analyse_alone(point)
            self._begin(point)
        if not self._fits:
            return self._take_analysis()
        point, start = self._fits.popleft()
        outcomes = self.worker.fit(
            [point], [start], lambda point, epoch, loss: report("fitting", point, {"epoch": epoch, "loss": loss})
        )
        while self._running and self._running[0].result.done():
            outcomes += self._take_analysis()
        return outcomes

    def withdraw(self) -> list[Point]:
        """Empty the queue of fits and return their grid points."""
        points = [point for point, _ in self._fits]
        self._fits.clear()
        return points

    # -- analyses -----------------------------------------------------------------------------------------

    def _begin(self, point: Point) -> None:
        """Hand an analysis to the second thread. It takes place after all that this thread has launched."""
        theta = self.worker.weights(point)
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        self._running.append(_Analysis(point, self._thread.submit(self._analyse, point, theta)))

    def _analyse(self, point: Point, theta: Tensor) -> list[Outcome] | None:
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            try:
                return self.worker.analyse_weights([theta], [point])
            except torch.OutOfMemoryError:
                return None
            finally:
                self._stream.synchronize()  # other streams may use the memory from now on

    def _take_analysis(self) -> list[Outcome]:
        """Wait for the first analysis in the second thread, and return its outcome."""
        point, result = self._running.popleft()
        outcomes = result.result()
        if outcomes is None:
            self._finish_analyses()
            return self._analyse_alone(point)
        self.worker.release(point)
        return outcomes

    def _analyse_alone(self, point: Point) -> list[Outcome]:
        """Carry out an analysis in this thread, with smaller sizes if the memory is too small."""
        outcomes = self.worker.analyse([point])
        self._traced = self.worker.experiment.sizes
        return outcomes

    def _finish_analyses(self) -> None:
        """Wait until the second thread computes nothing."""
        wait([analysis.result for analysis in self._running])
