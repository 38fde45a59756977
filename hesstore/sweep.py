"""The sweep: for each run, along λ: fit, store, analyse, store.

A chain of fits, each from the weights of the last good λ; the analysis of a λ needs only its weights. Both start from
weights as the store holds them, so a resumed sweep and an uninterrupted one are the same computation. Up to G fits that
do not wait for each other go side by side, and up to G analyses; results are written while the next are computed.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from hesstore.devices import HostCopy
from hesstore.errors import CorruptStoreError, DivergedError
from hesstore.experiment import Experiment, Point
from hesstore.recorder import Record, Recorder
from hesstore.store.paths import locate
from hesstore.store.schema import Run, Status
from hesstore.store.writing import SweepStore, check_matching

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from typing import Any

    from numpy.typing import NDArray
    from torch import Tensor

    from hesstore.config import SweepConfig
    from hesstore.metrics import SplitMetrics
    from hesstore.training import Fit


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
        Asked before each fit. Once it says True no λ is begun; those in hand are finished.

    Raises
    ------
    HesstoreError
        Before anything is written, if the config can't be carried out or the store is another's.
    """
    began = time.perf_counter()
    place = locate(location)
    is_new = place.is_new()
    if is_new:
        place.check_creatable()
    else:
        check_matching(place, config.identity(), partly=True)  # before data are loaded, or even downloaded
    experiment = Experiment.prepare(config)
    store = (
        SweepStore.create(place, experiment.spec())
        if is_new
        else SweepStore.open_matching(place, experiment.identity())
    )
    unfinished = [run for run in store.runs if (store.status(run) < Status.COMPLETE).any()]
    computed = 0
    if unfinished:
        with ExitStack() as claims:
            for run in unfinished:
                claims.enter_context(store.claim(run))
            with Recorder(store, room=2 * experiment.sizes.models + 2) as recorder:
                computed = _Driver(experiment, store, recorder, observer or (lambda _: None)).drive(
                    stop or (lambda: False)
                )
    statuses = np.stack([store.status(run) for run in store.runs])
    return SweepSummary(
        complete=int((statuses == Status.COMPLETE).sum()),
        failed=int((statuses == Status.FAILED).sum()),
        pending=int((statuses < Status.COMPLETE).sum()),
        computed=computed,
        seconds=time.perf_counter() - began,
    )


@dataclass(frozen=True)
class _Fitted:
    """A λ that waits for its analysis: its weights on the device, and what to say of it when all is done."""

    point: Point
    theta: Tensor
    facts: dict[str, float | str]


