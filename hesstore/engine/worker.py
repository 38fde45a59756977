"""A worker carries out the two kinds of tasks at grid points of a store: fits and analyses."""

from __future__ import annotations

import gc
import itertools
import math
import time
import warnings
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from hesstore.engine.devices import HostCopy
from hesstore.engine.outcome import Outcome, accuracy_facts
from hesstore.errors import (
    CorruptStoreError,
    DeviceError,
    DeviceWarning,
    DivergedError,
    ImportFilesError,
    first_line,
)
from hesstore.store.environments import record_environment
from hesstore.store.schema import LOWEST, OUTERMOST, Status
from hesstore.training import Fit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from hesstore.engine.events import Facts
    from hesstore.engine.experiment import Analysis, Experiment, Polished
    from hesstore.engine.work_sizes import Sizes
    from hesstore.linalg import EigenPairs
    from hesstore.measure.metrics import SplitMetrics
    from hesstore.store.schema import PairVariables, Point
    from hesstore.store.writing import SweepStore

T = TypeVar("T")

IDENTITY_LIMIT = 1e-3
"""The largest ``class_identity_error`` without a warning. In float32, 1e-6 is usual."""


class Worker:
    """Fits and analyses grid points.

    If the device runs out of memory, the work is done again with fewer grid points together, then with fewer rows per
    pass. The smaller sizes stay in use, and the store records them as another environment.

    Parameters
    ----------
    experiment : Experiment
        The data, the network and the settings.
    store : SweepStore
        The store from which weights are read that another worker or an earlier sweep has fitted.
    remember : bool
        Whether weights that this worker has fitted are kept in memory until they are no longer needed. Otherwise they
        are read from the store.

    Attributes
    ----------
    finish_other_work : callable
        Called before the sizes change, because another thread may be computing with the experiment.
    """

    def __init__(self, experiment: Experiment, store: SweepStore, *, remember: bool) -> None:
        self.experiment, self.store, self.remember = experiment, store, remember
        self._fitted: dict[Point, Tensor] = {}
        self._statistics: dict[Point, NDArray[np.float32]] = {}  # of the same points, if each has its own
        self._latest: dict[int, Point] = {}  # the last fitted grid point of each run
        self._analysed: set[Point] = set()
        self.finish_other_work: Callable[[], None] = lambda: None

    def fit(
        self,
        points: Sequence[Point],
        starts: Sequence[Point | None],
        on_epoch: Callable[[Point, int, float], None] = lambda *_: None,
    ) -> list[Outcome]:
        """Train at ``points`` side by side; each fit starts from the weights of a point or the run's initial weights.

        ``on_epoch`` is called with (point, epoch, loss) after each epoch.

        Raises
        ------
        DeviceError
            If the device has too little memory for one fit.
        """
        if self.experiment.collection is not None:
            return self._within_memory(self._read_together, points)
        return self._within_memory(partial(self._fit_together, on_epoch), list(zip(points, starts, strict=True)))

    def _fit_together(
        self, on_epoch: Callable[[Point, int, float], None], tasks: Sequence[tuple[Point, Point | None]]
    ) -> list[Outcome]:
        began, points = time.perf_counter(), [point for point, _ in tasks]
        weights = [
            self.experiment.initial_weights(point.run) if start is None else self.weights(start)
            for point, start in tasks
        ]
        fits = self.experiment.fit(weights, points, on_epoch)
        finite = [(point, fit) for point, fit in zip(points, fits, strict=True) if not isinstance(fit, DivergedError)]
        polished = [self.experiment.polish(fit.theta, point) for point, fit in finite] if self._polishes else None
        seconds = (time.perf_counter() - began) / len(points)
        outcomes = {outcome.point: outcome for outcome in self._measure(finite, polished, seconds)}
        return [
            Outcome.failed(point, str(fit)) if isinstance(fit, DivergedError) else outcomes[point]
            for point, fit in zip(points, fits, strict=True)
        ]

    def _read_together(self, points: Sequence[Point]) -> list[Outcome]:
        """Read checkpoints instead of training, and measure the networks in them."""
        began, collection, model = time.perf_counter(), self.experiment.collection, self.experiment.model
        assert collection is not None  # noqa: S101 - fit() has checked it
        like = self.experiment.data.train.x
        read: dict[Point, Fit] = {}
        failures: dict[Point, Outcome] = {}
        for point in points:
            try:
                weights, statistics = collection.read(point, model)
            except (ImportFilesError, OSError) as error:
                failures[point] = Outcome.failed(point, first_line(error))
            else:
                theta = torch.from_numpy(weights).to(like.device, like.dtype)
                read[point] = Fit(theta, loss=math.nan, epochs=0)
                if self.experiment.statistics:
                    self._statistics[point] = statistics
        seconds = (time.perf_counter() - began) / len(points)
        outcomes = {outcome.point: outcome for outcome in self._measure(list(read.items()), None, seconds)}
        if not self.remember:
            self._statistics.clear()
        return [failures.get(point) or outcomes[point] for point in points]

    @property
    def _polishes(self) -> bool:
        return self.experiment.config.polish > 0

    def _measure(
        self, fits: Sequence[tuple[Point, Fit]], polished: Sequence[Polished] | None, seconds: float
    ) -> list[Outcome]:
        """The outcomes of fits that took ``seconds`` each, with the metrics at their weights, polished or not."""
        if not fits:
            return []
        ends = [fit.theta for _, fit in fits] if polished is None else [each.theta for each in polished]
        # The weights are rounded to the store's float32 before they are measured, continued from and analysed, so that
        # a resumed sweep, which reads them from the store, computes the same.
        stored = [theta.to(torch.float32) for theta in ends]
        thetas = [rounded.to(theta.dtype) for rounded, theta in zip(stored, ends, strict=True)]
        outcomes = []
        measured, config = self._metrics([point for point, _ in fits], thetas), self.experiment.config
        for index, (weights, theta, (train, test)) in enumerate(zip(stored, thetas, measured, strict=True)):
            point, fit = fits[index]
            self._keep(point, theta)
            if not config.k:
                self.release(point)  # no analysis needs them
            scale, center = config.penalty_scale * self.experiment.l2_at(point), self.experiment.center
            values = {
                **fitted_values(HostCopy(weights), theta, (train, test), scale, center),
                **({} if polished is None else self._polish_values(point, fit, theta, polished[index])),
                **({"statistics": self._statistics[point]} if self.experiment.statistics else {}),
                "epochs": fit.epochs,
                "fit_seconds": seconds,
            }
            status = Status.FITTED if config.k else Status.COMPLETE
            outcomes.append(Outcome(point, status, values, accuracy_facts(test.accuracy, test.class_accuracy)))
        return outcomes

    def _metrics(self, points: Sequence[Point], thetas: Sequence[Tensor]) -> list[tuple[SplitMetrics, SplitMetrics]]:
        """The metrics at the weights of each point, together unless each has statistics of its own."""
        if not self.experiment.statistics:
            return self.experiment.measure(thetas)
        return [
            splits
            for point, theta in zip(points, thetas, strict=True)
            for splits in self._experiment_at(point).measure([theta])
        ]

    def _experiment_at(self, point: Point) -> Experiment:
        """The experiment for the network of a point."""
        if not self.experiment.statistics:
            return self.experiment
        values = self._statistics.get(point)
        if values is None:
            values = np.asarray(self.store.read("statistics", point.run, point.index))
            if not np.isfinite(values).all():
                raise CorruptStoreError(self._lost("statistics", point))
        return self.experiment.at_statistics(values)

    def _polish_values(self, point: Point, fit: Fit, theta: Tensor, polished: Polished) -> dict[str, Any]:
        """The values to record about polishing, at the weights ``theta`` (P,) as they are stored."""
        stationarity = self.experiment.stationarity(theta, point)
        return {
            "polish_distance": float(torch.linalg.vector_norm(theta.to(torch.float64) - fit.theta)),
            "polish_stationarity": stationarity,
            "polish_evaluations": polished.evaluations,
        }

    def analyse(self, points: Sequence[Point], on_product: Callable[[int], object] = lambda _: None) -> list[Outcome]:
        """Compute the gradient, the spectrum and the class geometry at the weights of each point.

        ``on_product`` is called with the number of products with the Hessian after each of them.

        Raises
        ------
        DeviceError
            If the device has too little memory for one analysis.
        """
        count = itertools.count(1)
        return self._within_memory(partial(self._analyse_together, lambda: on_product(next(count))), points)

    def _analyse_together(self, on_product: Callable[[], object], points: Sequence[Point]) -> list[Outcome]:
        outcomes = self.analyse_weights([self.weights(point) for point in points], points, on_product)
        for point in points:
            self.release(point)
        return outcomes

    def analyse_weights(
        self, thetas: Sequence[Tensor], points: Sequence[Point], on_product: Callable[[], object] | None = None
    ) -> list[Outcome]:
        """Compute the same at given weights (P,), without smaller sizes if the memory is too small.

        It does not change the worker, so another thread may call it.
        """
        began = time.perf_counter()
        if self.experiment.statistics:
            analyses = [
                analysis
                for theta, point in zip(thetas, points, strict=True)
                for analysis in self._experiment_at(point).analyse([theta], [point], on_product)
            ]
        else:
            analyses = self.experiment.analyse(thetas, points, on_product)
        seconds = (time.perf_counter() - began) / len(points)
        return [
            Outcome.failed(point, str(analysis))
            if isinstance(analysis, FloatingPointError)
            else _analysed(point, analysis, seconds)
            for point, analysis in zip(points, analyses, strict=True)
        ]

    # -- memory -------------------------------------------------------------------------------------------

    def _within_memory(self, work: Callable[[Sequence[T]], list[Outcome]], tasks: Sequence[T]) -> list[Outcome]:
        """Do the work for all tasks together or, if the device runs out of memory, with smaller sizes."""
        try:
            return work(tasks)
        except torch.OutOfMemoryError as error:
            reason = first_line(error, 120)
        # Not in the handler, during which the error keeps the tensors of the failed attempt alive.
        self._use_smaller_sizes(len(tasks), reason)
        size = min(len(tasks), self.experiment.sizes.models)
        groups = [tasks[start : start + size] for start in range(0, len(tasks), size)]
        return [outcome for group in groups for outcome in self._within_memory(work, group)]

    def _use_smaller_sizes(self, together: int, reason: str) -> None:
        """Use the next smaller sizes after ``together`` grid points did not fit into memory."""
        self.finish_other_work()
        experiment = self.experiment
        old, rows_fixed = experiment.sizes, experiment.config.chunk_rows
        new = old.smaller(together, keep_rows=bool(rows_fixed))
        if new is None:
            remedy = f"use --chunk-rows below {rows_fixed}, " if rows_fixed else "use "
            raise DeviceError(
                f"device: {experiment.device} is out of memory for one grid point with {old.chunk_rows:,} rows per "
                f"pass ({reason}): {remedy}a smaller --k or network, or another --device"
            )
        experiment.use_sizes(new)
        gc.collect()  # traced programs refer to themselves
        torch.cuda.empty_cache()
        record_environment(self.store, experiment.environment)
        message = f"device: {experiment.device} is out of memory ({reason}): the sweep continues {_change(old, new)}"
        warnings.warn(DeviceWarning(message), stacklevel=2)

    # -- weights ------------------------------------------------------------------------------------------

    def _keep(self, point: Point, theta: Tensor) -> None:
        """Keep fitted weights: for their analysis, and for the run's next fit, which starts from them."""
        if self.remember:
            self._fitted[point] = theta
            self._latest[point.run.id] = point
            self._forget_unneeded()

    def release(self, point: Point) -> None:
        """Forget the weights of a point that was analysed, unless the run's next fit starts from them."""
        if point in self._fitted:
            self._analysed.add(point)
            self._forget_unneeded()

    def _forget_unneeded(self) -> None:
        for point in self._analysed - set(self._latest.values()):
            del self._fitted[point]
            self._statistics.pop(point, None)
            self._analysed.remove(point)

    def weights(self, point: Point) -> Tensor:
        """The weights (P,) of a point, on the experiment's device and in its precision.

        Raises
        ------
        CorruptStoreError
            If they are missing or damaged.
        """
        if point in self._fitted:
            return self._fitted[point]
        if self.remember:  # an earlier process recorded them: on a Dask worker, they may still be on their way
            self.store.check_large(point.run, point.index)
        weights = torch.from_numpy(self.store.read("weights", point.run, point.index))
        if not bool(torch.isfinite(weights).all()):
            raise CorruptStoreError(self._lost("weights", point))
        return weights.to(self.experiment.device, self.experiment.data.train.x.dtype)

    def _lost(self, name: str, point: Point) -> str:
        where = f"run {point.run.id} at {point.text}"
        return (
            f"{self.store.path}: the {name} of {where} are missing or damaged: "
            f"`hesstore verify {self.store.path}` lists all damage"
        )


