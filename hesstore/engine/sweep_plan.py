"""The plan of a sweep: an estimate of its work, time, disk space and memory, made before its first grid point.

The time is estimated from complete grid points of the store if this machine computed them, otherwise from a short
probe (:mod:`hesstore.engine.speed_probe`). Nobody knows beforehand how many epochs and Hessian products a grid point
needs, so most estimates are ranges.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from hesstore.config import fingerprint
from hesstore.curvature.exact_trace import MAX_HIDDEN_LAYERS
from hesstore.engine import environment, speed_probe, work_sizes
from hesstore.engine.devices import free_memory
from hesstore.measure.class_geometry import probes_used
from hesstore.measure.layer_blocks import PROBES as BLOCK_PROBES
from hesstore.store.schema import Status

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from hesstore.config import SweepConfig
    from hesstore.engine.experiment import Experiment
    from hesstore.engine.speed_probe import Rates
    from hesstore.store.places.place import Place
    from hesstore.store.schema import Run
    from hesstore.store.writing import SweepStore

    Statuses = Mapping[Run, NDArray[np.int8]]

ENOUGH_POINTS = 3
"""Number of complete grid points from which estimates are based on them rather than on assumptions."""

LEAST_SHARE = 0.6
"""The smallest share of a grid point's arrays that compression leaves (measured: 0.64 to 0.98)."""

_MACHINE = ("device", "threads", "machine")
"""The groups of the recorded environment that must equal the current ones for recorded seconds to apply here."""


@dataclass(frozen=True)
class Span:
    """An estimated range.

    Attributes
    ----------
    least, most : float
        Its lower and upper end.
    """

    least: float
    most: float

    def __mul__(self, count: float) -> Span:
        """The estimate for ``count`` items, if this one is for a single item."""
        return Span(self.least * count, self.most * count)

    def __add__(self, other: Span | float) -> Span:
        """The estimate for the sum of two quantities."""
        other = other if isinstance(other, Span) else Span(other, other)
        return Span(self.least + other.least, self.most + other.most)


@dataclass(frozen=True, kw_only=True)
class SweepPlan:
    """The estimated work, time, disk space and memory of a sweep.

    Attributes
    ----------
    store : str, optional
        The location of the store, if it was given.
    fingerprint : str
        The fingerprint of the identity, as the store records it.
    device, threads : str, int
        The device on which the work is done, and PyTorch's number of threads.
    threads_reason : str
        The reason for this number of threads if it is not PyTorch's own one; otherwise empty.
    train_rows, test_rows, parameters, k : int
        The size of the problem.
    together : int
        The number of grid points that are computed side by side.
    total, complete, failed : int
        The number of grid points of the selected runs, and how many of them are complete and failed.
    unfinished : int
        The number of grid points that are neither complete nor failed.
    fits, analyses : int
        The number of grid points that are still to be fitted, and to be analysed: none if k is 0.
    epochs : Span
        Epochs of one fit.
    products : Span
        Hessian products of all analyses. The class geometry, the trace and the density count as the number of products
        that take as long.
    seconds : Span, optional
        The time for all remaining work; None if it can't be estimated.
    basis : str
        How ``seconds`` was estimated.
    disk_now, disk_end, disk_free : int, Span, int, optional
        Bytes of the store now and at the end, and free bytes of the file system; the last is None if the space is
        unlimited or unknown.
    memory_least, memory_cache, memory_free : int
        Bytes that fits and spectra hold at least, that cached activations may take, and that are free.
    """

    store: str | None
    fingerprint: str
    device: str
    threads: int
    threads_reason: str
    train_rows: int
    test_rows: int
    parameters: int
    k: int
    together: int
    total: int
    complete: int
    failed: int
    unfinished: int
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
    """The effort that complete grid points of a store took, one entry per grid point.

    Attributes
    ----------
    epochs, products, fit_seconds, analysis_seconds : ndarray
        (n,) as recorded.
    machine : mapping
        The environment in which the store was made.
    """

    epochs: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    products: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    fit_seconds: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    analysis_seconds: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    machine: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, store: SweepStore, runs: Sequence[Run]) -> Effort:
        """The effort of the complete grid points of ``runs``."""
        complete = [store.status(run) == Status.COMPLETE for run in runs]

        def values(name: str) -> NDArray[np.float64]:
            rows = [store.entries(name, run)[at] for run, at in zip(runs, complete, strict=True)]
            return np.concatenate(rows).astype(np.float64)

        epochs, machine = values("epochs"), json.loads(str(store.group.attrs["environment"]))
        products, analysis_seconds = (
            values(name) if store.identity["k"] else np.zeros_like(epochs) for name in ("matvecs", "analysis_seconds")
        )
        return cls(epochs, products, values("fit_seconds"), analysis_seconds, machine)

    def __len__(self) -> int:
        return len(self.epochs)

    def is_of(self, device: torch.device) -> bool:
        """Whether the store was made on this machine and ``device``, judged by the recorded environment."""
        here = environment.describe(device)
        return all(self.machine.get(name) == here.get(name) for name in _MACHINE)


