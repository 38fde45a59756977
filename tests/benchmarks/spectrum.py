"""The largest eigenpairs, by each contestant, at the same trained weights, to a relative residual of 1e-3."""

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
    Solved,
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

MOST_ROUNDS = 3


class Accuracy(NamedTuple):
    """What float64 products say about pairs."""

    relative_residual: float
    orthogonality_error: float
    num_wrong: int
    within_tolerance: bool

    @property
    def right(self) -> bool:
        """Whether the pairs are the ones that were asked for."""
        return self.within_tolerance and not self.num_wrong and self.orthogonality_error <= ORTHOGONALITY_TOLERANCE


def run(settings: Settings) -> Iterator[Table]:
    """The table of solvers."""
    problem = trained(settings.rows, settings.hidden, settings.device)
    rounds = min(settings.repeats, MOST_ROUNDS)
    yield compare(problem, solvers(problem, settings.k, with_original=not settings.skip_original), settings.k, rounds)


def solvers(problem: Problem, k: int, *, with_original: bool) -> list[Solver]:
    """All solvers whose packages are installed."""
    chosen = [HESSTORE_SOLVER, hesstore_later(problem), CURVLINOPS_SOLVER, EIGENTHINGS_DEFAULTS]
    if EIGENTHINGS.installed:
        progress("  hessian-eigenthings: finding the number of steps")
        chosen.append(eigenthings_reorthogonalised(steps_needed(problem, k)))
    if with_original:
        chosen.append(ORIGINAL_SOLVER)
    return [solver for solver in chosen if solver.contestant.installed]


def compare(problem: Problem, chosen: list[Solver], k: int, rounds: int) -> Table:
    """Time and check each solver; hesstore's is the first."""
    slow = ORIGINAL_SOLVER.name
    entries = [
        Entry(solver.name, partial(solver.run, problem, k), most=1 if solver.name == slow else 0) for solver in chosen
    ]
    timings = interleave(entries, rounds, device=problem.device, warm_up=False)
    progress("  checking with float64 products")
    checks = accuracies(problem, [timing.result for timing in timings])
    rows = [_row(timing, check) for timing, check in zip(timings, checks, strict=True)]
    return Table(f"spectrum: top {k} to {TOL:g} at {len(problem.y):,} rows", with_ratio(rows, "s"), _notes())


def accuracies(problem: Problem, results: list[Solved]) -> list[Accuracy]:
    """Each result against float64 products, and against the eigenvalues of the one with the least residual."""
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


def _row(timing: Timing[Solved], check: Accuracy) -> Row:
    result = timing.result
    return {
        "contestant": timing.name,
        "s": timing.median if check.right else None,
        "products": result.num_matvecs,
        "set-up, s": result.setup_seconds if check.right else None,
        "in products, s": result.product_seconds if check.right else None,
        "solver, s": result.solver_seconds if check.right else None,
        "solver's share": result.solver_seconds / timing.seconds[-1] if check.right else None,
        "times": len(timing.seconds),
        "residual / |μ|": check.relative_residual,
        "|VVᵀ − I|": check.orthogonality_error,
        "eigenvalues wrong": check.num_wrong,
        "result": "right" if check.right else "WRONG",
    }


def _notes() -> list[str]:
    return [
        "s: median from weights to vectors; its parts are those of the last round; solver: neither set-up nor products",
        "residual and |VVᵀ − I|: the largest, from float64 products",
        f"eigenvalues wrong: missing or off by more than {TOL:g} against the set with the least residual",
        "the number of steps of the reorthogonalised hessian-eigenthings was found beforehand; that is not counted",
        "hesstore's set-up is tracing, once a process, and a pass over the data, once a λ",
        "a wrong result has no time; the original method runs once",
    ]