def _change(old: Sizes, new: Sizes) -> str:
    """The difference between two sizes, and its effect on the results."""
    if new.models < old.models:
        fewer = f"{new.models} grid points together" if new.models > 1 else "one grid point at a time"
        return f"with {fewer} instead of {old.models}, which rounds results differently"
    if new.chunk_rows < old.chunk_rows:
        return f"with {new.chunk_rows:,} rows per pass instead of {old.chunk_rows:,}, which rounds results differently"
    return "without cached activations, which gives the same results more slowly"


def fitted_values(
    weights: Any,
    theta: Tensor,
    splits: tuple[SplitMetrics, SplitMetrics],
    penalty_scale: float,
    center: Tensor | None = None,
) -> dict[str, Any]:
    """The values to record for fitted weights: the weights, the metrics, the penalty, norm and distance.

    Parameters
    ----------
    weights : array or HostCopy
        (P,) the weights as they are stored.
    theta : Tensor
        (P,) the same weights in the precision of the computation.
    splits : (SplitMetrics, SplitMetrics)
        The metrics on the training and the test split.
    penalty_scale : float
        c λ: the penalty is c λ ‖θ − θ_ref‖².
    center : Tensor, optional
        (P,) θ_ref, 0 by default.
    """
    norm = float(torch.linalg.vector_norm(theta, dtype=torch.float64))
    values = {"weights": weights, **_split_values(splits), "penalty": penalty_scale * norm**2, "weights_norm": norm}
    if center is None:
        return values
    distance = float(torch.linalg.vector_norm(theta.to(torch.float64) - center))
    return {**values, "penalty": penalty_scale * distance**2, "distance": distance}


