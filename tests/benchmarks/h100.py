"""Part ``h100``: a model of a sweep on one NVIDIA H100. It is a PREDICTION; nothing here was measured on a GPU.

The model counts operations, bytes to and from memory, and kernel launches. A piece of work takes

    launches · (seconds per launch)  +  max(operations / achieved rate, bytes / achieved bandwidth).

With G stacked models, operations and bytes grow G-fold. The number of launches of a training step stays the same. That
of a Hessian product grows with the number of row chunks into which the stack is cut. That of the other Lanczos work
grows G-fold, because each model has its own Lanczos vectors. A continuation fits one grid point after the other, so its
fits have G = 1. Its analyses can be stacked, as can all work of independent grid points. The model assumes that storing
overlaps with all other work, and that nothing else overlaps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from tests.benchmarks.h100_assumptions import Assumptions, Workload
from tests.benchmarks.operation_counts import gradient_flop, hvp_flop, num_parameters
from tests.benchmarks.result_tables import Table

if TYPE_CHECKING:
    from tests.benchmarks.benchmark_settings import Settings
    from tests.benchmarks.result_tables import Row

WARNING = "PREDICTION, NOTHING HERE WAS MEASURED ON A GPU"
GOAL_SECONDS = 360
FLOAT = 4  # bytes


@dataclass(frozen=True)
class Cost:
    """The operations, bytes and launches on the device, and the seconds on the host that do not overlap with them."""

    flop: float
    bytes: float
    launches: float
    host_seconds: float = 0.0

    def seconds(self, assumptions: Assumptions, launch: float) -> float:
        """Return the predicted time with ``launch`` seconds per launch."""
        work = max(self.flop / assumptions.flop_rate, self.bytes / assumptions.bandwidth)
        return self.launches * launch + work + self.host_seconds


def step_cost(work: Workload, a: Assumptions, models: int) -> Cost:
    """Return the cost of one training step of ``models`` stacked models, each with its own batch."""
    batch = work.batch * (a.input_accesses * work.widths[0] + a.unit_accesses * work.units)
    values = a.parameter_accesses * num_parameters(work.widths) + batch
    return Cost(models * gradient_flop(work.widths, work.batch), models * FLOAT * values, a.step_kernels)


def product_cost(work: Workload, a: Assumptions, models: int) -> Cost:
    """Return the cost of one Hessian product for each model.

    The inputs are read twice: in the forward pass, and for the tangent of the gradient.
    """
    values = work.rows * (2 * work.widths[0] + a.unit_accesses * work.units)
    chunks = math.ceil(work.rows / max(1, a.rows_at_once // models))
    return Cost(models * hvp_flop(work.widths, work.rows), models * FLOAT * values, chunks * a.product_kernels)


def passes_cost(work: Workload, a: Assumptions, models: int) -> Cost:
    """Return the cost of the other passes over the data: the gradient, the cached primal pass and the metrics."""
    seen = work.rows + work.test_rows
    forward = 2 * seen * sum(map(math.prod, zip(work.widths, work.widths[1:], strict=False)))
    flop = 2 * gradient_flop(work.widths, work.rows) + forward
    rows_read = 2 * work.rows + seen
    values = rows_read * (2 * work.widths[0] + a.unit_accesses * work.units)
    return Cost(models * flop, models * FLOAT * values, 3 * a.step_kernels)


def lanczos_cost(work: Workload, a: Assumptions, models: int) -> Cost:
    """Return the cost of Lanczos without the products.

    It consists of reorthogonalisation, checks of T on the host, and Ritz vectors. Gram–Schmidt against m vectors of P
    values takes 4 m P operations and reads the vectors twice. V and A V are two matrix products (k, m)·(m, P).
    """
    p, m = num_parameters(work.widths), work.products
    against = a.gram_schmidt_passes * m * (m + 1) // 2
    flop = 4 * against * p + 2 * 2 * work.k * m * p
    values = 2 * against * p + 2 * (m + work.k) * p
    checks = math.ceil(m / a.check_interval) * a.check_seconds
    return Cost(models * flop, models * FLOAT * values, models * m * a.lanczos_kernels, models * checks)


@dataclass(frozen=True)
class Prediction:
    """The seconds of each phase for all grid points."""

    fit: float
    passes: float
    products: float
    lanczos: float
    storing: float

    @property
    def total(self) -> float:
        """The total: all phases in sequence, except that storing overlaps with the others."""
        return max(self.fit + self.passes + self.products + self.lanczos, self.storing)

    @property
    def dominant(self) -> str:
        """The name of the longest phase."""
        return max((field.name for field in fields(self)), key=lambda name: float(getattr(self, name)))


def predict(work: Workload, a: Assumptions, *, launch: float, fit_models: int, analysis_models: int) -> Prediction:
    """Predict the time of a sweep with ``fit_models`` stacked in fits and ``analysis_models`` in analyses."""

    def total(cost: Callable[[Workload, Assumptions, int], Cost], models: int) -> float:
        full, rest = divmod(work.grid_points, models)
        groups = [(full, models), (1, rest)] if rest else [(full, models)]
        return sum(count * cost(work, a, size).seconds(a, launch) for count, size in groups)

    return Prediction(
        fit=work.epochs * work.steps_per_epoch * total(step_cost, fit_models),
        passes=total(passes_cost, analysis_models),
        products=work.products * total(product_cost, analysis_models),
        lanczos=total(lanczos_cost, analysis_models),
        storing=work.grid_points * a.store_seconds,
    )


def resident_gib(work: Workload, a: Assumptions, models: int) -> float:
    """Return the GiB of the data and, for each stacked model, of cached primal values and Lanczos vectors.

    Each Lanczos vector is kept with its product.
    """
    primal = work.rows * a.cached_per_unit * work.units
    lanczos = 2 * work.products * num_parameters(work.widths)
    return FLOAT * (work.rows * work.widths[0] + models * (primal + lanczos)) / 2**30


STACKS = (("continuation", 1), ("continuation", 32), *(("independent", models) for models in (1, 8, 32, 64)))


def run(settings: Settings) -> Iterator[Table]:
    """Yield the assumptions, the cost of each piece of work, and the predicted time of the whole experiment."""
    assumptions = Assumptions()
    most = Workload(widths=(784, *settings.hidden, 10), k=settings.k)
    given = Workload(widths=most.widths, k=settings.k, epochs=settings.epochs)
    yield Table(f"h100: {WARNING}: assumptions", [*assumptions.described(), *most.described()])
    yield costs(most, assumptions)
    yield forecast(list(dict.fromkeys((most, given))), assumptions)


def costs(work: Workload, a: Assumptions) -> Table:
    """Return the cost of each piece of work, and how often a continuation does it."""
    steps = work.grid_points * work.epochs * work.steps_per_epoch
    pieces = [
        ("training step, G = 1", step_cost(work, a, 1), steps),
        ("training step, G = 32", step_cost(work, a, 32), math.ceil(steps / 32)),
        ("Hessian product", product_cost(work, a, 1), work.grid_points * work.products),
        ("gradient, primal pass, metrics", passes_cost(work, a, 1), work.grid_points),
        ("Lanczos without products", lanczos_cost(work, a, 1), work.grid_points),
    ]
    rows: list[Row] = [
        {
            "piece of work": name,
            "GFLOP": cost.flop / 1e9,
            "MB": cost.bytes / 1e6,
            "launches": cost.launches,
            "operations, µs": cost.flop / a.flop_rate * 1e6,
            "bytes, µs": cost.bytes / a.bandwidth * 1e6,
            "host, µs": cost.host_seconds * 1e6,
            "total eager, µs": cost.seconds(a, a.launch_eager) * 1e6,
            "total in a graph, µs": cost.seconds(a, a.launch_graph) * 1e6,
            "count": count,
        }
        for name, cost, count in pieces
    ]
    return Table(f"h100: {WARNING}: costs at {work.epochs} epochs", rows)


def forecast(workloads: list[Workload], a: Assumptions) -> Table:
    """Return the predicted time of the whole experiment for each path, kind of launch and stack size."""
    rows = [
        _row(work, a, path, name, launch, models)
        for work in workloads
        for path, models in STACKS
        for name, launch in (("eager", a.launch_eager), ("CUDA graph", a.launch_graph))
    ]
    points, data = workloads[0].grid_points, workloads[0].rows
    return Table(f"h100: {WARNING}: {points} grid points, {data:,} digits", rows, _notes(workloads[0], a))


def _row(work: Workload, a: Assumptions, path: str, launches: str, launch: float, models: int) -> Row:
    fit_models = models if path == "independent" else 1
    seconds = predict(work, a, launch=launch, fit_models=fit_models, analysis_models=models)
    groups = math.ceil(work.grid_points / fit_models)
    return {
        "path": path,
        "launches": launches,
        "G fit": fit_models,
        "G analysis": models,
        "epochs": work.epochs,
        "sequential steps": groups * work.epochs * work.steps_per_epoch,
        "fits, s": seconds.fit,
        "passes, s": seconds.passes,
        "products, s": seconds.products,
        "Lanczos, s": seconds.lanczos,
        "storing, s": seconds.storing,
        "total, min": seconds.total / 60,
        "longest phase": seconds.dominant,
        "GiB": resident_gib(work, a, models),
        "under 6 min": seconds.total < GOAL_SECONDS,
    }


def _notes(work: Workload, a: Assumptions) -> list[str]:
    chain = work.grid_points * work.epochs * work.steps_per_epoch
    launches = chain * a.step_kernels * a.launch_graph / 60
    chained = (
        f"a continuation of {work.epochs} epochs has {chain:,} sequential steps; their launches alone take "
        f"{launches:.1f} min at {a.launch_graph * 1e6:g} µs each, however fast the GPU computes"
    )
    limit = (
        f"with CUDA graphs and 32 stacked analyses, a continuation takes less than 6 min up to "
        f"{break_even_epochs(work, a):.1f} mean epochs per grid point"
    )
    return [
        chained,
        limit,
        "a stack of fits ends with its last model, so that early stopping saves less than for a single model",
        "the model does not include set-up, tracing, graph capture, data loading and export",
    ]


def break_even_epochs(work: Workload, a: Assumptions) -> float:
    """Return the mean epochs per grid point with which a continuation in CUDA graphs takes ``GOAL_SECONDS``."""
    seconds = predict(work, a, launch=a.launch_graph, fit_models=1, analysis_models=32)
    others = seconds.passes + seconds.products + seconds.lanczos
    return (GOAL_SECONDS - others) / (seconds.fit / work.epochs)