def plan(
    experiment: Experiment,
    statuses: Statuses,
    *,
    place: Place | None = None,
    is_new: bool = False,
    effort: Effort | None = None,
    threads_reason: str = "",
    probing: bool = True,
) -> SweepPlan:
    """Estimate what the unfinished grid points will take.

    Parameters
    ----------
    experiment : Experiment
        The experiment. The programs that the probe traces stay with it; no random number is drawn.
    statuses : mapping of Run to ndarray
        (L,) the status of each grid point of the runs that are to be computed.
    place : Place, optional
        The place where the store lies or will lie.
    is_new : bool
        Whether the store is made there, or replaces another one.
    effort : Effort, optional
        The effort of its complete grid points.
    threads_reason : str
        The reason for the current number of threads, for the plan.
    probing : bool
        Whether the probe may run if ``effort`` is not sufficient. It does not run if nothing is left to do.
    """
    status = np.stack(list(statuses.values()))
    unfinished = int((status < Status.COMPLETE).sum())
    analyses = unfinished if experiment.config.k else 0
    estimate = _estimate(experiment, statuses, effort or Effort(), probing=probing)
    data, parameters = experiment.data, experiment.model.layout.size
    together = min(experiment.sizes.models, status.size)
    now = 0 if place is None or is_new else place.size() or 0
    return SweepPlan(
        store=None if place is None else str(place),
        fingerprint=fingerprint(experiment.identity()),
        device=_device_name(experiment),
        threads=torch.get_num_threads(),
        threads_reason=threads_reason,
        train_rows=len(data.train.y),
        test_rows=len(data.test.y),
        parameters=parameters,
        k=experiment.config.k,
        together=together,
        total=status.size,
        complete=int((status == Status.COMPLETE).sum()),
        failed=int((status == Status.FAILED).sum()),
        unfinished=unfinished,
        fits=_fits(experiment, status),
        analyses=analyses,
        epochs=estimate.epochs,
        products=(estimate.products + further_products(experiment)) * analyses,
        seconds=estimate.seconds,
        basis=estimate.basis,
        disk_now=now,
        disk_end=Span(LEAST_SHARE, 1) * (experiment.spec().large_bytes * unfinished) + now,
        disk_free=None if place is None else place.free_space(),
        memory_least=work_sizes.least_bytes(parameters, experiment.config.pairs, data.train.x.dtype.itemsize, together),
        memory_cache=int(experiment.sizes.cache_bytes),
        memory_free=free_memory(experiment.device),
    )


def _device_name(experiment: Experiment) -> str:
    """The device with the name of its processor, such as ``cpu (AMD EPYC 9B14)`` or ``cuda (NVIDIA H100)``."""
    found: dict[str, Any] = {**experiment.environment}
    name = found["device"].get("gpu") or found["machine"]["cpu"].partition(",")[0]
    return f"{experiment.device} ({name})"


class _Estimate(NamedTuple):
    """Epochs of a fit, products of a spectrum, seconds of all remaining work, and how these were estimated."""

    epochs: Span
    products: Span
    seconds: Span | None
    basis: str


def _estimate(experiment: Experiment, statuses: Statuses, effort: Effort, *, probing: bool) -> _Estimate:
    config = experiment.config
    status = np.stack(list(statuses.values()))
    fits, unfinished = _fits(experiment, status), int((status < Status.COMPLETE).sum())
    analyses = unfinished if config.k else 0
    known = len(effort) >= ENOUGH_POINTS
    epochs = _quartiles(effort.epochs) if known else Span(min(config.patience + 1, config.epochs), config.epochs)
    products = _quartiles(effort.products) if known else spectrum_products(config)
    if not unfinished:
        return _Estimate(epochs, products, Span(0, 0), "nothing is left to do")
    if known and effort.is_of(experiment.device):
        parts = _quartiles(effort.fit_seconds) * fits, _quartiles(effort.analysis_seconds) * analyses
        seconds = _combined(experiment, *parts)
        basis = f"from {len(effort)} complete grid points"
        basis += "" if experiment.is_side_by_side else ", one after the other"
        return _Estimate(epochs, products, seconds, basis)
    if not probing:
        return _Estimate(epochs, products, None, "time not measured: it is known after the first grid points")
    try:
        rates = speed_probe.measure_rates(experiment, *_stack_sizes(experiment, statuses))
    except torch.OutOfMemoryError:  # the sweep continues with smaller sizes
        return _Estimate(epochs, products, None, f"time not measured: {experiment.device} ran out of memory")
    analysis = _analysis_seconds(products, further_products(experiment), rates)
    seconds = _combined(experiment, _fit_seconds(experiment, epochs, rates) * fits, analysis * analyses)
    measured = [f"{_brief(rates.step)} per training step"] if fits else []
    measured += [f"{_brief(rates.product)} per product"] if analyses or config.polish else []
    basis = f"measured here: {', '.join(measured)}"
    counts = f"; counts from {len(effort)} complete grid points" if known else ""
    return _Estimate(epochs, products, seconds, basis + counts)


