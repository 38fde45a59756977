"""Part ``export``: eigenvectors as CSV, by hesstore's export and by functions that write one matrix.

It measures seconds per grid point, the rate, and peak memory.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import hesstore
from tests.benchmarks.operation_counts import num_parameters
from tests.benchmarks.overlap import make_store
from tests.benchmarks.result_tables import Table, progress

if TYPE_CHECKING:
    from tests.benchmarks.benchmark_settings import Settings
    from tests.benchmarks.result_tables import Row

ROOT = Path(__file__).resolve().parents[2]
Matrix = NDArray[np.float32]


def savetxt9(path: Path, vectors: Matrix) -> None:
    """Write with 9 decimals, as the original scripts do."""
    np.savetxt(path, vectors, fmt="%.9f", delimiter=",")


def savetxt(path: Path, vectors: Matrix) -> None:
    """Write with NumPy's default format, which loses no digit."""
    np.savetxt(path, vectors, delimiter=",")


def to_csv(path: Path, vectors: Matrix) -> None:
    """Write with pandas."""
    pd.DataFrame(vectors).to_csv(path, header=False, index=False)


OTHERS: dict[str, tuple[Callable[[Path, Matrix], None], float]] = {
    "np.savetxt, %.9f": (savetxt9, 2e-9),
    "np.savetxt": (savetxt, 0.0),
    "pandas to_csv": (to_csv, 0.0),
}
"""The other writers of a matrix, each with the largest error allowed in the numbers that it writes."""


def run(settings: Settings) -> Iterator[Table]:
    """Yield the times of all writers, then the peak memory of exports of more and more grid points."""
    parameters = num_parameters((784, *settings.hidden, 10))
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "vectors.zarr"
        progress(f"  making a store of {settings.lambdas} grid points")
        make_store(store, settings.lambdas, settings.k, parameters)
        yield compare(store, settings.lambdas, settings.repeats)
        yield memory(store, settings.lambdas)


def compare(store: Path, lambdas: int, repeats: int) -> Table:
    """Time and check all writers in turn, ``repeats`` times."""
    vectors = hesstore.open(store)["eigenvectors"].isel(run=0, l2=0).values
    seconds: dict[str, list[float]] = {}
    sizes: dict[str, int] = {}
    right: dict[str, bool] = {}
    for _ in range(repeats):
        with tempfile.TemporaryDirectory(dir=store.parent) as folder:
            _time_hesstore(store, Path(folder), lambdas, vectors, (seconds, sizes, right))
            _time_disk(Path(folder), next(iter(sizes.values())), seconds, sizes)
            for name, (write, off) in OTHERS.items():
                path = Path(folder) / "matrix.csv"
                seconds.setdefault(name, []).append(_timed(lambda write=write, path=path: write(path, vectors)))  # type: ignore[misc]
                sizes[name] = path.stat().st_size
                right[name] = right.get(name, True) and bool(_error(path, vectors) <= off)
    best = median(seconds["hesstore"])
    rows: list[Row] = [
        {
            "writer": name,
            "s per grid point": median(times) if right.get(name, True) else None,
            "MB/s": sizes[name] / median(times) / 1e6 if right.get(name, True) else None,
            "× hesstore": median(times) / best,
            "result": "right" if right.get(name, True) else "WRONG",
        }
        for name, times in seconds.items()
    ]
    notes = [
        f"hesstore: {lambdas} grid points from the store to files, with checksums, a manifest, and all files flushed",
        "other writers: one matrix from memory, not flushed to the disk",
        "the disk: the same number of bytes, written and flushed",
    ]
    return Table(f"export: eigenvectors as text, {vectors.shape[0]} × {vectors.shape[1]:,} per grid point", rows, notes)


def _time_hesstore(
    store: Path,
    folder: Path,
    lambdas: int,
    vectors: Matrix,
    found: tuple[dict[str, list[float]], dict[str, int], dict[str, bool]],
) -> None:
    seconds, sizes, right = found
    os.sync()
    taken = _timed(lambda: hesstore.export(store, folder / "out", only=["eigenvectors"]))
    first = min((folder / "out").glob("*.csv"))
    seconds.setdefault("hesstore", []).append(taken / lambdas)
    sizes["hesstore"] = first.stat().st_size
    right["hesstore"] = _error(first, vectors) == 0


def _time_disk(folder: Path, size: int, seconds: dict[str, list[float]], sizes: dict[str, int]) -> None:
    data = b"0" * size
    os.sync()

    def write() -> None:
        with (folder / "zeros").open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    seconds.setdefault("the disk", []).append(_timed(write))
    sizes["the disk"] = size


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _error(path: Path, vectors: Matrix) -> float:
    """Return the largest error in the first line, or infinity if the line has the wrong length."""
    with path.open() as file:
        first = np.array(file.readline().split(","), dtype=np.float32)
    return float(np.abs(first.astype(np.float64) - vectors[0]).max()) if len(first) == vectors.shape[1] else np.inf


EXPORT_SCRIPT = """
import sys, tempfile
from pathlib import Path
from hesstore.exporting import export
from hesstore.store import open
ds = open(sys.argv[1], chunked=False).isel(l2=slice(int(sys.argv[2])))
with tempfile.TemporaryDirectory(dir=Path(sys.argv[1]).parent) as folder:
    export(ds, folder, only=["eigenvectors"])
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(int(status["VmHWM"].split()[0]) / 1024)
"""
"""The code of a process that exports a store without importing PyTorch, and prints its peak memory in MiB."""


def memory(store: Path, lambdas: int) -> Table:
    """Measure the peak memory of exports of a quarter, a half and all of the grid points."""
    counts = sorted({max(1, lambdas // part) for part in (4, 2, 1)})
    rows: list[Row] = [{"grid points": count, "peak, MiB": measure(store, count)} for count in counts]
    return Table("export: peak memory", rows, [])


def measure(store: Path, count: int) -> float:
    """Return the peak memory, in MiB, of a fresh process that exports ``count`` grid points."""
    command = [sys.executable, "-c", EXPORT_SCRIPT, str(store), str(count)]
    return float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT).stdout)