def _split_values(splits: tuple[SplitMetrics, SplitMetrics]) -> dict[str, NDArray[np.generic]]:
    """The values of the variables with a ``split`` dimension: train, then test."""
    return {
        "loss": np.array([split.loss for split in splits]),
        "accuracy": np.array([split.accuracy for split in splits]),
        "class_accuracy": np.stack([split.class_accuracy for split in splits]),
        "confusion": np.stack([split.confusion for split in splits]),
    }


def _analysed(point: Point, analysis: Analysis, seconds: float) -> Outcome:
    """The outcome of an analysis that took ``seconds``."""
    pairs = analysis.pairs
    values = {
        "gradient": HostCopy(analysis.gradient.to(torch.float32)),
        **_pair_values(pairs, OUTERMOST),
        **(_pair_values(pairs.lowest, LOWEST) if pairs.lowest else {}),
        "matvecs": pairs.num_matvecs,
        "solver_message": pairs.message + (f"; lowest: {pairs.lowest.message}" if pairs.lowest else ""),
        "analysis_seconds": seconds,
        **analysis.geometry,
    }
    facts: Facts = {
        "eigenvalue": float(pairs.eigenvalues[0]),
        "matvecs": pairs.num_matvecs,
        **_identity_warning(float(analysis.geometry["class_identity_error"])),
    }
    return Outcome(point, Status.COMPLETE, values, facts)


def _pair_values(pairs: EigenPairs, names: PairVariables) -> dict[str, Any]:
    """The values of the variables of one set of eigenpairs."""
    return {
        names.eigenvalues: pairs.eigenvalues.numpy(),
        names.eigenvectors: HostCopy(pairs.eigenvectors.to(torch.float32)),
        names.residual_norm: pairs.residual_norms.numpy(),
        names.converged: pairs.converged.numpy(),
        names.bound: pairs.bound,
    }


def _identity_warning(error: float) -> Facts:
    if error <= IDENTITY_LIMIT:
        return {}
    return {
        "warning": f"the curvatures by class add up to the eigenvalues only to within {error:.1g} of the largest "
        f"eigenvalue, above the limit of {IDENTITY_LIMIT:g}: use --dtype float64 for more precision"
    }
