"""A training step at batch 64: an epoch over the training set, divided by its steps."""

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

from tests.benchmarks import original
from tests.benchmarks.accuracy import training_loss
from tests.benchmarks.contestants import SLOW_TIMINGS
from tests.benchmarks.problem import BATCH, L2, Problem, fit_settings, untrained
from tests.benchmarks.report import Table, with_ratio
from tests.benchmarks.timing import Entry, Timing, interleave
from tests.support.training import fit

if TYPE_CHECKING:
    from tests.benchmarks.original import Batches
    from tests.benchmarks.report import Row
    from tests.benchmarks.settings import Settings

EPOCHS = 2  # the first with whatever is set up once, the last without
LOSS_TOLERANCE = 0.25  # relative: contestants shuffle differently


@dataclass(frozen=True)
class Trained:
    """A network after its epochs, and when training began and each epoch ended."""

    module: nn.Module
    marks: tuple[float, ...]

    @property
    def last_epoch(self) -> float:
        """Seconds of the last epoch."""
        return self.marks[-1] - self.marks[-2]

    @property
    def setup(self) -> float:
        """Seconds by which the first epoch, from the call on, was longer."""
        return self.marks[1] - self.marks[0] - self.last_epoch


def run(settings: Settings) -> Iterator[Table]:
    """The table of training loops."""
    yield compare(untrained(settings.rows, settings.hidden, settings.device), settings.repeats)


def compare(problem: Problem, repeats: int) -> Table:
    """Time the epochs of each loop from the same initial weights, and check the loss that they reach."""
    entries = [
        Entry("hesstore", partial(by_hesstore, problem)),
        Entry("original (DataLoader)", partial(by_loop, problem, _loader), most=SLOW_TIMINGS),
        Entry("original on tensors in memory", partial(by_loop, problem, original.ShuffledTensors)),
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
        with_ratio(rows, "ms a step"),
        _notes(steps, before),
    )


def by_hesstore(problem: Problem) -> Trained:
    """hesstore's training."""
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
    """The usual loop over ``batches(problem)``."""
    marks, module = [time.perf_counter()], problem.module()
    passes = batches(problem)
    original.train(module, passes, EPOCHS, on_epoch=lambda: marks.append(time.perf_counter()))
    return Trained(module, tuple(marks))


def _loader(problem: Problem) -> Batches:
    return original.loader(problem, shuffle=True)


def _row(timing: Timing[Trained], steps: int, loss: float, *, right: bool) -> Row:
    seconds = statistics.median(result.last_epoch for result in timing.results)
    return {
        "contestant": timing.name,
        "ms a step": seconds / steps * 1e3 if right else None,
        "set-up, ms": statistics.median(result.setup for result in timing.results) * 1e3,
        "times": len(timing.results),
        "loss after": loss,
        "result": "right" if right else "WRONG",
    }


def _notes(steps: int, before: float) -> list[str]:
    return [
        f"the last of {EPOCHS} epochs of {steps:,} steps; the loss was {before:.3f} at the initial weights",
        "set-up: by how much the first epoch was longer; hesstore traces the step once, and a sweep may keep it",
        f"right: the loss fell, and is within {LOSS_TOLERANCE:.0%} of hesstore's; each shuffles in its own way",
        "hesstore also sums the objective and keeps the best weights; the original waits for each step's loss",
    ]
