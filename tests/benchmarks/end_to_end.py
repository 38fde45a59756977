"""One λ from initial weights to the eigenvectors' CSV file, what a sweep spends beside that, and what codecs cost."""

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
from tests.benchmarks import original
from tests.benchmarks.accuracy import Spectrum, by_magnitude, residuals, training_loss, within_tolerance
from tests.benchmarks.contestants import Contestant
from tests.benchmarks.problem import DATASET, L2, ROWS_VARIABLE, Problem, digits, untrained
from tests.benchmarks.report import Table, with_ratio
from tests.benchmarks.solvers import TOL, Solver, by_eigsh
from tests.benchmarks.timing import Entry, Timing, interleave

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from tests.benchmarks.report import Row
    from tests.benchmarks.settings import Settings

EPOCHS = 6
SWEEP_L2 = (0.0, L2, 2 * L2)


@dataclass(frozen=True)
class Outcome:
    """Weights, pairs, and the lines and bytes of the CSV file."""

    theta: Tensor
    spectrum: Spectrum
    lines: int
    bytes: int


def sweep_config(settings: Settings, l2: tuple[float, ...], **values: object) -> SweepConfig:
    """A sweep over the benchmark's digits, for a fixed number of epochs at each λ."""
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
    """One λ against the original's way; then the shares of a small sweep, and codecs on its eigenvectors."""
    digits(settings.rows)  # made before anything is timed
    yield one_l2(settings)
    yield from shares(settings)


def one_l2(settings: Settings) -> Table:
    """Time and check each way to do one λ."""
    problem = untrained(settings.rows, settings.hidden, settings.device)
    entries = [Entry("hesstore (sweep, export)", partial(_in_temporary_folder, partial(hesstore_way, settings)))]
    if not settings.skip_original:
        way = partial(original_way, problem, settings.k)
        entries.append(Entry("original (DataLoader, eigsh, savetxt)", partial(_in_temporary_folder, way), most=1))
    timings = interleave(entries, min(settings.repeats, 3), device=problem.device, warm_up=False)
    rows = [_row(problem, settings.k, timing) for timing in timings]
    notes = [
        f"{EPOCHS} epochs, top {settings.k} to {TOL:g}, eigenvectors as CSV; imports and making digits are not counted",
        "right: the loss fell, residuals from float64 products are in tolerance, and the file has a line a vector",
        "hesstore stores gradient, weights and metrics too, and writes all digits; the original writes 9 decimals",
    ]
    return Table(f"end-to-end: one λ at {settings.rows:,} rows", with_ratio(rows, "s"), notes)


def _in_temporary_folder(way: Callable[[Path], Outcome]) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        return way(Path(folder))


def hesstore_way(settings: Settings, folder: Path) -> Outcome:
    """A sweep of one λ and an export of its eigenvectors."""
    store, out = folder / "one.zarr", folder / "csv"
    run_sweep(sweep_config(settings, (L2,)), store)
    export(store, out, only=["eigenvectors"])
    ds = open_store(store).isel(run=0, l2=0).load()
    spectrum = by_magnitude(*(torch.from_numpy(ds[name].values) for name in ("eigenvalues", "eigenvectors")))
    return _outcome(torch.from_numpy(ds["weights"].values).to(settings.device), spectrum, next(out.iterdir()))


def original_way(problem: Problem, k: int, folder: Path) -> Outcome:
    """Epochs over a DataLoader, eigsh on products over a DataLoader, ``np.savetxt``."""
    module = problem.module()
    original.train(module, original.loader(problem, shuffle=True), EPOCHS)
    theta = torch.nn.utils.parameters_to_vector(module.parameters()).detach()
    product = original.double_backward(module, original.loader(problem, shuffle=False), len(problem.y))
    spectrum = Solver("", Contestant("", lambda _: product), by_eigsh).run(problem, k).spectrum
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
        "contestant": timing.name,
        "s": timing.median if right else None,
        "times": len(timing.seconds),
        "loss after": loss,
        "residual / |μ|": float((residual / result.spectrum.eigenvalues.abs()).max()),
        "CSV, MB": result.bytes / 1e6,
        "result": "right" if right else "WRONG",
    }


def shares(settings: Settings) -> Iterator[Table]:
    """Where the wall time of a sweep of three λ goes; then what codecs make of its eigenvectors."""
    opened: list[float] = []

    def observer(event: SweepEvent) -> None:
        if event.phase == "opened":
            opened.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        store, began = Path(folder) / "three.zarr", time.perf_counter()
        run_sweep(sweep_config(settings, SWEEP_L2), store, observer=observer)
        wall, preparing = time.perf_counter() - began, opened[0] - began
        ds = open_store(store).load()
        alone = store_again(ds, store)
    fits, analyses = float(ds["fit_seconds"].sum()), float(ds["analysis_seconds"].sum())
    parts = {
        "preparing: data, network, template of the store": preparing,
        "fits": fits,
        "analyses: gradient and spectrum": analyses,
        "metrics, and storing that nothing hid": wall - preparing - fits - analyses,
        "all": wall,
    }
    again = (
        f"the same records written again with nothing beside: {alone:.2f} s, a share of {alone / wall:.4f}; during the "
        "sweep that happens beside fits and analyses, and takes processor time from them"
    )
    yield Table(
        f"end-to-end: where a sweep of {len(SWEEP_L2)} λ spends its time",
        [{"part": name, "s": seconds, "share": seconds / wall} for name, seconds in parts.items()],
        [f"complete: {_complete(ds)} of {len(SWEEP_L2)} λ, from the store", again],
    )

    yield codecs(ds["eigenvectors"].to_numpy()[0])


CODECS = (("lz4", 5), ("lz4", 1), ("zstd", 1), ("zstd", 3))


def codecs(eigenvectors: NDArray[np.float32]) -> Table:
    """Time and size of Blosc's codecs on eigenvectors (λ, mode, parameter), each vector by itself as in a store."""
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
                "write, ms a λ": seconds[0] / len(eigenvectors) * 1e3 if right else None,
                "read, ms a λ": seconds[1] / len(eigenvectors) * 1e3 if right else None,
                "size": sum(map(len, encoded)) / eigenvectors.nbytes,
                "result": "right" if right else "WRONG",
            }
        )
    return Table("end-to-end: Blosc's codecs on these eigenvectors, bytes shuffled", rows, ["the store's is the first"])


def store_again(ds: xr.Dataset, path: Path) -> float:
    """Seconds to record all λ of ``ds`` once more, one after the other."""
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