def _fits(experiment: Experiment, status: NDArray[np.int8]) -> int:
    """The number of fits that are left; reading a checkpoint instead takes no time worth a plan."""
    return 0 if experiment.collection is not None else int((status == Status.PENDING).sum())


def _combined(experiment: Experiment, fits: Span, analyses: Span) -> Span:
    """The time for fits and analyses: the longer one if they run side by side, otherwise the sum."""
    if experiment.is_side_by_side:
        return Span(max(fits.least, analyses.least), max(fits.most, analyses.most))
    return fits + analyses


def point_seconds(experiment: Experiment, rates: Rates) -> Span:
    """The time for one grid point of a new store: its fit and, unless k is 0, its analysis."""
    config = experiment.config
    fit = _fit_seconds(experiment, Span(min(config.patience + 1, config.epochs), config.epochs), rates)
    return fit + _analysis_seconds(spectrum_products(config), further_products(experiment), rates) if config.k else fit


def _fit_seconds(experiment: Experiment, epochs: Span, rates: Rates) -> Span:
    """The time for one fit. An iteration of polishing takes at most about as long as three products."""
    training = epochs * (math.ceil(len(experiment.data.train.y) / experiment.config.batch_size) * rates.step)
    return training + Span(0, 3.0 * experiment.config.polish * rates.product)


def spectrum_products(config: SweepConfig) -> Span:
    """The mean number of Hessian products for one spectrum of a sweep.

    For k = 30, a spectrum with distinct eigenvalues takes about 145. The bound on further ones takes 35 of these, and
    nearly as many for a small k: the top 5 take 22 to 26 along the quickstart, and 60 with ResNet-18.
    Along the quickstart, where eigenvalues have near-exact copies, spectra take 97 to 348, and 179 on average. The
    lowest eigenpair takes at most a fifth more. Several of them have no such limit: 10 take up to about 300.
    """
    outermost = Span(15 + 3 * config.k, 30 + 7 * config.k)
    further = 30.0 * config.lowest if config.lowest > 1 else 0.2 * outermost.most * config.lowest
    lowest = Span(0, further)
    both = outermost + lowest
    return Span(min(both.least, config.max_matvecs), min(both.most, config.max_matvecs))


def geometry_products(config: SweepConfig) -> float:
    """The number of products that take as long as the class geometry, trace and density of one grid point.

    ``python -m tests.benchmarks geometry`` measures the factors.
    """
    directions = 0.55 * config.k
    responses = 0.4 * config.k if config.response else 0.0
    has_exact_trace = (config.model, config.loss, config.operator) == ("mlp", "cross_entropy", "hessian") and (
        len(config.hidden) <= MAX_HIDDEN_LAYERS
    )
    trace = probes_used(config, exact_trace=has_exact_trace) + 1.5 + 2 * has_exact_trace if config.probes else 0.0
    density = config.density_probes * config.density_steps if config.density else 0
    gradients = 1.6
    return directions + responses + trace + density + gradients


def further_products(experiment: Experiment) -> float:
    """The number of products that take as long as everything of an analysis but the spectrum."""
    config = experiment.config
    return geometry_products(config) + block_products(config, len(experiment.geometry.rows_of_layers))


def block_products(config: SweepConfig, layers: int) -> float:
    """The number of Hessian products for the diagonal blocks of one grid point.

    A spectrum of three eigenvalues takes 10 to 40, most of them for its bound.
    """
    return layers * (8.0 * config.block_k + BLOCK_PROBES) if config.blocks != "none" else 0.0


def _analysis_seconds(products: Span, geometry: float, rates: Rates) -> Span:
    """Seconds of one analysis. A product is orthogonalised against half of all Lanczos vectors on average."""
    spectra = (count * (rates.product + rates.vector * count / 2) for count in (products.least, products.most))
    return Span(*spectra) + geometry * rates.product


def _stack_sizes(experiment: Experiment, statuses: Statuses) -> tuple[int, int]:
    """The number of fits, and of analyses, that are computed side by side."""
    most = experiment.sizes.models
    pending = [int((status == Status.PENDING).sum()) for status in statuses.values()]
    ready = sum(pending) if experiment.config.path == "independent" else sum(count > 0 for count in pending)
    left = sum(int((status < Status.COMPLETE).sum()) for status in statuses.values())
    fits = 0 if experiment.collection is not None else min(most, ready)
    return fits, min(most, left) if experiment.config.k else int(experiment.config.polish > 0)


def _quartiles(values: NDArray[np.float64]) -> Span:
    least, most = np.quantile(values, (0.25, 0.75))
    return Span(float(least), float(most))


def _brief(seconds: float) -> str:
    """The seconds with a unit, such as ``0.42 ms``, ``19 ms`` or ``0.13 s``."""
    return f"{seconds:.2g} s" if seconds >= 0.1 else f"{seconds * 1e3:.2g} ms"
