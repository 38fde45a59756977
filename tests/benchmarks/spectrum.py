"""Part ``spectrum``: the top k by each solver, at the same trained weights, to a relative residual norm of 1e-3.

There are two grid points: one whose top eigenvalues are simple, and one where many of them are copies.
"""

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
from tests.benchmarks.digit_problem import L2, L2_WITH_COPIES, STEPS, STEPS_WITH_COPIES, Problem, trained
from tests.benchmarks.hessian_products import EIGENTHINGS
from tests.benchmarks.reference import num_missing, reference
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
    num_missing: int
    within_tolerance: bool

    @property
    def right(self) -> bool:
        """Whether the eigenpairs are the top k, within all tolerances."""
        return (
            self.within_tolerance
            and not self.num_wrong
            and not self.num_missing
            and self.orthogonality_error <= ORTHOGONALITY_TOLERANCE
        )


def run(settings: Settings) -> Iterator[Table]:
    """Yield a table of solvers for each grid point."""
    rounds = min(settings.repeats, MAX_ROUNDS)
    for l2, steps in ((L2, STEPS), (L2_WITH_COPIES, STEPS_WITH_COPIES)):
        problem = trained(settings.rows, settings.hidden, settings.device, steps, l2)
        chosen = solvers(problem, settings.k, with_original=not settings.skip_original)
        yield compare(problem, chosen, settings.k, rounds, title=f"λ = {l2:g}")


def solvers(problem: Problem, k: int, *, with_original: bool) -> list[Solver]:
    """Return all solvers whose packages are installed."""
    chosen = [HESSTORE_SOLVER, hesstore_later(problem), CURVLINOPS_SOLVER, EIGENTHINGS_DEFAULTS]
    if EIGENTHINGS.installed:
        progress("  hessian-eigenthings: finding the number of steps that it needs")
        chosen.append(eigenthings_reorthogonalised(steps_needed(problem, k)))
    if with_original:
        chosen.append(ORIGINAL_SOLVER)
    return [solver for solver in chosen if solver.implementation.installed]


def compare(problem: Problem, chosen: list[Solver], k: int, rounds: int, title: str = "") -> Table:
    """Time and check each solver; the first one is that of hesstore."""
    entries = [
        Entry(solver.name, partial(solver.run, problem, k), max_rounds=1 if solver is ORIGINAL_SOLVER else 0)
        for solver in chosen
    ]
    timings = interleave(entries, rounds, device=problem.device, warm_up=False)
    complete = reference(problem, k)
    progress("  checking with float64 products")
    checks = accuracies(problem, [timing.result for timing in timings], complete)
    rows = [_row(timing, check) for timing, check in zip(timings, checks, strict=True)]
    sizes = ", ".join(filter(None, [f"{len(problem.y):,} rows", title]))
    return Table(f"spectrum: top {k} to {TOL:g} at {sizes}", with_ratio(rows, "s"), _notes())


def accuracies(problem: Problem, results: list[Solution], complete: Tensor) -> list[Accuracy]:
    """Return the accuracy of each result, from float64 products and the eigenvalues of :func:`reference`."""
    found = [(result.spectrum, residuals(problem, result.spectrum)) for result in results]
    return [
        Accuracy(
            relative_residual=_relative(spectrum.eigenvalues, residual),
            orthogonality_error=orthogonality_error(spectrum.eigenvectors),
            num_wrong=num_wrong(spectrum.eigenvalues, complete[: len(spectrum.eigenvalues)], TOL),
            num_missing=num_missing(spectrum.eigenvalues, complete, TOL),
            within_tolerance=within_tolerance(spectrum, residual, TOL),
        )
        for spectrum, residual in found
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
        "missing": check.num_missing,
        "result": "right" if check.right else "WRONG",
    }


def _notes() -> list[str]:
    return [
        "s: median time from weights to eigenvectors; its parts are those of the last round; solver: all other time",
        "residual and |VVᵀ − I|: the largest values, from float64 products",
        f"wrong eigenvalues: those of the reference's top k without a separate counterpart within a relative {TOL:g}",
        "missing: those of them that lie further out than the solver's own k-th eigenvalue, with their copies",
        "reference: eigsh in float64, repeated from random starts in the complement until three searches find nothing",
        "reorthogonalised hessian-eigenthings: the search for its number of steps is not timed",
        "set-up of hesstore: tracing, once per process, and a pass over the data, once per grid point",
        "a wrong result has no time; the original method is timed once",
    ]
