"""Part ``h100``: a model of a sweep on one NVIDIA H100. It is a PREDICTION; nothing here was measured on a GPU.

The model counts operations, bytes to and from memory, kernels, and waits of the host. A piece of work takes

    kernels · (seconds per kernel)  +  max(operations / rate, bytes / bandwidth)  +  waits · (seconds per wait).

The kernels and waits are counted on a stand-in device (:mod:`tests.benchmarks.kernel_counts`). The seconds per kernel
and per wait, and the rates, are assumptions with two ends, which give a range.

The kernels of a training step are in a CUDA graph; Python launches all others. With G stacked models, operations and
bytes grow G-fold. The number of kernels of a training step stays the same. That of a Hessian product grows with the
number of row chunks into which the stack is cut. Lanczos steps are taken together; what ends a chain, and the class
geometry of so many rows, are computed for one grid point at a time. A continuation fits one grid point after the other
and has G = 1; its analyses run at the same time as its fits. Independent grid points are stacked. The model assumes
that storing overlaps with all other work, and that nothing else overlaps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import torch

from tests.benchmarks.h100_assumptions import FAST, SLOW, Assumptions, Workload, described_assumptions
from tests.benchmarks.kernel_counts import Work, count_kernels
from tests.benchmarks.operation_counts import gradient_flop, hvp_flop, num_parameters
from tests.benchmarks.result_tables import Table

if TYPE_CHECKING:
    from tests.benchmarks.benchmark_settings import Settings
    from tests.benchmarks.result_tables import Row

WARNING = "PREDICTION, NOTHING HERE WAS MEASURED ON A GPU"
FLOAT = 4  # bytes


@dataclass(frozen=True)
class Cost:
    """The operations, bytes, kernels and waits of a piece of work, and further seconds of the host."""

    flop: float
    bytes: float
    kernels: float
    waits: float = 0.0
    host_seconds: float = 0.0
    in_graph: bool = False

    def seconds(self, a: Assumptions) -> float:
        """Return the predicted time."""
        work = max(self.flop / a.flop_rate, self.bytes / a.bandwidth)
        kernel = a.kernel_graph if self.in_graph else a.kernel_eager
        return self.kernels * kernel + work + self.waits * a.wait_seconds + self.host_seconds


def step_cost(work: Workload, a: Assumptions, models: int) -> Cost:
    """Return the cost of one training step of ``models`` stacked models, each with its own batch."""
    batch = work.batch * (a.input_accesses * work.widths[0] + a.unit_accesses * work.units)
    values = a.parameter_accesses * num_parameters(work.widths) + batch
    kernels = (work.counts.step if models == 1 else work.counts.stacked_step).kernels
    flop = models * gradient_flop(work.widths, work.batch)
    return Cost(flop, models * FLOAT * values, kernels, in_graph=True)


def product_cost(work: Workload, a: Assumptions, models: int) -> Cost:
    """Return the cost of one Hessian product for each model.

    The inputs are read twice: in the forward pass, and for the tangent of the gradient.
    """
    values = work.rows * (2 * work.widths[0] + a.unit_accesses * work.units)
    chunks = math.ceil(work.rows / max(1, a.rows_at_once // models))
    kernels = (work.counts.product if models == 1 else work.counts.stacked_product).kernels
    return Cost(models * hvp_flop(work.widths, work.rows), models * FLOAT * values, chunks * kernels)


def passes_cost(work: Workload, a: Assumptions, models: int) -> Cost:
    """Return the cost of the other passes over the data: the gradient, the cached primal pass and the metrics."""
    seen = work.rows + work.test_rows
    forward = 2 * seen * sum(map(math.prod, zip(work.widths, work.widths[1:], strict=False)))
    flop = 2 * gradient_flop(work.widths, work.rows) + forward
    rows_read = 2 * work.rows + seen
    values = rows_read * (2 * work.widths[0] + a.unit_accesses * work.units)
    chunks = math.ceil(work.rows / max(1, a.rows_at_once // models))
    parts = work.counts.primal, work.counts.gradient, work.counts.metrics
    kernels, waits = (sum(getattr(part, name) for part in parts) for name in ("kernels", "waits"))
    return Cost(models * flop, models * FLOAT * values, chunks * kernels, waits)


def lanczos_cost(work: Workload, a: Assumptions, models: int) -> Cost:
    """Return the cost of Lanczos without the products.

    It consists of reorthogonalisation, checks of T on the host, and Ritz vectors. Gram–Schmidt against m vectors of P
    values takes 4 m P operations and reads the vectors twice. V and A V are two matrix products (k, m)·(m, P).
    """
    p, m = num_parameters(work.widths), work.products
    against = a.gram_schmidt_passes * m * (m + 1) // 2
    flop = 4 * against * p + 2 * 2 * work.k * m * p
    values = 2 * against * p + 2 * (m + work.k) * p
    counts = work.counts
    shared, own = (counts.lanczos, Work(0)) if models == 1 else (counts.stacked_lanczos, counts.lanczos_of_each)
    return Cost(
        models * flop,
        models * FLOAT * values,
        m * (shared.kernels + models * own.kernels),
        m * (shared.waits + models * own.waits),
        models * m * counts.checks * a.check_seconds,
    )


def geometry_cost(work: Workload, a: Assumptions, models: int) -> Cost:
    """Return the cost of the class geometry, whose arithmetic is expressed as a number of Hessian products."""
    product = product_cost(work, a, 1)
    return Cost(
        models * work.geometry_products * product.flop,
        models * work.geometry_products * product.bytes,
        models * work.counts.geometry.kernels,
        models * work.counts.geometry.waits,
    )


@dataclass(frozen=True)
class Prediction:
    """The seconds of each phase for all grid points."""

    fit: float
    passes: float
    products: float
    lanczos: float
    geometry: float
    storing: float
    side_by_side: bool

    @property
    def analyses(self) -> float:
        """The seconds of all phases but fits and storing."""
        return self.passes + self.products + self.lanczos + self.geometry

    @property
    def total(self) -> float:
        """The total: all phases in sequence, except that storing, and perhaps the fits, overlap with the others."""
        work = max(self.fit, self.analyses) if self.side_by_side else self.fit + self.analyses
        return max(work, self.storing)

    @property
    def dominant(self) -> str:
        """The name of the longest phase."""
        phases = (field.name for field in fields(self) if field.name != "side_by_side")
        return max(phases, key=lambda name: float(getattr(self, name)))


def predict(work: Workload, a: Assumptions, *, models: int) -> Prediction:
    """Predict the time of a sweep with ``models`` side by side; a single one is the chain of a continuation."""

    def total(cost: Callable[[Workload, Assumptions, int], Cost], models: int) -> float:
        full, rest = divmod(work.grid_points, models)
        groups = [(full, models), (1, rest)] if rest else [(full, models)]
        return sum(count * cost(work, a, size).seconds(a) for count, size in groups)

    return Prediction(
        fit=work.epochs * work.steps_per_epoch * total(step_cost, models),
        passes=total(passes_cost, models),
        products=work.products * total(product_cost, models),
        lanczos=total(lanczos_cost, models),
        geometry=total(geometry_cost, models),
        storing=work.grid_points * a.store_seconds,
        side_by_side=models == 1,
    )


def resident_gib(work: Workload, a: Assumptions, models: int) -> float:
    """Return the GiB of the data and, for each stacked model, of cached primal values and Lanczos vectors.

    Lanczos vectors are kept without their products; each pair takes three vectors more.
    """
    primal = work.rows * a.cached_per_unit * work.units
    lanczos = (work.products + 3 * work.k) * num_parameters(work.widths)
    return FLOAT * (work.rows * work.widths[0] + models * (primal + lanczos)) / 2**30


STACKS = {"continuation": (1,), "independent": (8, 32, 64)}
"""The numbers of models side by side, by path."""


def run(settings: Settings) -> Iterator[Table]:
    """Yield the assumptions, the sizes, the cost of each piece of work, and the predicted time of the experiment."""
    if torch.cuda.is_available():
        note = (
            "kernels are counted on a stand-in device, which can't take the place of this machine's: use the part gpu"
        )
        yield Table("h100: no prediction on a machine with a GPU", [], [note])
        return
    counts = count_kernels(settings.hidden, settings.k)
    most = Workload(counts=counts, widths=(784, *settings.hidden, 10), k=settings.k)
    given = replace(most, epochs=settings.epochs)
    yield Table(f"h100: {WARNING}: assumptions", described_assumptions())
    yield Table(f"h100: {WARNING}: sizes", most.described())
    yield costs(given)
    yield forecast(list(dict.fromkeys((given, most))))


def costs(work: Workload) -> Table:
    """Return the cost of each piece of work, and how often a continuation does it."""
    steps = work.grid_points * work.epochs * work.steps_per_epoch
    pieces = [
        ("training step, G = 1", step_cost, 1, steps),
        ("training step, G = 64", step_cost, 64, math.ceil(steps / 64)),
        ("Hessian product", product_cost, 1, work.grid_points * work.products),
        ("gradient, primal pass, metrics", passes_cost, 1, work.grid_points),
        ("Lanczos without products", lanczos_cost, 1, work.grid_points),
        ("class geometry", geometry_cost, 1, work.grid_points),
    ]
    rows: list[Row] = []
    for name, cost, models, count in pieces:
        fast, slow = (cost(work, a, models) for a in (FAST, SLOW))
        rows.append(
            {
                "piece of work": name,
                "GFLOP": fast.flop / 1e9,
                "MB": fast.bytes / 1e6,
                "kernels": fast.kernels,
                "waits": fast.waits,
                "from, µs": fast.seconds(FAST) * 1e6,
                "to, µs": slow.seconds(SLOW) * 1e6,
                "count": count,
            }
        )
    return Table(f"h100: {WARNING}: costs at {work.epochs:g} epochs", rows)


def forecast(workloads: list[Workload]) -> Table:
    """Return the predicted time of the whole experiment for each path and stack size."""
    rows = [_row(work, path, models) for work in workloads for path, stacks in STACKS.items() for models in stacks]
    points, data = workloads[0].grid_points, workloads[0].rows
    return Table(f"h100: {WARNING}: {points} grid points, {data:,} digits", rows, _notes(workloads[0]))


def _row(work: Workload, path: str, models: int) -> Row:
    fast, slow = (predict(work, a, models=models) for a in (FAST, SLOW))
    groups = math.ceil(work.grid_points / models)
    return {
        "path": path,
        "G": models,
        "epochs": work.epochs,
        "sequential steps": groups * work.epochs * work.steps_per_epoch,
        "fits, min": _range(fast.fit, slow.fit),
        "analyses, min": _range(fast.analyses, slow.analyses),
        "total, min": _range(fast.total, slow.total),
        "longest phase": slow.dominant,
        "GiB": resident_gib(work, FAST, models),
    }


def _range(fast: float, slow: float) -> str:
    """Return two numbers of seconds as a range of minutes."""
    return f"{fast / 60:.1f} to {slow / 60:.1f}"


def _notes(work: Workload) -> list[str]:
    chain = work.grid_points * work.epochs * work.steps_per_epoch
    least, most = (chain * work.counts.step.kernels * a.kernel_graph / 60 for a in (FAST, SLOW))
    chained = (
        f"a continuation of {work.epochs:g} epochs has {chain:,.0f} sequential steps; their kernels alone take "
        f"{least:.0f} to {most:.0f} min, however fast the GPU computes"
    )
    return [
        chained,
        "a stack of fits ends with its last model, so that early stopping saves less than for a single model",
        "docs/gpu.md has times that were measured on an H200",
        "the model does not include set-up, tracing, graph capture, data loading and export",
    ]
