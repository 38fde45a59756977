"""Part ``overlap``: time and peak memory of the overlap map of all pairs of grid points.

Each size is measured in a fresh process.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

import hesstore
from hesstore.analysis import overlap_map
from hesstore.store import Status, SweepStore
from tests.benchmarks.machine import peak_resident_mib
from tests.benchmarks.operation_counts import num_parameters
from tests.benchmarks.result_tables import Table, progress
from tests.support.scale import ANALYSED, FITTED, spec, values

if TYPE_CHECKING:
    from tests.benchmarks.benchmark_settings import Settings
    from tests.benchmarks.result_tables import Row

ROOT = Path(__file__).resolve().parents[2]


def run(settings: Settings) -> Iterator[Table]:
    """Yield the table, for a quarter, a half and all of ``settings.lambdas`` grid points."""
    counts = sorted({max(2, settings.lambdas // part) for part in (4, 2, 1)})
    yield compare(counts, settings.k, num_parameters((784, *settings.hidden, 10)))


def compare(counts: list[int], k: int, parameters: int) -> Table:
    """Measure the map for each number of grid points."""
    rows = [_row(count, k, parameters) for count in counts]
    notes = [
        "vectors are random and compress less than real ones; each grid point shares all but one with the previous one",
        "right: grid points n steps apart share k − n vectors, so their overlap is 1 − n/k, or chance for n ≥ k",
        "GFLOP/s: counts the products of all pairs of grid points, each pair once",
        "--lambdas 451 is the grid of the paper; it needs 6.4 GB in the temporary folder",
    ]
    return Table(f"overlap: all pairs of grid points, first {k} eigenvectors, {parameters:,} parameters", rows, notes)


def _row(count: int, k: int, parameters: int) -> Row:
    progress(f"  {count} grid points")
    command = [sys.executable, "-m", "tests.benchmarks.overlap", str(count), str(k), str(parameters)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    measured: dict[str, float] = json.loads(done.stdout)
    right = measured["error"] <= 1e-4 + 5 * k / parameters
    flop = count * (count + 1) * k * k * parameters
    return {
        "grid points": count,
        "s": measured["seconds"] if right else None,
        "GFLOP/s": flop / measured["seconds"] / 1e9 if right else None,
        "peak, MiB": measured["peak_mib"],
        "largest error": measured["error"],
        "result": "right" if right else "WRONG",
    }


def measure(count: int, k: int, parameters: int) -> dict[str, float]:
    """Return the seconds, the peak memory of this process, and the largest error of the map of a new store."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vectors.zarr"
        make_store(path, count, k, parameters)
        began = time.perf_counter()
        found = overlap_map(hesstore.open(path), k)["overlap"].values
        seconds = time.perf_counter() - began
    steps = np.abs(np.arange(count)[:, None] - np.arange(count))
    error = float(np.abs(found - np.maximum(0, 1 - steps / k)).max())
    return {"seconds": seconds, "peak_mib": peak_resident_mib(), "error": error}


def make_store(path: Path, count: int, k: int, parameters: int) -> None:
    """Make a store of one run in which each grid point differs from the previous one in one eigenvector.

    The new vector is random and orthogonal to all vectors of the previous grid point.
    """
    rng = np.random.default_rng(0)
    store = SweepStore.create(path, spec(count, parameters, k))
    vectors = np.linalg.qr(rng.standard_normal((parameters, k)))[0].T.astype(np.float32)
    others = values(store, (name for name in (*FITTED, *ANALYSED) if name != "eigenvectors"), rng)
    (run,) = store.runs
    with store.claim(run):
        for index in range(count):
            store.record(run, index, Status.COMPLETE, {**others, "eigenvectors": vectors})
            fresh = rng.standard_normal(parameters).astype(np.float32)
            fresh -= vectors.T @ (vectors @ fresh)
            vectors = vectors.copy()
            vectors[index % k] = fresh / np.linalg.norm(fresh)


if __name__ == "__main__":
    click.echo(json.dumps(measure(*map(int, sys.argv[1:4]))))
