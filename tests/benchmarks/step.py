"""Part ``step``: a training step with batches of 64, measured as an epoch divided by its number of steps."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import nn

from tests.benchmarks import original_method
from tests.benchmarks.accuracy import training_loss
from tests.benchmarks.digit_problem import BATCH, L2, Problem, fit_settings, untrained
from tests.benchmarks.hessian_products import SLOW_ROUNDS
from tests.benchmarks.result_tables import Table, with_ratio
from tests.benchmarks.timing import Entry, Timing, interleave
from tests.support.training import fit

if TYPE_CHECKING:
    from tests.benchmarks.benchmark_settings import Settings
    from tests.benchmarks.original_method import Batches
    from tests.benchmarks.result_tables import Row

EPOCHS = 2  # the first one includes the set-up, the last one does not
LOSS_TOLERANCE = 0.25  # relative; it is wide because implementations shuffle differently


@dataclass(frozen=True)
class Trained:
    """A trained network, and the times at which training began and each epoch ended."""

    module: nn.Module
    marks: tuple[float, ...]

    @property
    def last_epoch(self) -> float:
        """The seconds that the last epoch took."""
        return self.marks[-1] - self.marks[-2]

    @property
    def setup(self) -> float:
        """The seconds by which the first epoch, counted from the call, took longer than the last one."""
        return self.marks[1] - self.marks[0] - self.last_epoch


def run(settings: Settings) -> Iterator[Table]:
    """Yield the table of training loops."""
    yield compare(untrained(settings.rows, settings.hidden, settings.device), settings.repeats)


def compare(problem: Problem, repeats: int) -> Table:
    """Time the epochs of each loop from the same initial weights, and check the loss that it reaches."""
    entries = [
        Entry("hesstore", partial(by_hesstore, problem)),
        Entry("original (DataLoader)", partial(by_loop, problem, _loader), max_rounds=SLOW_ROUNDS),
        Entry("original on tensors in memory", partial(by_loop, problem, original_method.ShuffledTensors)),
    ]
    timings = interleave(entries, repeats, device=problem.device)
    losses = [training_loss(problem, timing.result.module) for timing in timings]
    before = training_loss(problem, problem.module())
    steps = math.ceil(len(problem.y) / BATCH)
    rows = []
    for timing, loss in zip(timings, losses, strict=True):
        right = loss < before and abs(loss - losses[0]) <= LOSS_TOLERANCE * losses[0]
        rows.append(_row(timing, steps, loss, right=right))
    return Table(
        f"step: a training step at batch {BATCH}, {len(problem.y):,} rows",
        with_ratio(rows, "ms per step"),
        _notes(steps, before),
    )


def by_hesstore(problem: Problem) -> Trained:
    """Train with hesstore."""
    marks = [time.perf_counter()]
    found = fit(
        problem.model,
        problem.theta,
        problem.x,
        problem.y,
        l2=L2,
        settings=fit_settings(EPOCHS),
        rng=torch.Generator().manual_seed(0),
        on_epoch=lambda *_: marks.append(time.perf_counter()),
    )
    return Trained(problem.module(found.theta), tuple(marks))


def by_loop(problem: Problem, batches: Callable[[Problem], Batches]) -> Trained:
    """Train with the usual loop over ``batches(problem)``."""
    marks, module = [time.perf_counter()], problem.module()
    passes = batches(problem)
    original_method.train(module, passes, EPOCHS, on_epoch=lambda: marks.append(time.perf_counter()))
    return Trained(module, tuple(marks))


def _loader(problem: Problem) -> Batches:
    return original_method.loader(problem, shuffle=True)


def _row(timing: Timing[Trained], steps: int, loss: float, *, right: bool) -> Row:
    seconds = statistics.median(result.last_epoch for result in timing.results)
    return {
        "implementation": timing.name,
        "ms per step": seconds / steps * 1e3 if right else None,
        "set-up, ms": statistics.median(result.setup for result in timing.results) * 1e3,
        "rounds": len(timing.results),
        "loss after": loss,
        "result": "right" if right else "WRONG",
    }


def _notes(steps: int, before: float) -> list[str]:
    return [
        f"measured on the last of {EPOCHS} epochs of {steps:,} steps; the initial loss was {before:.3f}",
        "set-up: the additional time of the first epoch; hesstore traces the step once, and a sweep may reuse it",
        f"right: the loss fell, and is within {LOSS_TOLERANCE:.0%} of that of hesstore, which shuffles differently",
        "hesstore also sums the objective and keeps the best weights; the original reads the loss after each step",
    ]
