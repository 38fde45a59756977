"""What a sweep will take, before its first λ: work, time, disk and memory.

Time comes from what λ of the store have taken on this machine, or else from a probe: a few training steps and Hessian
products on the real data and network. How many epochs and products a λ needs nobody knows beforehand, so most answers
are spans.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from hesstore.config import fingerprint
from hesstore.engine import environment, work_sizes
from hesstore.engine.devices import free_memory
from hesstore.store.schema import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from hesstore.config import SweepConfig
    from hesstore.engine.experiment import Experiment
    from hesstore.store.places.base import Place
    from hesstore.store.schema import Run
    from hesstore.store.writing import SweepStore

ENOUGH = 3
"""Complete λ whose effort is preferred to what is assumed."""

STEPS_AT_ONCE = 50
BUDGET = {"step": 0.4, "product": 0.8, "vector": 0.1}
"""Seconds of the probe for each of its parts, beside one warm-up of each, which traces programs that the sweep uses."""

SHRUNK = 0.6
"""What compression leaves of a λ's arrays at the least (measured: 0.64 to 0.98)."""

_MACHINE = ("device", "threads", "machine")
"""What must agree, of the recorded environment and this one, for recorded seconds to be those of this machine."""


@dataclass(frozen=True)
class Span:
    """What something is at the least and at the most, as far as can be told."""

    least: float
    most: float

    def __mul__(self, count: float) -> Span:
        """Of ``count`` such things."""
        return Span(self.least * count, self.most * count)

    def __add__(self, other: Span | float) -> Span:
        """Of both."""
        other = other if isinstance(other, Span) else Span(other, other)
        return Span(self.least + other.least, self.most + other.most)


@dataclass(frozen=True, kw_only=True)
class SweepPlan:
    """What a sweep will take.

    Attributes
    ----------
    store : str, optional
        Where it goes, if that was said.
    fingerprint : str
        Of config, data and network, as the store has it.
    device, threads : str, int
        Where the work is done.
    train_rows, test_rows, parameters, k : int
        Sizes of the problem.
    together : int
        λ that are worked on side by side.
    total, complete, failed : int
        λ of the runs asked for, and how many are finished.
    fits, analyses : int
        λ that are to be trained, and to be analysed.
    epochs : Span
        Epochs of one fit.
    products : Span
        Hessian products of all analyses, class geometry and its kin counted as products that take as long.
    seconds : Span, optional
        For all that is left; None where nothing tells.
    basis : str
        What ``seconds`` comes from.
    disk_now, disk_end, disk_free : int, Span, int, optional
        Bytes of the store now and at the end; what the file system has free, where that is a question.
    memory_least, memory_cache, memory_free : int
        Bytes that fits and spectra hold at the least, that cached activations may take, and that are free.
    """

    store: str | None
    fingerprint: str
    device: str
    threads: int
    train_rows: int
    test_rows: int
    parameters: int
    k: int
    together: int
    total: int
    complete: int
    failed: int
    fits: int
    analyses: int
    epochs: Span
    products: Span
    seconds: Span | None
    basis: str
    disk_now: int
    disk_end: Span
    disk_free: int | None
    memory_least: int
    memory_cache: int
    memory_free: int


@dataclass(frozen=True)
class Effort:
    """What complete λ of a store took, an entry each.

    Attributes
    ----------
    epochs, products, fit_seconds, analysis_seconds : ndarray
        (n,) as recorded.
    machine : mapping
        The environment that the store was made in.
    """

    epochs: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    products: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    fit_seconds: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    analysis_seconds: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    machine: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, store: SweepStore, runs: Sequence[Run], machine: Mapping[str, Any]) -> Effort:
        """Of the complete λ of ``runs``."""
        done = [store.status(run) == Status.COMPLETE for run in runs]

        def values(name: str) -> NDArray[np.float64]:
            rows = [store.entries(name, run)[at] for run, at in zip(runs, done, strict=True)]
            return np.concatenate(rows).astype(np.float64)

        epochs, products = values("epochs"), values("matvecs")
        return cls(epochs, products, values("fit_seconds"), values("analysis_seconds"), machine)

    def __len__(self) -> int:
        return len(self.epochs)

    def is_of(self, device: torch.device) -> bool:
        """Whether the store was made on this machine and ``device``, as far as its record tells."""
        here = environment.describe(device)
        return all(self.machine.get(name) == here.get(name) for name in _MACHINE)


