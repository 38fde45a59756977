"""Part ``geometry``: the cost of the class geometry of one grid point, in Hessian products.

Slopes and curvatures are also computed by nested forward differentiation, for comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from hesstore.curvature import (
    ClassLosses,
    DenseLayers,
    FlatHessian,
    HessianOperator,
    LossLines,
    gradient,
    hessian_trace,
)
from hesstore.linalg import EigenPairs, Kernel, lanczos, moments, spectral_density
from hesstore.measure.class_response import find_steps
from hesstore.store.schema import LONGEST_STEP
from tests.benchmarks.accuracy import relative_error
from tests.benchmarks.digit_problem import TEST_ROWS, Problem, digits, normalised, trained
from tests.benchmarks.result_tables import Table, progress
from tests.benchmarks.timing import Entry, Timing, interleave
from tests.benchmarks.work_counts import count

if TYPE_CHECKING:
    from tests.benchmarks.benchmark_settings import Settings
    from tests.benchmarks.result_tables import Row

CLASSES, CHUNK_ROWS = 10, 2048
NESTED_MODES = 2
PROBES, DENSITY_PROBES, DENSITY_STEPS = 4, 1, 64
GRID = 1e-3 * torch.sinh(torch.linspace(-14.5, 14.5, 512, dtype=torch.float64))
RISE = 0.1
TOLERANCE = 1e-4
MAX_ROUNDS = 3


@dataclass(frozen=True)
class TimedParts:
    """The parts that are timed, for a trained network with its eigenpairs."""

    problem: Problem
    operator: HessianOperator
    pairs: EigenPairs

    @cached_property
    def losses(self) -> ClassLosses:
        """hesstore's traced programs for the losses of the classes."""
        return ClassLosses(self.problem.model, self.problem.x, self.problem.y, CLASSES, CHUNK_ROWS)

    @cached_property
    def test_losses(self) -> ClassLosses:
        """The same for as many other rows as the test set has."""
        few = digits(TEST_ROWS)
        x, y = torch.from_numpy(normalised(few.images)), torch.from_numpy(few.labels)
        return replace(self.losses, x=x.to(self.problem.x), y=y.to(self.problem.y))

    def product(self) -> Tensor:
        """Return one Hessian product."""
        return self.operator.matvec(self.pairs.eigenvectors[0])

    def along(self) -> Tensor:
        """Return slopes and curvatures (m, 2, C) of all classes along all eigenvectors, for both sets of rows."""
        train, _ = (each.along(self.problem.theta, self.pairs.eigenvectors) for each in (self.losses, self.test_losses))
        return torch.stack(train, 1)

    def nested(self) -> Tensor:
        """Return the same along a few eigenvectors, by a ``jvp`` of a ``jvp`` of the losses of the rows."""
        vectors = self.pairs.eigenvectors[:NESTED_MODES]
        return torch.stack([nested(self.problem, v) for v in vectors])

    def gradients(self) -> Tensor:
        """Return the gradients (C, P) of all classes."""
        return self.losses.gradients(self.problem.theta)

    def with_responses(self) -> Tensor:
        """Return the steps (m, 2) along each eigenvector, and the rises of the loss (m, 2) there, stacked.

        The same passes compute slopes, curvatures and accuracies.
        """
        theta, vectors = self.problem.theta, self.pairs.eigenvectors
        lines = LossLines(self.losses, theta, vectors)
        slope = lines.derivatives.slope @ self.losses.shares
        steps, measured = find_steps(lines, slope, self.pairs.eigenvalues, RISE, LONGEST_STEP * float(theta.norm()))
        self.test_losses.along_with_accuracies(theta, vectors, steps.signed)
        return torch.stack([steps.length, measured])

    @property
    def rows(self) -> tuple[Tensor, Tensor]:
        """The training rows: inputs and labels."""
        return self.problem.x, self.problem.y

    def trace(self) -> Tensor:
        """Return estimates of the trace and the Frobenius norm."""
        layers = DenseLayers.of(self.problem.model, self.problem.x[:8])
        exact = None if layers is None else hessian_trace(layers, self.problem.model, self.problem.theta, *self.rows)
        found = moments(self.operator, self.pairs, PROBES, torch.Generator().manual_seed(0), exact)
        return torch.tensor([found.trace, found.frobenius_norm])

    def density(self) -> Tensor:
        """Return the spectral density on :data:`GRID`."""
        generator = torch.Generator().manual_seed(0)
        return spectral_density(
            self.operator,
            self.pairs,
            GRID,
            Kernel(0.1, 1e-3),
            probes=DENSITY_PROBES,
            steps=DENSITY_STEPS,
            generator=generator,
        ).values


