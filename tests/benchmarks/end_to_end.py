"""Part ``end-to-end``: one grid point from initial weights to the CSV file of its eigenvectors.

It also measures where a small sweep spends its time, and what compression costs.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import xarray as xr
from numcodecs import Blosc

from hesstore import SweepConfig, SweepEvent, export, run_sweep
from hesstore import open as open_store
from hesstore.store import Status
from hesstore.store.writing import SweepStore
from tests.benchmarks import original_method
from tests.benchmarks.accuracy import Spectrum, by_magnitude, residuals, training_loss, within_tolerance
from tests.benchmarks.digit_problem import DATASET, L2, ROWS_VARIABLE, Problem, digits, untrained
from tests.benchmarks.hessian_products import Implementation
from tests.benchmarks.result_tables import Table, with_ratio
from tests.benchmarks.solvers import TOL, Solver, by_eigsh
from tests.benchmarks.timing import Entry, Timing, interleave

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from tests.benchmarks.benchmark_settings import Settings
    from tests.benchmarks.result_tables import Row

EPOCHS = 6
SWEEP_L2 = (0.0, L2, 2 * L2)


@dataclass(frozen=True)
class Outcome:
    """Weights, eigenpairs, and the number of lines and bytes of the CSV file."""

    theta: Tensor
    spectrum: Spectrum
    lines: int
    bytes: int


def sweep_config(settings: Settings, l2: tuple[float, ...], **values: object) -> SweepConfig:
    """Return the config of a sweep over the benchmark's digits, with a fixed number of epochs per grid point."""
    os.environ[ROWS_VARIABLE] = str(settings.rows)
    return SweepConfig.from_mapping(
        {
            "dataset": DATASET,
            "hidden": settings.hidden,
            "l2": l2,
            "epochs": EPOCHS,
            "patience": EPOCHS,
            "k": settings.k,
            "tol": TOL,
            "device": settings.device,
            **values,
        }
    )


def run(settings: Settings) -> Iterator[Table]:
    """Yield one grid point against the original method, the time shares of a small sweep, and its codecs."""
    digits(settings.rows)  # cached before anything is timed
    yield one_grid_point(settings)
    yield from time_shares(settings)


def one_grid_point(settings: Settings) -> Table:
    """Time and check each way to compute one grid point."""
    problem = untrained(settings.rows, settings.hidden, settings.device)
    entries = [Entry("hesstore (sweep, export)", partial(_in_temporary_folder, partial(hesstore_way, settings)))]
    if not settings.skip_original:
        way = partial(original_way, problem, settings.k)
        entries.append(Entry("original (DataLoader, eigsh, savetxt)", partial(_in_temporary_folder, way), max_rounds=1))
    timings = interleave(entries, min(settings.repeats, 3), device=problem.device, warm_up=False)
    rows = [_row(problem, settings.k, timing) for timing in timings]
    notes = [
        f"{EPOCHS} epochs, top {settings.k} to {TOL:g}, eigenvectors as CSV; imports and data are not timed",
        "right: the loss fell, residual norms in float64 are within tolerance, and the file has one line per vector",
        "hesstore also stores gradient, weights and metrics, and writes all digits; the original writes 9 decimals",
    ]
    return Table(f"end-to-end: one grid point at {settings.rows:,} rows", with_ratio(rows, "s"), notes)


def _in_temporary_folder(way: Callable[[Path], Outcome]) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        return way(Path(folder))


def hesstore_way(settings: Settings, folder: Path) -> Outcome:
    """Run a sweep of one grid point, and export its eigenvectors."""
    store, out = folder / "one.zarr", folder / "csv"
    run_sweep(sweep_config(settings, (L2,)), store)
    export(store, out, only=["eigenvectors"])
    ds = open_store(store).isel(run=0, l2=0).load()
    spectrum = by_magnitude(*(torch.from_numpy(ds[name].values) for name in ("eigenvalues", "eigenvectors")))
    return _outcome(torch.from_numpy(ds["weights"].values).to(settings.device), spectrum, next(out.iterdir()))


def original_way(problem: Problem, k: int, folder: Path) -> Outcome:
    """Train with a DataLoader, call ``eigsh`` on products with a DataLoader, and write with ``np.savetxt``."""
    module = problem.module()
    original_method.train(module, original_method.loader(problem, shuffle=True), EPOCHS)
    theta = torch.nn.utils.parameters_to_vector(module.parameters()).detach()
    product = original_method.double_backward(module, original_method.loader(problem, shuffle=False), len(problem.y))
    spectrum = Solver("", Implementation("", lambda _: product), by_eigsh).run(problem, k).spectrum
    file = folder / "eigenvectors.csv"
    np.savetxt(file, spectrum.eigenvectors.numpy(), fmt="%.9f", delimiter=",")
    return _outcome(theta, spectrum, file)


