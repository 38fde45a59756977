"""Part ``curves``: time and peak memory of a sweep as one size grows.

The sizes are rows, parameters, k and the number of grid points. Each sweep runs in a fresh process.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.benchmarks.result_tables import Table, progress

if TYPE_CHECKING:
    from tests.benchmarks.benchmark_settings import Settings
    from tests.benchmarks.result_tables import Row

ROOT = Path(__file__).resolve().parents[2]
FLAT = 0.05
"""Largest relative change of peak memory that counts as flat."""


def run(settings: Settings) -> Iterator[Table]:
    """Yield one table for each size that grows."""
    for size, values in grids(settings).items():
        yield curve(replace(settings, lambdas=1), size, values)


def grids(settings: Settings) -> dict[str, list[Any]]:
    """Return the values of each size in ascending order.

    While one size grows, the others keep the values of ``settings``, with a single grid point.
    """
    powers = [2**exponent for exponent in range(settings.lambdas.bit_length())]
    return {
        "rows": [settings.rows // part for part in (4, 2, 1)],
        "hidden": [(width, width) for width in (32, 64, 128, 256)],
        "k": [10, 20, 30, 40],
        "lambdas": sorted({*powers, settings.lambdas}),
    }


def curve(base: Settings, size: str, values: list[Any]) -> Table:
    """Measure a sweep for each value of ``size``."""
    rows = [_row(size, value, in_fresh_process(replace(base, **{size: value}))) for value in values]
    fixed = (f"{name} {_text(getattr(base, name))}" for name in ("rows", "hidden", "k", "lambdas") if name != size)
    notes = ["s: the sweep alone, with 2 epochs per grid point; MiB: the whole process, libraries included"]
    if size == "lambdas":
        notes.append(flatness(rows))
    return Table(f"curves: a sweep against {size} ({', '.join(fixed)})", rows, notes)


def in_fresh_process(settings: Settings) -> dict[str, float | int]:
    """Run :mod:`tests.benchmarks.sweep_measurement` in a fresh process, and return what it measures."""
    progress(f"  rows {settings.rows}, hidden {settings.hidden}, k {settings.k}, grid points {settings.lambdas}")
    command = [sys.executable, "-m", "tests.benchmarks.sweep_measurement", json.dumps(asdict(settings))]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    measured: dict[str, float | int] = json.loads(done.stdout)
    return measured


def _row(size: str, value: Any, measured: dict[str, float | int]) -> Row:
    return {
        size: value if isinstance(value, int) else _text(value),
        "parameters": measured["parameters"],
        "products": measured["matvecs"],
        "s": measured["seconds"],
        "peak, MiB": measured["peak_mib"],
    }


def _text(value: object) -> str:
    return "×".join(map(str, value)) if isinstance(value, tuple) else f"{value:,}"


def flatness(rows: list[Row]) -> str:
    """Return a sentence on whether peak memory stays the same from the fewest to the most grid points.

    It also gives the ratio of the last doubling, because leaked memory grows there too.
    """
    first, middle, last = rows[0], rows[-2], rows[-1]
    ratio, late = _peak(last) / _peak(first), _peak(last) / _peak(middle)
    verdict = "flat" if abs(ratio - 1) <= FLAT else "NOT flat"
    return (
        f"peak memory with {last['lambdas']} grid points is {ratio:.3f} times that with {first['lambdas']}: {verdict} "
        f"(within {FLAT:.0%}); it is {late:.3f} times that with {middle['lambdas']}"
    )


def _peak(row: Row) -> float:
    return float(row["peak, MiB"] or math.nan)
