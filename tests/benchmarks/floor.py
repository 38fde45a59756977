"""Part ``floor``: the rate of matrix products on this machine, and the shortest times that follow from it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from tests.benchmarks.operation_counts import Gemm, hvp_flop, hvp_gemms
from tests.benchmarks.result_tables import Table
from tests.benchmarks.timing import synchronise

if TYPE_CHECKING:
    from tests.benchmarks.benchmark_settings import Settings
    from tests.benchmarks.result_tables import Row

CHUNK_ROWS = 8192
PRODUCTS = 130  # for the top 30 eigenpairs of a trained network, from a random start to a tolerance of 1e-3
SQUARES = (512, 1024, 2048)
SECONDS = 0.25


def sgemm_seconds(gemm: Gemm, device: torch.device, budget: float = SECONDS) -> float:
    """Return the best time of one float32 product of this shape.

    It is repeated for ``budget`` seconds, and at least three times.
    """
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(shape, generator=generator).to(device) for shape in ((gemm.m, gemm.k), (gemm.k, gemm.n)))
    out = torch.empty(gemm.m, gemm.n, device=device)
    torch.mm(a, b, out=out)
    best, spent, tries = float("inf"), 0.0, 0
    while spent < budget or tries < 3:
        synchronise(device)
        began = time.perf_counter()
        torch.mm(a, b, out=out)
        synchronise(device)
        taken = time.perf_counter() - began
        best, spent, tries = min(best, taken), spent + taken, tries + 1
    return best


def sgemm_rates(widths: tuple[int, ...], device: torch.device, budget: float = SECONDS) -> dict[Gemm, float]:
    """Return the rate, in GFLOP/s, of each matrix shape of a Hessian product at 8,192 rows, and of some squares."""
    shapes = [*hvp_gemms(widths, CHUNK_ROWS), *(Gemm(f"square {n}", n, n, n, 1) for n in SQUARES)]
    return {gemm: gemm.flop / gemm.times / sgemm_seconds(gemm, device, budget) / 1e9 for gemm in shapes}


def peak_rate(widths: tuple[int, ...], device: torch.device) -> float:
    """Return the rate of the fastest shape in GFLOP/s, measured at the time of the call."""
    return max(sgemm_rates(widths, device, SECONDS / 3).values())


def run(settings: Settings) -> Iterator[Table]:
    """Yield the rates, then the shortest times of a Hessian product and of a spectrum."""
    widths = (784, *settings.hidden, 10)
    rates = sgemm_rates(widths, torch.device(settings.device))
    best = max(rates.values())
    shapes: list[Row] = [
        {
            "matrix product": gemm.name,
            "shape": f"({gemm.m}, {gemm.k})·({gemm.k}, {gemm.n})",
            "GFLOP/s": rate,
            "share of best": rate / best,
        }
        for gemm, rate in rates.items()
    ]
    yield Table("floor: float32 matrix products on this machine, best of several", shapes)
    yield Table(
        f"floor: shortest times at {best:,.0f} GFLOP/s",
        [_least_times(rows, widths, rates) for rows in dict.fromkeys((settings.rows, 60_000))],
        [
            "operations: 2 matrix products in the first layer, 6 in each other layer; elementwise work is not counted",
            "this count is nominal: hesstore needs fewer operations where pixels are constant within a chunk of rows",
            f"top 30: {PRODUCTS} products, about the number that a tolerance of 1e-3 takes from a random start",
            "by shape: with each matrix product at the rate of its own shape, in chunks of 8,192 rows",
        ],
    )


def _least_times(rows: int, widths: tuple[int, ...], rates: dict[Gemm, float]) -> Row:
    flop, best = hvp_flop(widths, rows), max(rates.values())
    used = hvp_gemms(widths, CHUNK_ROWS)
    by_shape = sum(gemm.flop / rates[gemm] for gemm in used) * rows / CHUNK_ROWS / 1e9
    return {
        "rows": rows,
        "GFLOP per product": flop / 1e9,
        "product, ms": flop / best / 1e6,
        "product by shape, ms": by_shape * 1e3,
        "top 30, s": PRODUCTS * flop / best / 1e9,
        "top 30 by shape, s": PRODUCTS * by_shape,
    }
