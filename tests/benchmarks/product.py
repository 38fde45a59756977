"""Part ``product``: one Hessian product by each implementation, at the same trained weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from tests.benchmarks.accuracy import PRODUCT_TOLERANCE, exact_products, relative_error
from tests.benchmarks.digit_problem import Problem, trained
from tests.benchmarks.floor import peak_rate
from tests.benchmarks.hessian_products import IMPLEMENTATIONS, Implementation, random_vector
from tests.benchmarks.operation_counts import hvp_flop
from tests.benchmarks.result_tables import Table, progress, with_ratio
from tests.benchmarks.timing import Entry, Timing, interleave, timed

if TYPE_CHECKING:
    from torch import Tensor

    from tests.benchmarks.benchmark_settings import Settings
    from tests.benchmarks.result_tables import Row


def run(settings: Settings) -> Iterator[Table]:
    """Yield the table of implementations."""
    problem = trained(settings.rows, settings.hidden, settings.device)
    yield compare(problem, IMPLEMENTATIONS, settings.repeats, partial(peak_rate, problem.widths, problem.device))


def compare(
    problem: Problem, implementations: tuple[Implementation, ...], repeats: int, sgemm_rate: Callable[[], float]
) -> Table:
    """Time and check each installed implementation; the first one is hesstore.

    ``sgemm_rate`` measures the rate of matrix products in GFLOP/s at the time of the call.
    """
    v = random_vector(problem)
    exact = exact_products(problem, v[None])[0]
    entries, setups = [], {}
    for implementation in implementations:
        if implementation.installed:
            progress(f"  {implementation.name}: setting up")
            setups[implementation.name], product = timed(partial(implementation.make, problem), problem.device)
            entries.append(Entry(implementation.name, partial(product, v), implementation.max_rounds))
    before = sgemm_rate()
    timings = {timing.name: timing for timing in interleave(entries, repeats, device=problem.device)}
    rate = max(before, sgemm_rate())
    least = hvp_flop(problem.widths, len(problem.y)) / (rate * 1e9)
    rows = [
        _row(timings[implementation.name], relative_error(timings[implementation.name].result, exact), least)
        if implementation.installed
        else _missing(implementation)
        for implementation in implementations
    ]
    for row in rows:
        setup = setups.get(str(row["implementation"]))
        row["set-up, ms"] = None if setup is None else setup * 1e3
    title = f"product: H v at {len(problem.y):,} rows, {len(problem.theta):,} parameters"
    return Table(title, with_ratio(rows, "ms"), _notes(rate))


def _row(timing: Timing[Tensor], error: float, least: float) -> Row:
    right = error <= PRODUCT_TOLERANCE
    return {
        "implementation": timing.name,
        "ms": timing.median * 1e3 if right else None,
        "share of SGEMM": least / timing.median if right else None,
        "rounds": len(timing.seconds),
        "relative error": error,
        "result": "right" if right else "WRONG",
    }


def _missing(implementation: Implementation) -> Row:
    columns = ("ms", "share of SGEMM", "rounds", "relative error")
    return {
        "implementation": implementation.name,
        **dict.fromkeys(columns),
        "result": f"{implementation.requires} not installed",
    }


def _notes(rate: float) -> list[str]:
    return [
        f"share of SGEMM: nominal operations per second / {rate:,.0f} GFLOP/s, the better rate of before and after",
        "rounds: number of times in the median; the slowest implementation is timed less often",
        "relative error: compared with double backward in float64 on the same rows; a wrong result has no time",
        "set-up: once per θ; hesstore traces its program and caches everything that does not depend on v",
    ]