@dataclass(frozen=True)
class Rates:
    """Seconds of one λ's share of a training step, of a Hessian product, and of a pass over one Lanczos vector."""

    step: float
    product: float
    vector: float


def plan(
    experiment: Experiment,
    statuses: Mapping[Run, NDArray[np.int8]],
    *,
    place: Place | None = None,
    effort: Effort | None = None,
    probing: bool = True,
) -> SweepPlan:
    """The plan of the λ that are not finished.

    Parameters
    ----------
    experiment : Experiment
        What the λ share. What the probe traces stays with it; no random number is drawn.
    statuses : mapping of Run to ndarray
        (L,) the status of each λ of the runs that are to be computed.
    place : Place, optional
        Where the store is, or will be.
    effort : Effort, optional
        What its complete λ took.
    probing : bool
        Whether the probe may run, where ``effort`` does not tell. It does not if nothing is left to do.
    """
    at = np.stack(list(statuses.values()))
    analyses = int((at < Status.COMPLETE).sum())
    estimate = _estimate(experiment, statuses, effort or Effort(), probing=probing)
    data, parameters, together = experiment.data, experiment.model.layout.size, min(experiment.sizes.models, at.size)
    now = 0 if place is None or place.is_new() else place.size()
    return SweepPlan(
        store=None if place is None else str(place),
        fingerprint=fingerprint(experiment.identity()),
        device=_device_name(experiment),
        threads=torch.get_num_threads(),
        train_rows=len(data.train.y),
        test_rows=len(data.test.y),
        parameters=parameters,
        k=experiment.config.k,
        together=together,
        total=at.size,
        complete=int((at == Status.COMPLETE).sum()),
        failed=int((at == Status.FAILED).sum()),
        fits=int((at == Status.PENDING).sum()),
        analyses=analyses,
        epochs=estimate.epochs,
        products=(estimate.products + geometry_products(experiment.config)) * analyses,
        seconds=estimate.seconds,
        basis=estimate.basis,
        disk_now=now,
        disk_end=Span(SHRUNK, 1) * (experiment.spec().large_bytes * analyses) + now,
        disk_free=None if place is None else place.free_space(),
        memory_least=work_sizes.least_bytes(parameters, experiment.config.k, data.train.x.dtype.itemsize, together),
        memory_cache=int(experiment.sizes.cache_bytes),
        memory_free=free_memory(experiment.device),
    )


def _device_name(experiment: Experiment) -> str:
    """``cpu (AMD EPYC 9B14)``, ``cuda (NVIDIA H100)``."""
    found: dict[str, Any] = {**experiment.environment}
    name = found["device"].get("gpu") or found["machine"]["cpu"].partition(",")[0]
    return f"{experiment.device} ({name})"


class _Estimate(NamedTuple):
    """Epochs of a fit, products of a spectrum, seconds of all that is left, and what they come from."""

    epochs: Span
    products: Span
    seconds: Span | None
    basis: str


def _estimate(
    experiment: Experiment, statuses: Mapping[Run, NDArray[np.int8]], effort: Effort, *, probing: bool
) -> _Estimate:
    config = experiment.config
    left = np.stack(list(statuses.values()))
    fits, analyses = int((left == Status.PENDING).sum()), int((left < Status.COMPLETE).sum())
    known = len(effort) >= ENOUGH
    epochs = _quartiles(effort.epochs) if known else Span(min(config.patience + 1, config.epochs), config.epochs)
    products = _quartiles(effort.products) if known else spectrum_products(config)
    if not analyses:
        return _Estimate(epochs, products, Span(0, 0), "nothing is left to do")
    if known and effort.is_of(experiment.device):
        seconds = _quartiles(effort.fit_seconds) * fits + _quartiles(effort.analysis_seconds) * analyses
        return _Estimate(epochs, products, seconds, f"as {len(effort)} λ of the store took, one after the other")
    if not probing:
        return _Estimate(epochs, products, None, "time not measured: the first λ will tell")
    rates = probe(experiment, *_widths(experiment, statuses))
    an_epoch = math.ceil(len(experiment.data.train.y) / config.batch_size) * rates.step
    seconds = epochs * (an_epoch * fits) + _analysis(products, geometry_products(config), rates) * analyses
    basis = f"measured here: {_brief(rates.step)} a training step, {_brief(rates.product)} a product"
    return _Estimate(epochs, products, seconds, f"{basis}; as many as {len(effort)} λ had" if known else basis)