class _Driver:
    """Drives all runs along λ: fits what can be fitted, analyses what was."""

    def __init__(
        self,
        experiment: Experiment,
        store: SweepStore,
        recorder: Recorder,
        observer: Callable[[SweepEvent], None],
    ) -> None:
        self.experiment, self.store, self.recorder, self.observer = experiment, store, recorder, observer
        self.most = experiment.sizes.models
        self.chains = [_Chain(experiment, store, run) for run in store.runs]
        statuses = np.stack([chain.status for chain in self.chains])
        self.total, self.finished = statuses.size, int((statuses >= Status.COMPLETE).sum())

    def drive(self, stop: Callable[[], bool]) -> int:
        """Finish every λ of every run, or those in hand once told to stop; returns how many were computed."""
        before = self.finished
        waiting = [self._resumed(point) for chain in self.chains for point in chain.fitted]
        first = next((chain.first for chain in self.chains if chain.first is not None), None)
        if first is None:  # another driver finished all before the runs were claimed
            return 0
        self._tell("opened", first)
        while not stop():
            fits = [] if len(waiting) >= self.most else self._ready()
            waiting += self._fit(fits) if fits else []
            if not waiting and not fits:
                break
            if stop() or len(waiting) >= self.most or not fits:
                self._analyse(waiting[: self.most])
                waiting = waiting[self.most :]
        self.recorder.close()
        self._report()
        return self.finished - before

    def _ready(self) -> list[tuple[_Chain, Point]]:
        """Up to G fits that need no other first."""
        ready: list[tuple[_Chain, Point]] = []
        for chain in self.chains:
            ready += [(chain, point) for point in chain.ready(self.most - len(ready))]
        return ready

    def _resumed(self, point: Point) -> _Fitted:
        metrics = {name: self.store.read(name, point.run, point.index) for name in ("accuracy", "class_accuracy")}
        theta = stored_weights(self.experiment, self.store, point)
        return _Fitted(point, theta, _facts(float(metrics["accuracy"][1]), metrics["class_accuracy"][1]))

    def _fit(self, ready: list[tuple[_Chain, Point]]) -> list[_Fitted]:
        points = [point for _, point in ready]
        began = time.perf_counter()
        found = self.experiment.fit(
            [chain.start(point) for chain, point in ready],
            points,
            lambda point, epoch, loss: self._tell("fitting", point, epoch=epoch, loss=loss),
        )
        seconds = (time.perf_counter() - began) / len(ready)
        good: list[tuple[Point, Fit, Tensor]] = []
        for (chain, point), fit in zip(ready, found, strict=True):
            theta = None if isinstance(fit, DivergedError) else _as_stored(fit.theta)
            chain.take(point, theta)
            if isinstance(fit, DivergedError):
                self._fail(point, fit)
            elif theta is not None:
                good.append((point, fit, theta))
        return self._measured(good, seconds) if good else []

    def _measured(self, fits: list[tuple[Point, Fit, Tensor]], seconds: float) -> list[_Fitted]:
        fitted = []
        metrics = self.experiment.measure([theta for _, _, theta in fits])
        for (point, fit, theta), (train, test) in zip(fits, metrics, strict=True):
            norm = float(torch.linalg.vector_norm(theta, dtype=torch.float64))
            values = {
                "weights": HostCopy(theta.to(torch.float32)),
                **_split_values([train, test]),
                "penalty": self.experiment.config.penalty_scale * point.l2 * norm**2,
                "epochs": fit.epochs,
                "fit_seconds": seconds,
            }
            self._record(point, Status.FITTED, values)
            fitted.append(_Fitted(point, theta, _facts(test.accuracy, test.class_accuracy)))
        return fitted

    def _analyse(self, fitted: list[_Fitted]) -> None:
        for each in fitted:
            self._tell("analysing", each.point)
        began = time.perf_counter()
        found = self.experiment.analyse([each.theta for each in fitted], [each.point for each in fitted])
        seconds = (time.perf_counter() - began) / len(fitted)
        for each, analysis in zip(fitted, found, strict=True):
            if isinstance(analysis, FloatingPointError):
                self._fail(each.point, analysis)
                continue
            pairs = analysis.pairs
            values = {
                "gradient": HostCopy(analysis.gradient.to(torch.float32)),
                "eigenvectors": HostCopy(pairs.eigenvectors.to(torch.float32)),
                "eigenvalues": pairs.eigenvalues.numpy(),
                "residual_norm": pairs.residual_norms.numpy(),
                "converged": pairs.converged.numpy(),
                "matvecs": pairs.num_matvecs,
                "solver_message": pairs.message,
                "analysis_seconds": seconds,
            }
            facts = {**each.facts, "eigenvalue": float(pairs.eigenvalues[0]), "matvecs": pairs.num_matvecs}
            self._record(each.point, Status.COMPLETE, values, facts)

    def _fail(self, point: Point, error: Exception) -> None:
        self._record(point, Status.FAILED, {"failure": str(error)}, {"reason": str(error)})

    def _record(
        self, point: Point, status: Status, values: dict[str, Any], facts: dict[str, float | str] | None = None
    ) -> None:
        self.recorder.put(Record(point.run, point.index, status, values, (point, facts)))
        self._report()

    def _report(self) -> None:
        """Tell of what has come to be on disk."""
        for record in self.recorder.written():
            point, facts = record.note
            if record.status >= Status.COMPLETE:
                self.finished += 1
                self._send("complete" if record.status == Status.COMPLETE else "failed", point, facts)

    def _tell(self, phase: Phase, point: Point, **facts: float | str) -> None:
        self._report()
        self._send(phase, point, facts)

    def _send(self, phase: Phase, point: Point, facts: dict[str, float | str]) -> None:
        self.observer(SweepEvent(phase, self.finished, self.total, point.run, point.l2, facts))


