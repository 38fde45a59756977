"""A model on paper of a sweep on one NVIDIA H100: a PREDICTION, nothing here was measured on a GPU.

Work is counted as operations, bytes to and from memory, and kernel launches. A piece of work takes

    launches · (time a launch)  +  max(operations / achieved rate, bytes / achieved bandwidth).

With G models stacked, operations and bytes grow G-fold. The launches of a training step stay; those of a product grow
with the chunks of rows that the stack is cut into; Lanczos vectors are each model's own, and so are their launches. A
continuation fits one λ after the other, so its fits have G = 1; its analyses, like all work of independent λ, can be
stacked. Storing goes on beside all else; no two other pieces are assumed to overlap.
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
    """Work on the device: operations, bytes, launches; and seconds on the host that nothing hides."""

    flop: float
    bytes: float
    launches: float
    host_seconds: float = 0.0

    def seconds(self, assumptions: Assumptions, launch: float) -> float:
        """Predicted time, with ``launch`` seconds a launch."""
        work = max(self.flop / assumptions.flop_rate, self.bytes / assumptions.bandwidth)
        return self.launches * launch + work + self.host_seconds


def step_cost(work: Workload, a: Assumptions, models: int) -> Cost:
    """One training step of ``models`` stacked models, each with its own batch."""
    batch = work.batch * (a.input_accesses * work.widths[0] + a.unit_accesses * work.units)
    values = a.parameter_accesses * num_parameters(work.widths) + batch
    return Cost(models * gradient_flop(work.widths, work.batch), models * FLOAT * values, a.step_kernels)


def product_cost(work: Workload, a: Assumptions, models: int) -> Cost:
    """One Hessian-vector product each; the inputs are read twice: forward, and for the gradient's tangent."""
    values = work.rows * (2 * work.widths[0] + a.unit_accesses * work.units)
    chunks = math.ceil(work.rows / max(1, a.rows_at_once // models))
    return Cost(models * hvp_flop(work.widths, work.rows), models * FLOAT * values, chunks * a.product_kernels)


def passes_cost(work: Workload, a: Assumptions, models: int) -> Cost:
    """All else that a λ needs of the data: the gradient, the cached primal pass, metrics on both splits."""
    seen = work.rows + work.test_rows
    forward = 2 * seen * sum(map(math.prod, zip(work.widths, work.widths[1:], strict=False)))
    flop = 2 * gradient_flop(work.widths, work.rows) + forward
    rows_read = 2 * work.rows + seen
    values = rows_read * (2 * work.widths[0] + a.unit_accesses * work.units)
    return Cost(models * flop, models * FLOAT * values, 3 * a.step_kernels)


def lanczos_cost(work: Workload, a: Assumptions, models: int) -> Cost:
    """All steps of Lanczos but the products: reorthogonalisation, looks at T on the host, Ritz vectors.

    Gram–Schmidt against m vectors of P values reads them twice, 4 m P operations; V and A V are two (k, M)·(M, P).
    """
    p, m = num_parameters(work.widths), work.products
    against = a.gram_schmidt_passes * m * (m + 1) // 2
    flop = 4 * against * p + 2 * 2 * work.k * m * p
    values = 2 * against * p + 2 * (m + work.k) * p
    looks = math.ceil(m / a.look_every) * a.look_seconds
    return Cost(models * flop, models * FLOAT * values, models * m * a.lanczos_kernels, models * looks)


@dataclass(frozen=True)
class Prediction:
    """Seconds of each phase for all λ."""

    fit: float
    passes: float
    products: float
    lanczos: float
    storing: float

    @property
    def total(self) -> float:
        """All of it: one after the other, but for storing."""
        return max(self.fit + self.passes + self.products + self.lanczos, self.storing)

    @property
    def dominant(self) -> str:
        """The phase that takes most."""
        return max((field.name for field in fields(self)), key=lambda name: float(getattr(self, name)))


def predict(work: Workload, a: Assumptions, *, launch: float, fit_models: int, analysis_models: int) -> Prediction:
    """Time of a whole sweep, with so many models stacked in fits and in analyses."""

    def total(cost: Callable[[Workload, Assumptions, int], Cost], models: int) -> float:
        full, rest = divmod(work.l2s, models)
        groups = [(full, models), (1, rest)] if rest else [(full, models)]
        return sum(count * cost(work, a, size).seconds(a, launch) for count, size in groups)

    return Prediction(
        fit=work.epochs * work.steps_per_epoch * total(step_cost, fit_models),
        passes=total(passes_cost, analysis_models),
        products=work.products * total(product_cost, analysis_models),
        lanczos=total(lanczos_cost, analysis_models),
        storing=work.l2s * a.store_seconds,
    )


def resident_gib(work: Workload, a: Assumptions, models: int) -> float:
    """Data, and for each stacked model the cached primal values and the Lanczos vectors with their products."""
    primal = work.rows * a.cached_per_unit * work.units
    lanczos = 2 * work.products * num_parameters(work.widths)
    return FLOAT * (work.rows * work.widths[0] + models * (primal + lanczos)) / 2**30


STACKS = (("continuation", 1), ("continuation", 32), *(("independent", models) for models in (1, 8, 32, 64)))


def run(settings: Settings) -> Iterator[Table]:
    """Assumptions, terms, and the predicted time of the whole experiment."""
    assumptions = Assumptions()
    most = Workload(widths=(784, *settings.hidden, 10), k=settings.k)
    given = Workload(widths=most.widths, k=settings.k, epochs=settings.epochs)
    yield Table(f"h100: {WARNING}: assumptions", [*assumptions.stated(), *most.stated()])
    yield terms(most, assumptions)
    yield forecast(list(dict.fromkeys((most, given))), assumptions)


def terms(work: Workload, a: Assumptions) -> Table:
    """The pieces of work, and how often a continuation does each."""
    steps = work.l2s * work.epochs * work.steps_per_epoch
    pieces = [
        ("training step, G = 1", step_cost(work, a, 1), steps),
        ("training step, G = 32", step_cost(work, a, 32), math.ceil(steps / 32)),
        ("Hessian product", product_cost(work, a, 1), work.l2s * work.products),
        ("gradient, primal pass, metrics", passes_cost(work, a, 1), work.l2s),
        ("Lanczos beside products", lanczos_cost(work, a, 1), work.l2s),
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
            "all eager, µs": cost.seconds(a, a.launch_eager) * 1e6,
            "all in a graph, µs": cost.seconds(a, a.launch_graph) * 1e6,
            "how often": count,
        }
        for name, cost, count in pieces
    ]
    return Table(f"h100: {WARNING}: terms, at {work.epochs} epochs", rows)


def forecast(workloads: list[Workload], a: Assumptions) -> Table:
    """The whole experiment in each way, and whether it would take less than six minutes."""
    rows = [
        _row(work, a, path, name, launch, models)
        for work in workloads
        for path, models in STACKS
        for name, launch in (("eager", a.launch_eager), ("CUDA graph", a.launch_graph))
    ]
    l2s, data = workloads[0].l2s, workloads[0].rows
    return Table(f"h100: {WARNING}: {l2s} λ on {data:,} digits", rows, _notes(workloads[0], a))


def _row(work: Workload, a: Assumptions, path: str, launches: str, launch: float, models: int) -> Row:
    fit_models = models if path == "independent" else 1
    seconds = predict(work, a, launch=launch, fit_models=fit_models, analysis_models=models)
    groups = math.ceil(work.l2s / fit_models)
    return {
        "path": path,
        "launches": launches,
        "G fit": fit_models,
        "G analysis": models,
        "epochs": work.epochs,
        "steps in a row": groups * work.epochs * work.steps_per_epoch,
        "fits, s": seconds.fit,
        "passes, s": seconds.passes,
        "products, s": seconds.products,
        "Lanczos, s": seconds.lanczos,
        "storing, s": seconds.storing,
        "all, min": seconds.total / 60,
        "most in": seconds.dominant,
        "GiB": resident_gib(work, a, models),
        "under 6 min": seconds.total < GOAL_SECONDS,
    }


def _notes(work: Workload, a: Assumptions) -> list[str]:
    chain = work.l2s * work.epochs * work.steps_per_epoch
    launches = chain * a.step_kernels * a.launch_graph / 60
    chained = (
        f"a continuation of {work.epochs} epochs is {chain:,} steps one after the other: {launches:.1f} min of "
        f"launches alone at {a.launch_graph * 1e6:g} µs each, whatever the GPU computes"
    )
    limit = (
        f"in a CUDA graph, with 32 analyses stacked, a continuation stays under 6 min up to "
        f"{break_even_epochs(work, a):.1f} epochs a λ on average"
    )
    return [
        chained,
        limit,
        "a stack of fits ends with its last model: early stopping saves less than for one model alone",
        "set-up, tracing, graph capture, data loading and export are not in the model",
    ]


def break_even_epochs(work: Workload, a: Assumptions) -> float:
    """Mean epochs at which a continuation, its launches in a graph, takes exactly the goal."""
    seconds = predict(work, a, launch=a.launch_graph, fit_models=1, analysis_models=32)
    others = seconds.passes + seconds.products + seconds.lanczos
    return (GOAL_SECONDS - others) / (seconds.fit / work.epochs)