def spectrum_products(config: SweepConfig) -> Span:
    """Hessian products of one spectrum, on the mean over a sweep.

    105 at the least for k = 30 (distinct eigenvalues), and 72 to 497, on the mean 280, along the quickstart, where
    eigenvalues come in copies.
    """
    least, most = 2.5 * config.k + 30, 10 * config.k + 60
    return Span(min(least, config.max_matvecs), min(most, config.max_matvecs))


def geometry_products(config: SweepConfig) -> float:
    """How many products take as long as the class geometry, the trace and the density of one λ (README, Speed)."""
    along = 0.65 * config.k
    responses = 0.87 * config.k if config.response else 0.0
    trace = config.probes + 0.5 if config.probes else 0.0
    density = config.density_probes * config.density_steps if config.density else 0
    return along + responses + trace + density + 1.6  # the last: gradients by class


def _analysis(products: Span, geometry: float, rates: Rates) -> Span:
    """Seconds of one λ; half of the Lanczos vectors are there on the mean."""
    spectra = (count * (rates.product + rates.vector * count / 2) for count in (products.least, products.most))
    return Span(*spectra) + geometry * rates.product


def _widths(experiment: Experiment, statuses: Mapping[Run, NDArray[np.int8]]) -> tuple[int, int]:
    """Fits, and analyses, that go side by side."""
    most = experiment.sizes.models
    pending = [int((status == Status.PENDING).sum()) for status in statuses.values()]
    ready = sum(pending) if experiment.config.path == "independent" else sum(count > 0 for count in pending)
    left = sum(int((status < Status.COMPLETE).sum()) for status in statuses.values())
    return min(most, ready), min(most, left)


def probe(experiment: Experiment, fits: int, analyses: int) -> Rates:
    """Time some training steps of ``fits`` models and Hessian products of ``analyses`` (0: none) at initial weights."""
    theta = experiment.model.theta()
    step = 0.0
    if fits:
        trainer = experiment.trainer(fits)
        step = _mean_seconds(lambda: trainer.take_steps(STEPS_AT_ONCE), BUDGET["step"]) / STEPS_AT_ONCE / fits
    hessian, cache = experiment.hessian, experiment.sizes.cache_bytes
    stacked = theta.repeat(analyses, 1)
    operator = hessian.at(theta, cache_bytes=cache) if analyses == 1 else hessian.at_each(stacked, cache_bytes=cache)
    v = torch.full_like(operator.theta, theta.numel() ** -0.5)
    basis = theta.new_full((32, theta.numel()), theta.numel() ** -0.5)
    return Rates(
        step=step,
        product=_mean_seconds(lambda: operator.matvec(v).sum().item(), BUDGET["product"]) / analyses,
        vector=_mean_seconds(lambda: (basis.T @ (basis @ basis[0])).sum().item(), BUDGET["vector"]) / len(basis),
    )


def _mean_seconds(run: Callable[[], object], budget: float) -> float:
    """Seconds of a ``run`` that waits for the device: the mean over about ``budget`` seconds, after one to warm up."""
    run()
    began, count, took = time.perf_counter(), 0, 0.0
    while not count or took < budget:
        run()
        count, took = count + 1, time.perf_counter() - began
    return took / count


def _quartiles(values: NDArray[np.float64]) -> Span:
    least, most = np.quantile(values, (0.25, 0.75))
    return Span(float(least), float(most))


def _brief(seconds: float) -> str:
    """``0.42 ms``, ``19 ms``, ``0.13 s``."""
    return f"{seconds:.2g} s" if seconds >= 0.1 else f"{seconds * 1e3:.2g} ms"
