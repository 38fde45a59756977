"""The kernels and waits of hesstore's work on a GPU, counted on a stand-in device.

They do not depend on the number of rows as long as these pass through the network in one chunk, and hardly on the sizes
of layers: a step takes one kernel more for each small weight, and searches of very small or very large networks are of
another kind. Views and allocations are not counted. The prediction for an H100 computes with these numbers.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING
from unittest import mock

import torch

from hesstore import linalg
from hesstore.config import SweepConfig
from hesstore.curvature import gradient
from hesstore.engine.experiment import Analysis, Experiment
from hesstore.linalg.lanczos_search import LanczosSearch
from hesstore.measure.class_geometry import GridPointInputs
from hesstore.store.schema import Point, Run
from hesstore.training import Fit, Trainer
from hesstore.training.trainer import STEPS_PER_GRAPH
from tests.benchmarks.digit_problem import DATASET, ROWS_VARIABLE
from tests.support.stand_in_device import stand_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from tests.support.stand_in_device import Machine

DEVICE, EPOCHS, BATCH = "cuda:0", 4, 64
POINT = Point(Run(0, 0, "up"), 0, 0.001)
SHARED, OWN = 2, 4
"""The numbers of models whose searches are counted, to tell what all models share from what each takes."""


@dataclass(frozen=True)
class Work:
    """Kernels, and waits of the host for the device."""

    kernels: float
    waits: float = 0


@dataclass(frozen=True, kw_only=True)
class KernelCounts:
    """What each piece of work takes.

    Attributes
    ----------
    step, stacked_step : Work
        A training step of one model, and of several side by side, whatever their number.
    product, stacked_product : Work
        A Hessian product, for each chunk of rows; likewise.
    primal : Work
        The pass whose values products use again, for each chunk of rows.
    gradient, metrics : Work
        The gradient of one model, and the metrics of both splits, for one chunk of rows each.
    lanczos : Work
        A search for eigenpairs, for each product and without it: the mean over a whole search.
    stacked_lanczos, lanczos_of_each : Work
        The same side by side: what all models share, and what each takes in addition.
    checks : float
        How often a search solves the tridiagonal eigenproblem on the host, for each product.
    geometry : Work
        The class geometry of one grid point.
    """

    step: Work
    stacked_step: Work
    product: Work
    stacked_product: Work
    primal: Work
    gradient: Work
    metrics: Work
    lanczos: Work
    stacked_lanczos: Work
    lanczos_of_each: Work
    checks: float
    geometry: Work


@cache
def count_kernels(hidden: tuple[int, ...], k: int, rows: int = 600) -> KernelCounts:
    """Count the work for an MLP that has been trained on digits for a few epochs.

    Parameters
    ----------
    hidden : tuple of int
        Widths of the hidden layers. With few parameters, searches are of another kind.
    k : int
        Number of eigenpairs.
    rows : int
        Number of digits.
    """
    settings = {"hidden": ",".join(map(str, hidden)), "k": k, "l2": str(POINT.value), "epochs": EPOCHS, "models": 1}
    with mock.patch.dict(os.environ, {ROWS_VARIABLE: str(rows)}), stand_in() as machine, torch.no_grad():
        at = Experiment.prepare(SweepConfig.from_mapping({**settings, "dataset": DATASET, "device": DEVICE}))
        (fit,) = at.fit([at.model.theta()], [POINT], lambda *_: None)
        assert isinstance(fit, Fit)
        return _Counting(machine, at, fit.theta).all()


class _Counting:
    """Counts the work of an experiment on the stand-in device ``machine``, at ``theta`` (P,)."""

    def __init__(self, machine: Machine, at: Experiment, theta: Tensor) -> None:
        self._machine, self._at, self._theta = machine, at, theta

    def all(self) -> KernelCounts:
        at, theta = self._at, self._theta
        with mock.patch.object(LanczosSearch, "inspect", autospec=True, side_effect=LanczosSearch.inspect) as inspect:
            (analysis,) = at.analyse([theta], [POINT])
        assert isinstance(analysis, Analysis)
        inputs = GridPointInputs(
            theta, theta, 0.0, analysis.gradient, analysis.pairs, lambda: at.hessian.at(theta), lambda _: _random()
        )
        two, four = (self._lanczos(models) for models in (SHARED, OWN))
        each = [(after - before) / (OWN - SHARED) for before, after in zip(two, four, strict=True)]
        return KernelCounts(
            step=self._step(1),
            stacked_step=self._step(2),
            product=self._product(1),
            stacked_product=self._product(2),
            primal=self._count(lambda: at.hessian.at(theta)),
            gradient=self._count(lambda: gradient(at.model, theta, *at.data.train, at.sizes.chunk_rows)),
            metrics=self._count(lambda: at.measure([theta])),
            lanczos=Work(*self._lanczos(1)),
            stacked_lanczos=Work(*(all_of - SHARED * own for all_of, own in zip(two, each, strict=True))),
            lanczos_of_each=Work(*each),
            checks=inspect.call_count / analysis.pairs.num_matvecs,
            geometry=self._count(lambda: at.geometry.at(inputs)),
        )

    def _count(self, work: Callable[[], object]) -> Work:
        """Count work that is done once before, so that everything is traced."""
        work()
        self._machine.counts.clear()
        work()
        return Work(self._machine.counts.kernels.total(), self._machine.counts.syncs.total())

    def _step(self, models: int) -> Work:
        at = self._at
        trainer = Trainer(at.model, *at.data.train, at.trainer(1).settings, copies=models)
        steps = trainer._make_eager_steps(BATCH)
        batches = torch.zeros(STEPS_PER_GRAPH, models, BATCH, dtype=torch.int64, device=DEVICE)
        return Work(self._count(lambda: steps(batches)).kernels / STEPS_PER_GRAPH)

    def _product(self, models: int) -> Work:
        if models == 1:
            one = self._at.hessian.at(self._theta)
            return self._count(lambda: one.matvec(self._theta))
        stack = self._at.hessian.at_each(self._theta.repeat(models, 1))
        return self._count(lambda: stack.matvec(stack.theta))

    def _lanczos(self, models: int) -> tuple[float, float]:
        """The kernels and waits of equal searches, for each product and without it."""
        hessian, options, product = self._at.hessian, self._at._solver_options(), self._product(models)
        found: linalg.EigenPairs | FloatingPointError
        if models == 1:
            one = hessian.at(self._theta)
            self._machine.counts.clear()
            found = linalg.lanczos(one, generator=_random(), **options)
        else:
            stack = hessian.at_each(self._theta.repeat(models, 1))
            self._machine.counts.clear()
            found, *_ = linalg.lanczos_stack(stack, generators=[_random() for _ in range(models)], **options)
        assert isinstance(found, linalg.EigenPairs)
        counts, products = self._machine.counts, found.num_matvecs
        return counts.kernels.total() / products - product.kernels, counts.syncs.total() / products - product.waits


def _random() -> torch.Generator:
    return torch.Generator().manual_seed(0)
