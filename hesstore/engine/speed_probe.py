"""A short probe of this machine's speed: a few training steps and Hessian products on the real data and network."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from hesstore.curvature import HessianOperator
    from hesstore.engine.experiment import Experiment
    from hesstore.training import Trainer

    Parts = dict[int, tuple[HessianOperator, float]]

STEPS_TOGETHER = 50
"""Number of training steps per measurement."""

FEW_STEPS = 5
"""Number of training steps to warm up, and in each of two first measurements, which are enough if steps take long."""

BUDGET = {"step": 0.1, "product": 0.15, "vector": 0.02}
"""Seconds for each part of the probe, in addition to one warm-up each if that is short.

The sweep uses what the warm-up traces. A product is measured on as many chunks of rows as can be prepared in a third of
its time, because a product takes longer than its preparation, and on at least one.
"""

BASIS_SIZE, BASIS_ENTRIES = 32, 2**24
"""Maximum numbers of vectors, and of their entries, against which one vector is orthogonalised in the probe."""


@dataclass(frozen=True)
class Rates:
    """The seconds that each step of the work takes, for one model.

    Attributes
    ----------
    step : float
        One training step.
    product : float
        One Hessian product.
    vector : float
        One pass over one Lanczos vector, to orthogonalise another one against it.
    """

    step: float
    product: float
    vector: float


def measure_rates(experiment: Experiment, fits: int, analyses: int, parts: Parts | None = None) -> Rates:
    """Measure the rates at the initial weights, with as many models side by side as the sweep will use.

    No random number is drawn. The programs that are traced stay with the experiment, and so do the rates: the choice of
    the number of threads measures what the plan needs.

    Parameters
    ----------
    experiment : Experiment
        The experiment.
    fits, analyses : int
        The number of fits and of analyses side by side. Without fits, ``step`` is 0; without analyses, the others are.
    parts : dict, optional
        Keeps what is prepared for a product, for another measurement with the same number of analyses.
    """
    key = torch.get_num_threads(), fits, analyses
    if key not in experiment.rates:
        experiment.rates[key] = _measure(experiment, fits, analyses, {} if parts is None else parts)
    return experiment.rates[key]


def _measure(experiment: Experiment, fits: int, analyses: int, parts: Parts) -> Rates:
    theta = experiment.model.theta()
    step = 0.0
    if fits:
        step = _step_seconds(experiment.trainer(fits)) / fits
    if not analyses:
        return Rates(step, 0.0, 0.0)
    stacked = theta if analyses == 1 else theta.repeat(analyses, 1)
    if analyses not in parts:
        parts[analyses] = experiment.hessian.part_at(
            stacked, cache_bytes=experiment.sizes.cache_bytes, seconds=BUDGET["product"] / 3
        )
    operator, share = parts[analyses]
    v = torch.full_like(stacked, theta.numel() ** -0.5)
    vectors = max(1, min(BASIS_SIZE, BASIS_ENTRIES // theta.numel()))
    basis = theta.new_full((vectors, theta.numel()), theta.numel() ** -0.5)
    seconds = partial(_operation_seconds, device=theta.device)
    # .item() waits for the device.
    return Rates(
        step=step,
        product=seconds(lambda: operator.matvec(v).sum().item(), BUDGET["product"]) / share / analyses,
        vector=seconds(lambda: (basis.T @ (basis @ basis[0])).sum().item(), BUDGET["vector"]) / vectors,
    )


def _step_seconds(trainer: Trainer) -> float:
    """The mean seconds of a training step. Where threads wait for each other, one may take a tenth of a second.

    The shorter of two measurements counts, because other processes may have held up one of them.
    """
    if trainer.x.device.type == "cpu":
        trainer.take_steps(FEW_STEPS)
        first = min(_seconds(lambda: trainer.take_steps(FEW_STEPS)) for _ in range(2))
        if first > BUDGET["step"]:
            return first / FEW_STEPS
    else:
        trainer.take_steps(STEPS_TOGETHER)
    return _mean_seconds(lambda: trainer.take_steps(STEPS_TOGETHER), BUDGET["step"]) / STEPS_TOGETHER


def _operation_seconds(run: Callable[[], object], budget: float, device: torch.device) -> float:
    """The mean seconds of ``run``. If its first call takes long on a CPU, little of that time is warming up."""
    first = _seconds(run)
    return first if device.type == "cpu" and first > budget else _mean_seconds(run, budget)


def _seconds(run: Callable[[], object]) -> float:
    """The seconds that ``run`` takes once."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def _mean_seconds(run: Callable[[], object], budget: float) -> float:
    """The mean seconds of ``run`` over about ``budget`` seconds."""
    began, count, took = time.perf_counter(), 0, 0.0
    while not count or took < budget:
        run()
        count, took = count + 1, time.perf_counter() - began
    return took / count
