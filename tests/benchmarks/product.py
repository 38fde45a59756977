"""One product with the Hessian, by each contestant, at the same trained weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from tests.benchmarks.accuracy import PRODUCT_TOLERANCE, exact_products, relative_error
from tests.benchmarks.digit_problem import Problem, trained
from tests.benchmarks.floor import peak_rate
from tests.benchmarks.hessian_products import CONTESTANTS, Contestant, direction
from tests.benchmarks.operation_counts import hvp_flop
from tests.benchmarks.result_tables import Table, progress, with_ratio
from tests.benchmarks.timing import Entry, Timing, interleave, timed

if TYPE_CHECKING:
    from torch import Tensor

    from tests.benchmarks.benchmark_settings import Settings
    from tests.benchmarks.result_tables import Row


def run(settings: Settings) -> Iterator[Table]:
    """The table of contestants."""
    problem = trained(settings.rows, settings.hidden, settings.device)
    yield compare(problem, CONTESTANTS, settings.repeats, partial(peak_rate, problem.widths, problem.device))


def compare(
    problem: Problem, contestants: tuple[Contestant, ...], repeats: int, sgemm_rate: Callable[[], float]
) -> Table:
    """Time and check each contestant that is installed, hesstore first; ``sgemm_rate`` measures GFLOP/s now."""
    v = direction(problem)
    exact = exact_products(problem, v[None])[0]
    entries, setups = [], {}
    for contestant in contestants:
        if contestant.installed:
            progress(f"  {contestant.name}: setting up")
            setups[contestant.name], product = timed(partial(contestant.make, problem), problem.device)
            entries.append(Entry(contestant.name, partial(product, v), contestant.most))
    before = sgemm_rate()
    timings = {timing.name: timing for timing in interleave(entries, repeats, device=problem.device)}
    rate = max(before, sgemm_rate())
    least = hvp_flop(problem.widths, len(problem.y)) / (rate * 1e9)
    rows = [
        _row(timings[contestant.name], relative_error(timings[contestant.name].result, exact), least)
        if contestant.installed
        else _missing(contestant)
        for contestant in contestants
    ]
    for row in rows:
        setup = setups.get(str(row["contestant"]))
        row["set-up, ms"] = None if setup is None else setup * 1e3
    title = f"product: H v at {len(problem.y):,} rows, {len(problem.theta):,} parameters"
    return Table(title, with_ratio(rows, "ms"), _notes(rate))


def _row(timing: Timing[Tensor], error: float, least: float) -> Row:
    right = error <= PRODUCT_TOLERANCE
    return {
        "contestant": timing.name,
        "ms": timing.median * 1e3 if right else None,
        "share of SGEMM": least / timing.median if right else None,
        "times": len(timing.seconds),
        "relative error": error,
        "result": "right" if right else "WRONG",
    }


def _missing(contestant: Contestant) -> Row:
    columns = ("ms", "share of SGEMM", "times", "relative error")
    return {"contestant": contestant.name, **dict.fromkeys(columns), "result": f"{contestant.requires} not installed"}


def _notes(rate: float) -> list[str]:
    return [
        f"share of SGEMM: a product's nominal operations at {rate:,.0f} GFLOP/s (the better of before and after)",
        "times: how many went into the median; the slowest contestant is timed less often",
        "relative error: against double backward in float64 on the same rows; a wrong result has no time",
        "set-up: once for each θ; hesstore traces its program and caches what does not depend on v",
    ]