class _Chain:
    """One run: what is left to fit, in its order, and where each fit starts from."""

    def __init__(self, experiment: Experiment, store: SweepStore, run: Run) -> None:
        self.experiment, self.store, self.run = experiment, store, run
        self.status = store.status(run)
        upward = run.direction == "up"
        self._order = range(len(store.l2)) if upward else range(len(store.l2) - 1, -1, -1)
        self._pending = deque(self._with(Status.PENDING))
        self._latest: tuple[int, Tensor] | None = None
        self.fitted = self._with(Status.FITTED)

    def _with(self, status: Status) -> list[Point]:
        return [self._point(index) for index in self._order if self.status[index] == status]

    def _point(self, index: int) -> Point:
        return Point(self.run, index, float(self.store.l2[index]))

    @property
    def first(self) -> Point | None:
        """The first λ that is not finished."""
        unfinished = (self._point(index) for index in self._order if self.status[index] < Status.COMPLETE)
        return next(unfinished, None)

    def ready(self, most: int) -> list[Point]:
        """The next fits that need no other first."""
        most = min(most, 1) if self.experiment.config.path == "continuation" else most
        return list(itertools.islice(self._pending, most))

    def take(self, point: Point, theta: Tensor | None) -> None:
        """Take note of a fit that :meth:`ready` gave; no weights if it failed."""
        self._pending.remove(point)
        self.status[point.index] = Status.FAILED if theta is None else Status.FITTED
        if theta is not None:
            self._latest = point.index, theta

    def start(self, point: Point) -> Tensor:
        """The weights of the nearest earlier λ (in the run's order) that was fitted; else the initial ones."""
        if self.experiment.config.path == "continuation":
            for index in reversed(self._order[: self._order.index(point.index)]):
                if self._latest is not None and self._latest[0] == index:
                    return self._latest[1]
                if self.status[index] in {Status.FITTED, Status.COMPLETE}:
                    return stored_weights(self.experiment, self.store, self._point(index))
        return self.experiment.initial_weights(self.run)


def stored_weights(experiment: Experiment, store: SweepStore, point: Point) -> Tensor:
    """(P,) the weights that ``store`` holds for a λ, on the experiment's device and in its precision.

    Raises
    ------
    CorruptStoreError
        If they are missing or damaged.
    """
    weights = torch.from_numpy(store.read("weights", point.run, point.index))
    if not bool(torch.isfinite(weights).all()):
        where = f"run {point.run.id} at λ = {point.l2:.10g}"
        raise CorruptStoreError(f"{store.path}: the weights of {where} are missing or damaged")
    return weights.to(experiment.device, experiment.data.train.x.dtype)


def _as_stored(theta: Tensor) -> Tensor:
    """What is stored is what is measured, continued from and analysed: the weights in the store's float32."""
    return theta.to(torch.float32).to(theta.dtype)


def _facts(test_accuracy: float, test_classes: NDArray[np.float64]) -> dict[str, float | str]:
    worst = int(np.nanargmin(test_classes))
    return {
        "test_accuracy": test_accuracy,
        "worst_class": worst,
        "worst_class_accuracy": float(test_classes[worst]),
    }


def _split_values(metrics: list[SplitMetrics]) -> dict[str, NDArray[np.generic]]:
    """The store's variables with a ``split`` dimension, train before test."""
    return {
        "loss": np.array([part.loss for part in metrics]),
        "accuracy": np.array([part.accuracy for part in metrics]),
        "class_accuracy": np.stack([part.class_accuracy for part in metrics]),
        "confusion": np.stack([part.confusion for part in metrics]),
    }
