"""Part ``spectrum``: the top k by each solver, at the same trained weights, to a relative residual norm of 1e-3."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from tests.benchmarks.accuracy import (
    ORTHOGONALITY_TOLERANCE,
    num_wrong,
    orthogonality_error,
    residuals,
    within_tolerance,
)
from tests.benchmarks.digit_problem import Problem, trained
from tests.benchmarks.hessian_products import EIGENTHINGS
from tests.benchmarks.result_tables import Table, progress, with_ratio
from tests.benchmarks.solvers import (
    CURVLINOPS_SOLVER,
    EIGENTHINGS_DEFAULTS,
    HESSTORE_SOLVER,
    ORIGINAL_SOLVER,
    TOL,
    Solution,
    Solver,
    eigenthings_reorthogonalised,
    hesstore_later,
    steps_needed,
)
from tests.benchmarks.timing import Entry, Timing, interleave

if TYPE_CHECKING:
    from torch import Tensor

    from tests.benchmarks.benchmark_settings import Settings
    from tests.benchmarks.result_tables import Row

MAX_ROUNDS = 3


class Accuracy(NamedTuple):
    """The accuracy of eigenpairs, measured with float64 products."""

    relative_residual: float
    orthogonality_error: float
    num_wrong: int
    within_tolerance: bool

    @property
    def right(self) -> bool:
        """Whether the eigenpairs are the top k, within all tolerances."""
        return self.within_tolerance and not self.num_wrong and self.orthogonality_error <= ORTHOGONALITY_TOLERANCE


def run(settings: Settings) -> Iterator[Table]:
    """Yield the table of solvers."""
    problem = trained(settings.rows, settings.hidden, settings.device)
    rounds = min(settings.repeats, MAX_ROUNDS)
    yield compare(problem, solvers(problem, settings.k, with_original=not settings.skip_original), settings.k, rounds)


def solvers(problem: Problem, k: int, *, with_original: bool) -> list[Solver]:
    """Return all solvers whose packages are installed."""
    chosen = [HESSTORE_SOLVER, hesstore_later(problem), CURVLINOPS_SOLVER, EIGENTHINGS_DEFAULTS]
    if EIGENTHINGS.installed:
        progress("  hessian-eigenthings: finding the number of steps that it needs")
        chosen.append(eigenthings_reorthogonalised(steps_needed(problem, k)))
    if with_original:
        chosen.append(ORIGINAL_SOLVER)
    return [solver for solver in chosen if solver.implementation.installed]


def compare(problem: Problem, chosen: list[Solver], k: int, rounds: int) -> Table:
    """Time and check each solver; the first one is that of hesstore."""
    entries = [
        Entry(solver.name, partial(solver.run, problem, k), max_rounds=1 if solver is ORIGINAL_SOLVER else 0)
        for solver in chosen
    ]
    timings = interleave(entries, rounds, device=problem.device, warm_up=False)
    progress("  checking with float64 products")
    checks = accuracies(problem, [timing.result for timing in timings])
    rows = [_row(timing, check) for timing, check in zip(timings, checks, strict=True)]
    return Table(f"spectrum: top {k} to {TOL:g} at {len(problem.y):,} rows", with_ratio(rows, "s"), _notes())


def accuracies(problem: Problem, results: list[Solution]) -> list[Accuracy]:
    """Return the accuracy of each result.

    The residual norms come from float64 products. The eigenvalues are compared with those of the result whose
    residual norms are smallest.
    """
    found = [(result.spectrum, residuals(problem, result.spectrum)) for result in results]
    relative = [_relative(spectrum.eigenvalues, residual) for spectrum, residual in found]
    best = found[relative.index(min(relative))][0].eigenvalues
    return [
        Accuracy(
            relative_residual=worst,
            orthogonality_error=orthogonality_error(spectrum.eigenvectors),
            num_wrong=num_wrong(spectrum.eigenvalues, best, TOL),
            within_tolerance=within_tolerance(spectrum, residual, TOL),
        )
        for (spectrum, residual), worst in zip(found, relative, strict=True)
    ]


def _relative(eigenvalues: Tensor, residual: Tensor) -> float:
    worst = float((residual / eigenvalues.abs()).max())
    return math.inf if math.isnan(worst) else worst


def _row(timing: Timing[Solution], check: Accuracy) -> Row:
    result = timing.result
    return {
        "implementation": timing.name,
        "s": timing.median if check.right else None,
        "products": result.num_matvecs,
        "set-up, s": result.setup_seconds if check.right else None,
        "products, s": result.product_seconds if check.right else None,
        "solver, s": result.solver_seconds if check.right else None,
        "solver share": result.solver_seconds / timing.seconds[-1] if check.right else None,
        "rounds": len(timing.seconds),
        "residual / |μ|": check.relative_residual,
        "|VVᵀ − I|": check.orthogonality_error,
        "wrong eigenvalues": check.num_wrong,
        "result": "right" if check.right else "WRONG",
    }


def _notes() -> list[str]:
    return [
        "s: median time from weights to eigenvectors; its parts are those of the last round; solver: all other time",
        "residual and |VVᵀ − I|: the largest values, from float64 products",
        f"wrong eigenvalues: missing, or off by a relative {TOL:g} from those of the solver with the smallest residual",
        "reorthogonalised hessian-eigenthings: the search for its number of steps is not timed",
        "set-up of hesstore: tracing, once per process, and a pass over the data, once per grid point",
        "a wrong result has no time; the original method is timed once",
    ]
