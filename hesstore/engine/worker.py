"""The two kinds of work on a λ, fit and analysis, on points of a store: what any process can do, given both."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hesstore.engine.devices import HostCopy
from hesstore.errors import CorruptStoreError, DivergedError
from hesstore.store.schema import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from hesstore.engine.experiment import Experiment
    from hesstore.measure.metrics import SplitMetrics
    from hesstore.store.schema import Point
    from hesstore.store.writing import SweepStore
    from hesstore.training import Fit

Facts = dict[str, float | str]

IDENTITY_LIMIT = 1e-3
"""Largest ``class_identity_error`` without a warning; in float32 1e-6 is usual."""


@dataclass(frozen=True)
class Outcome:
    """What came of a task.

    Attributes
    ----------
    point : Point
        Which λ.
    status : Status
        Fitted, complete or failed.
    values : mapping
        What is to be recorded, by variable.
    facts : dict
        What is to be told of it.
    covering : int, optional
        The digest of its large arrays, where the worker has put them into the store itself.
    """

    point: Point
    status: Status
    values: Mapping[str, Any]
    facts: Facts
    covering: int | None = None


class Worker:
    """Fits and analyses points.

    Parameters
    ----------
    experiment : Experiment
        What the λ share.
    store : SweepStore
        Where weights are read from that were fitted elsewhere, or before.
    remember : bool
        Whether weights that were fitted here are used before the store has them. Without it, it must have them.
    """

    def __init__(self, experiment: Experiment, store: SweepStore, *, remember: bool) -> None:
        self.experiment, self.store, self.remember = experiment, store, remember
        self._fitted: dict[Point, Tensor] = {}
        self._latest: dict[int, Point] = {}
        self._analysed: set[Point] = set()

    def fit(
        self,
        points: Sequence[Point],
        starts: Sequence[Point | None],
        on_epoch: Callable[[Point, int, float], None] = lambda *_: None,
    ) -> list[Outcome]:
        """Train at ``points`` side by side, each from the weights of another point, or from the run's initial ones."""
        began = time.perf_counter()
        found = self.experiment.fit(
            [
                self.experiment.initial_weights(point.run) if start is None else self._weights(start)
                for point, start in zip(points, starts, strict=True)
            ],
            points,
            on_epoch,
        )
        seconds = (time.perf_counter() - began) / len(points)
        good = [(point, fit) for point, fit in zip(points, found, strict=True) if not isinstance(fit, DivergedError)]
        fitted = {outcome.point: outcome for outcome in self._measured(good, seconds)}
        return [
            _failed(point, fit) if isinstance(fit, DivergedError) else fitted[point]
            for point, fit in zip(points, found, strict=True)
        ]

    def _measured(self, fits: Sequence[tuple[Point, Fit]], seconds: float) -> list[Outcome]:
        if not fits:
            return []
        # What is stored is what is measured, continued from and analysed: the weights in the store's float32.
        stored = [fit.theta.to(torch.float32) for _, fit in fits]
        thetas = [theta.to(fit.theta.dtype) for theta, (_, fit) in zip(stored, fits, strict=True)]
        outcomes = []
        measured = self.experiment.measure(thetas)
        for (point, fit), weights, theta, (train, test) in zip(fits, stored, thetas, measured, strict=True):
            self._keep(point, theta)
            scale = self.experiment.config.penalty_scale * point.l2
            values = {
                **measured_values(HostCopy(weights), theta, (train, test), scale),
                "epochs": fit.epochs,
                "fit_seconds": seconds,
            }
            outcomes.append(Outcome(point, Status.FITTED, values, facts_of(test.accuracy, test.class_accuracy)))
        return outcomes

    def analyse(self, points: Sequence[Point]) -> list[Outcome]:
        """Gradient, spectrum and class geometry at the weights of each point."""
        began = time.perf_counter()
        found = self.experiment.analyse([self._weights(point) for point in points], points)
        seconds = (time.perf_counter() - began) / len(points)
        outcomes = []
        for point, analysis in zip(points, found, strict=True):
            self._drop(point)
            if isinstance(analysis, FloatingPointError):
                outcomes.append(_failed(point, analysis))
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
                **analysis.geometry,
            }
            facts: Facts = {
                "eigenvalue": float(pairs.eigenvalues[0]),
                "matvecs": pairs.num_matvecs,
                **_warning(float(analysis.geometry["class_identity_error"])),
            }
            outcomes.append(Outcome(point, Status.COMPLETE, values, facts))
        return outcomes

    # -- weights ------------------------------------------------------------------------------------------

    def _keep(self, point: Point, theta: Tensor) -> None:
        """The latest weights of a run start its next fit; all wait for their analysis."""
        if self.remember:
            self._fitted[point] = theta
            self._latest[point.run.id] = point
            self._tidy()

    def _drop(self, point: Point) -> None:
        if point in self._fitted:
            self._analysed.add(point)
            self._tidy()

    def _tidy(self) -> None:
        for point in self._analysed - set(self._latest.values()):
            del self._fitted[point]
            self._analysed.remove(point)

    def _weights(self, point: Point) -> Tensor:
        """(P,) the weights of a point, on the experiment's device and in its precision.

        Raises
        ------
        CorruptStoreError
            If they are missing or damaged.
        """
        if point in self._fitted:
            return self._fitted[point]
        weights = torch.from_numpy(self.store.read("weights", point.run, point.index))
        if not bool(torch.isfinite(weights).all()):
            where = f"run {point.run.id} at λ = {point.l2:.10g}"
            raise CorruptStoreError(f"{self.store.path}: the weights of {where} are missing or damaged")
        return weights.to(self.experiment.device, self.experiment.data.train.x.dtype)


def facts_of(test_accuracy: float, test_classes: NDArray[np.float64]) -> Facts:
    """What is told of a fitted λ: its accuracy on the test set, and its worst class there."""
    worst = int(np.nanargmin(test_classes))
    return {
        "test_accuracy": test_accuracy,
        "worst_class": worst,
        "worst_class_accuracy": float(test_classes[worst]),
    }


def measured_values(
    weights: Any, theta: Tensor, splits: tuple[SplitMetrics, SplitMetrics], penalty_scale: float
) -> dict[str, Any]:
    """What is recorded of weights, given as they are stored and as θ (P,): metrics, and ``penalty_scale`` ‖θ‖²."""
    norm = float(torch.linalg.vector_norm(theta, dtype=torch.float64))
    return {"weights": weights, **_split_values(list(splits)), "penalty": penalty_scale * norm**2}


def _warning(identity_error: float) -> Facts:
    if identity_error <= IDENTITY_LIMIT:
        return {}
    return {
        "warning": f"curvatures by class add up to the eigenvalues only to {identity_error:.1g} of the largest, above "
        f"{IDENTITY_LIMIT:g}: --dtype float64 is more exact"
    }


def _failed(point: Point, error: Exception) -> Outcome:
    return Outcome(point, Status.FAILED, {"failure": str(error)}, {"reason": str(error)})


def _split_values(metrics: list[SplitMetrics]) -> dict[str, NDArray[np.generic]]:
    """The store's variables with a ``split`` dimension, train before test."""
    return {
        "loss": np.array([part.loss for part in metrics]),
        "accuracy": np.array([part.accuracy for part in metrics]),
        "class_accuracy": np.stack([part.class_accuracy for part in metrics]),
        "confusion": np.stack([part.confusion for part in metrics]),
    }