def _outcome(theta: Tensor, spectrum: Spectrum, file: Path) -> Outcome:
    content = file.read_bytes()
    return Outcome(theta, spectrum, content.count(b"\n"), len(content))


def _row(problem: Problem, k: int, timing: Timing[Outcome]) -> Row:
    result = timing.result
    residual = residuals(problem, result.spectrum, result.theta)
    loss, before = (training_loss(problem, problem.module(theta)) for theta in (result.theta, problem.theta))
    right = loss < before and result.lines == k and within_tolerance(result.spectrum, residual, TOL)
    return {
        "implementation": timing.name,
        "s": timing.median if right else None,
        "rounds": len(timing.seconds),
        "loss after": loss,
        "residual / |μ|": float((residual / result.spectrum.eigenvalues.abs()).max()),
        "CSV, MB": result.bytes / 1e6,
        "result": "right" if right else "WRONG",
    }


def time_shares(settings: Settings) -> Iterator[Table]:
    """Yield the time shares of a sweep of three grid points, then the codecs on its eigenvectors."""
    opened: list[float] = []

    def observer(event: SweepEvent) -> None:
        if event.phase == "opened":
            opened.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        store, began = Path(folder) / "three.zarr", time.perf_counter()
        run_sweep(sweep_config(settings, SWEEP_L2), store, observer=observer)
        wall, preparing = time.perf_counter() - began, opened[0] - began
        ds = open_store(store).load()
        alone = record_again(ds, store)
    fits, analyses = float(ds["fit_seconds"].sum()), float(ds["analysis_seconds"].sum())
    parts = {
        "preparing: data, network, template of the store": preparing,
        "fits": fits,
        "analyses: gradient and spectrum": analyses,
        "metrics, and storing not hidden by other work": wall - preparing - fits - analyses,
        "total": wall,
    }
    again = (
        f"recording the same results again, with no other work: {alone:.2f} s, a share of {alone / wall:.4f}; "
        "the sweep records during fits and analyses, which takes processor time from them"
    )
    yield Table(
        f"end-to-end: where a sweep of {len(SWEEP_L2)} grid points spends its time",
        [{"part": name, "s": seconds, "share": seconds / wall} for name, seconds in parts.items()],
        [f"complete: {_complete(ds)} of {len(SWEEP_L2)} grid points, as the store says", again],
    )

    yield codecs(ds["eigenvectors"].to_numpy()[0])


CODECS = (("lz4", 5), ("lz4", 1), ("zstd", 1), ("zstd", 3))


def codecs(eigenvectors: NDArray[np.float32]) -> Table:
    """Measure time and size of Blosc's codecs on eigenvectors (λ, mode, parameter).

    Each vector is compressed separately, as in a store.
    """
    rows: list[Row] = []
    for name, level in CODECS:
        codec = Blosc(name, level, Blosc.SHUFFLE)
        codec.encode(eigenvectors[0, 0])
        began = time.perf_counter()
        encoded = [codec.encode(vector) for l2 in eigenvectors for vector in l2]
        middle = time.perf_counter()
        decoded = [codec.decode(chunk) for chunk in encoded]
        seconds = middle - began, time.perf_counter() - middle
        right = b"".join(decoded) == eigenvectors.tobytes()
        rows.append(
            {
                "codec": f"{name} {level}",
                "write, ms per grid point": seconds[0] / len(eigenvectors) * 1e3 if right else None,
                "read, ms per grid point": seconds[1] / len(eigenvectors) * 1e3 if right else None,
                "size": sum(map(len, encoded)) / eigenvectors.nbytes,
                "result": "right" if right else "WRONG",
            }
        )
    return Table(
        "end-to-end: Blosc's codecs on these eigenvectors, bytes shuffled", rows, ["stores use the first codec"]
    )


def record_again(ds: xr.Dataset, path: Path) -> float:
    """Record all grid points of ``ds`` again, one after the other, and return the seconds that it takes."""
    store = SweepStore.open(path)
    (run,) = store.runs
    cells = [
        {str(name): cell.to_numpy()[()] for name, cell in ds.isel(run=0, l2=i).items()} for i in range(ds.sizes["l2"])
    ]
    fitted = ("weights", "loss", "accuracy", "class_accuracy", "confusion", "penalty", "epochs", "fit_seconds")
    own = {"status", "digest", "entries_digest", "failure"}
    began = time.perf_counter()
    with store.claim(run):
        for index, cell in enumerate(cells):
            written = {name: value for name, value in cell.items() if name not in own}
            store.record(run, index, Status.FITTED, {name: written.pop(name) for name in fitted})
            store.record(run, index, Status.COMPLETE, written)
    return time.perf_counter() - began


def _complete(ds: xr.Dataset) -> int:
    return int((ds["status"] == 2).sum())
