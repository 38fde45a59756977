"""The sweep: for each run, along λ: fit, store, analyse, store.

A chain of fits, each from the weights of the last good λ; the analysis of a λ needs only its stored weights. Every
step starts from what the store holds, so a resumed sweep and an uninterrupted one are the same computation.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from hesstore.curvature import gradient
from hesstore.errors import CorruptStoreError, DivergedError
from hesstore.experiment import Experiment
from hesstore.metrics import SplitMetrics, evaluate
from hesstore.store.paths import local_path
from hesstore.store.schema import Run, Status
from hesstore.store.writing import SweepStore, check_creatable, check_matching

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator
    from typing import Any

    from numpy.typing import NDArray
    from torch import Tensor

    from hesstore.config import SweepConfig


@dataclass(frozen=True)
class SweepEvent:
    """What a sweep tells its observer.

    Attributes
    ----------
    phase : str
        ``opened`` (once, before the first λ), then for each λ that is not finished yet: ``fitting`` (after each epoch),
        ``analysing``, and ``complete`` or ``failed``.
    finished, total : int
        λ of all runs that are complete or failed, and all of them.
    run, l2 : Run, float
        Which λ.
    facts : mapping
        ``fitting``: epoch, loss; ``complete``: test_accuracy, worst_class, worst_class_accuracy, eigenvalue, matvecs;
        ``failed``: reason.
    """

    phase: Literal["opened", "fitting", "analysing", "complete", "failed"]
    finished: int
    total: int
    run: Run
    l2: float
    facts: dict[str, float | str]


@dataclass(frozen=True)
class SweepSummary:
    """How a sweep ended: counts of λ over all runs, and the seconds that it took."""

    complete: int
    failed: int
    computed: int
    seconds: float


def run_sweep(
    config: SweepConfig,
    location: str | os.PathLike[str],
    *,
    observer: Callable[[SweepEvent], None] | None = None,
) -> SweepSummary:
    """Compute all λ of all runs that the store at ``location`` lacks; make the store if there is none.

    Parameters
    ----------
    config : SweepConfig
        What to compute. An existing store must have been made with the same one (but for where data lie and where the
        work is done).
    location : path or ``file://`` URL
        The store.
    observer : callable, optional
        Called with a :class:`SweepEvent` as work goes on.

    Raises
    ------
    HesstoreError
        Before anything is written, if the config can't be carried out or the store is another's.
    """
    began = time.perf_counter()
    path = local_path(location)
    is_new = not path.exists() or (path.is_dir() and not any(path.iterdir()))
    if is_new:
        check_creatable(path)
    else:
        check_matching(path, config.identity(), partly=True)  # before data are loaded, or even downloaded
    experiment = Experiment.prepare(config)
    store = (
        SweepStore.create(path, experiment.spec()) if is_new else SweepStore.open_matching(path, experiment.identity())
    )
    computed = 0
    for run in store.runs:
        if (store.status(run) >= Status.COMPLETE).all():
            continue
        with store.claim(run):
            computed += _RunDriver(experiment, store, run, observer or (lambda _: None)).drive()
    statuses = np.stack([store.status(run) for run in store.runs])
    return SweepSummary(
        complete=int((statuses == Status.COMPLETE).sum()),
        failed=int((statuses == Status.FAILED).sum()),
        computed=computed,
        seconds=time.perf_counter() - began,
    )


class _RunDriver:
    """Drives one run along λ."""

    def __init__(
        self, experiment: Experiment, store: SweepStore, run: Run, observer: Callable[[SweepEvent], None]
    ) -> None:
        self.experiment = experiment
        self.store = store
        self.run = run
        self.observer = observer
        self.status = store.status(run)
        self.total = len(store.runs) * len(store.l2)
        others = [store.status(other) for other in store.runs if other != run]
        self.finished_elsewhere = sum(int((status >= Status.COMPLETE).sum()) for status in others)

    def drive(self) -> int:
        """Finish every λ of the run, in its direction; returns how many were computed."""
        todo = [index for index in self._order() if self.status[index] < Status.COMPLETE]
        if todo:
            self._tell("opened", todo[0])
        for index in todo:
            self._compute(index)
        return len(todo)

    def _order(self) -> Iterator[int]:
        indices = range(len(self.store.l2))
        return iter(indices if self.run.direction == "up" else reversed(indices))

    def _compute(self, index: int) -> None:
        try:
            if self.status[index] == Status.PENDING:
                self._fit(index)
            self._analyse(index)
        except (DivergedError, FloatingPointError) as error:
            self._record(index, Status.FAILED, {"failure": str(error)})
            self._tell("failed", index, reason=str(error))

    def _fit(self, index: int) -> None:
        l2 = self._l2(index)
        began = time.perf_counter()
        found = self.experiment.fit(
            self._start(index),
            self.run,
            l2,
            lambda epoch, loss: self._tell("fitting", index, epoch=epoch, loss=loss),
        )
        seconds = time.perf_counter() - began
        # What is stored is what is measured, continued from and analysed: the weights in the store's float32.
        weights = found.theta.to(torch.float32)
        theta = weights.to(found.theta.dtype)
        data, config = self.experiment.data, self.experiment.config
        metrics = [
            evaluate(self.experiment.model, theta, *split, data.num_classes, self.experiment.chunk_rows)
            for split in (data.train, data.test)
        ]
        norm = float(torch.linalg.vector_norm(theta, dtype=torch.float64))
        self._record(
            index,
            Status.FITTED,
            {
                "weights": weights.cpu().numpy(),
                **_split_values(metrics),
                "penalty": config.penalty_scale * l2 * norm**2,
                "epochs": found.epochs,
                "fit_seconds": seconds,
            },
        )

    def _analyse(self, index: int) -> None:
        l2, experiment = self._l2(index), self.experiment
        self._tell("analysing", index)
        began = time.perf_counter()
        theta = self._stored_weights(index)
        slope = gradient(experiment.model, theta, *experiment.data.train, experiment.chunk_rows)
        pairs = experiment.spectrum(theta, self.run, l2)
        self._record(
            index,
            Status.COMPLETE,
            {
                "gradient": slope.to(torch.float32).cpu().numpy(),
                "eigenvectors": pairs.eigenvectors.to(torch.float32).cpu().numpy(),
                "eigenvalues": pairs.eigenvalues.numpy(),
                "residual_norm": pairs.residual_norms.numpy(),
                "converged": pairs.converged.numpy(),
                "matvecs": pairs.num_matvecs,
                "solver_message": pairs.message,
                "analysis_seconds": time.perf_counter() - began,
            },
        )
        test_classes = self.store.read("class_accuracy", self.run, index)[1]
        worst = int(np.nanargmin(test_classes))
        self._tell(
            "complete",
            index,
            test_accuracy=float(self.store.read("accuracy", self.run, index)[1]),
            worst_class=worst,
            worst_class_accuracy=float(test_classes[worst]),
            eigenvalue=float(pairs.eigenvalues[0]),
            matvecs=pairs.num_matvecs,
        )

    def _l2(self, index: int) -> float:
        return float(self.store.l2[index])

    def _start(self, index: int) -> Tensor:
        """The weights of the nearest earlier λ (in the run's order) that was fitted; else the initial ones."""
        if self.experiment.config.path == "continuation":
            before = range(index - 1, -1, -1) if self.run.direction == "up" else range(index + 1, len(self.status))
            for earlier in before:
                if self.status[earlier] in {Status.FITTED, Status.COMPLETE}:
                    return self._stored_weights(earlier)
        return self.experiment.initial_weights(self.run)

    def _stored_weights(self, index: int) -> Tensor:
        weights = torch.from_numpy(self.store.read("weights", self.run, index))
        if not bool(torch.isfinite(weights).all()):
            where = f"run {self.run.id} at λ = {self._l2(index):.10g}"
            raise CorruptStoreError(f"{self.store.path}: the weights of {where} are missing or damaged")
        return weights.to(self.experiment.device, self.experiment.data.train.x.dtype)

    def _record(self, index: int, status: Status, values: dict[str, Any]) -> None:
        self.store.record(self.run, index, status, values)
        self.status[index] = status

    def _tell(
        self,
        phase: Literal["opened", "fitting", "analysing", "complete", "failed"],
        index: int,
        **facts: float | str,
    ) -> None:
        finished = self.finished_elsewhere + int((self.status >= Status.COMPLETE).sum())
        self.observer(SweepEvent(phase, finished, self.total, self.run, self._l2(index), facts))


def _split_values(metrics: list[SplitMetrics]) -> dict[str, NDArray[np.generic]]:
    """The store's variables with a ``split`` dimension, train before test."""
    return {
        "loss": np.array([part.loss for part in metrics]),
        "accuracy": np.array([part.accuracy for part in metrics]),
        "class_accuracy": np.stack([part.class_accuracy for part in metrics]),
        "confusion": np.stack([part.confusion for part in metrics]),
    }