def nested(problem: Problem, v: Tensor) -> Tensor:
    """Return v·∇E_c and vᵀH_c v, (2, C), by nested ``jvp`` over all rows as one batch."""

    def row_losses(theta: Tensor) -> Tensor:
        return nn.functional.cross_entropy(problem.model.logits(theta, problem.x), problem.y, reduction="none")

    def first(theta: Tensor) -> Tensor:
        slope: Tensor = torch.func.jvp(row_losses, (theta,), (v,))[1]
        return slope

    both: tuple[Tensor, Tensor] = torch.func.jvp(first, (problem.theta,), (v,))  # type: ignore[assignment]
    slope, curvature = both
    sums = torch.zeros(2, CLASSES, dtype=torch.float64, device=v.device)
    sums.index_add_(1, problem.y, torch.stack([slope, curvature]).double())
    return sums / torch.bincount(problem.y, minlength=CLASSES)


def run(settings: Settings) -> Iterator[Table]:
    """Yield the table of parts."""
    yield compare(trained(settings.rows, settings.hidden, settings.device), settings.k, settings.repeats)


def compare(problem: Problem, k: int, repeats: int) -> Table:
    """Time and check each part."""
    operator = FlatHessian(problem.model, problem.x, problem.y, chunk_rows=CHUNK_ROWS).at(problem.theta)
    progress("  eigenpairs")
    timed_parts = TimedParts(problem, operator, lanczos(operator, k))
    parts: list[tuple[str, Callable[[], Tensor], int]] = [
        ("product with H", timed_parts.product, 1),
        ("slopes and curvatures by class", timed_parts.along, k),
        (f"the same by nested jvp, {NESTED_MODES} modes", timed_parts.nested, NESTED_MODES),
        ("the same with responses, two steps per mode", timed_parts.with_responses, k),
        ("gradients by class", timed_parts.gradients, 1),
        (f"trace and Frobenius norm, {PROBES} probes", timed_parts.trace, 1),
        (f"spectral density, {DENSITY_PROBES} × {DENSITY_STEPS} steps", timed_parts.density, 1),
    ]
    entries = [Entry(name, part) for name, part, _ in parts]
    timings = interleave(entries, min(repeats, MAX_ROUNDS), device=problem.device)
    one = timings[0].median
    checks = _checks(timed_parts, timings)
    rows = [
        _row(timing, modes, one, right=right)
        for timing, (_, _, modes), right in zip(timings, parts, checks, strict=True)
    ]
    works = [count(part) for _, part, _ in parts]
    for row, work in zip(rows, works, strict=True):
        row |= {
            "operations in products": work.flop / works[0].flop,
            "GB moved": work.moved / 1e9,
            "kernels": work.kernels,
        }
    return Table(f"geometry: one grid point at {len(problem.y):,} rows, {k} eigenvectors", rows, _notes())


def _row(timing: Timing[Tensor], modes: int, product: float, *, right: bool | None) -> Row:
    counted = right is not False
    return {
        "part": timing.name,
        "s": timing.median if counted else None,
        "Hessian products": timing.median / product if counted else None,
        "products per mode": timing.median / product / modes if counted and modes > 1 else None,
        "result": "–" if right is None else "right" if right else "WRONG",
    }


def _checks(timed_parts: TimedParts, timings: list[Timing[Tensor]]) -> list[bool | None]:
    """Return whether each result is right; None where no reference exists."""
    _, along, direct, steps, gradients, _, density = (timing.result for timing in timings)
    problem, losses = timed_parts.problem, timed_parts.losses
    exact = Problem(
        problem.images, problem.x.double(), problem.y, problem.model, problem.theta.double(), problem.hidden
    )
    truth = torch.stack([nested(exact, v.double()) for v in timed_parts.pairs.eigenvectors[:NESTED_MODES]])
    whole = gradient(problem.model, problem.theta, problem.x, problem.y).double()
    return [
        None,
        relative_error(along[:NESTED_MODES], truth) < TOLERANCE,
        relative_error(direct, truth) < TOLERANCE,
        _rises_are_right(timed_parts, steps),
        relative_error(losses.shares @ gradients.double(), whole) < TOLERANCE,
        None,
        abs(float(torch.trapezoid(density, GRID)) - 1) < 1e-2,
    ]


def _rises_are_right(timed_parts: TimedParts, steps: Tensor) -> bool:
    problem, v = timed_parts.problem, timed_parts.pairs.eigenvectors[0]
    (length, rise), theta = steps[:, 0, 1].tolist(), problem.theta
    losses = [
        float(nn.functional.cross_entropy(problem.model.logits(at, problem.x).double(), problem.y))
        for at in (theta, theta + length * v)
    ]
    return bool(abs(losses[1] - losses[0] - rise) < TOLERANCE)


def _notes() -> list[str]:
    return [
        "medians, after one call that traces; the product uses a cached primal pass, the other parts compute their own",
        "right: slopes and curvatures agree with nested jvp in float64; the gradients of the classes add up to ∇E;",
        "the first rises agree with the losses at moved weights; the integral of the density is one",
        "the last three columns are counted, not timed: operations of the matrix products, as a number of Hessian",
        "products; bytes that all other operations read and write; and the number of operations",
    ]
