"""The five kinds of file that the field's scripts write and read, for each run and λ of a store.

=================================== ============================================================================
``Model-ID_split_accuracy.csv``      a row a λ: losses, test accuracy and class accuracies (percent)
``Hessian-eigenvalues-ID-L2.csv``    an eigenvalue a line
``Hessian-eigenvectors-ID-L2.csv``   an eigenvector a line, P values
``gradients-ID-L2.csv``              a line a parameter: ``dL/dfc1.weight: v, v, …``
``model_weights-ID-L2.pth``          the ``state_dict``
=================================== ============================================================================
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd
import xarray as xr

from hesstore.config import L2_DECIMALS
from hesstore.errors import CorruptStoreError, ExportError
from hesstore.exporting.text import joined
from hesstore.files import write_file
from hesstore.store import open as open_store
from hesstore.store.schema import Status

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

KINDS = ("accuracy", "eigenvalues", "eigenvectors", "gradients", "weights")
LEAST_DECIMALS = 5


@dataclass(frozen=True)
class ExportSummary:
    """What an export wrote: files, their bytes, and the λ (over all chosen runs) that it skipped as not complete."""

    files: int
    bytes: int
    skipped: tuple[tuple[int, float], ...]


def export_csv(
    store: xr.Dataset | str | os.PathLike[str],
    out: str | os.PathLike[str] = "test_data",
    *,
    l2: Sequence[float] | None = None,
    runs: Sequence[int] | None = None,
    only: Sequence[str] = KINDS,
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> ExportSummary:
    """Write the files of all complete λ, or of those chosen. Each file appears whole or not at all.

    Parameters
    ----------
    store : Dataset or path
        An open store or where it is.
    out : path
        Folder of the files; made if it is not there.
    l2, runs : sequences, optional
        The λ and run IDs to export; all by default.
    only : sequence of str
        Some of :data:`KINDS`.
    force : bool
        Overwrite files that are there.
    progress : callable, optional
        Called with (files written, files in all).

    Raises
    ------
    ExportError
        Before anything is written: if a λ, run or kind is not there, nothing is complete, or a file is in the way.
    """
    ds = store if isinstance(store, xr.Dataset) else open_store(store)
    folder = Path(out).expanduser()
    if not only:
        raise ExportError(f"only: is empty: name some of {', '.join(KINDS)}")
    unknown = [kind for kind in only if kind not in KINDS]
    if unknown:
        raise ExportError(f"only: {unknown[0]!r} is not one of {', '.join(KINDS)}")
    chosen_runs, chosen = _chosen_runs(ds, runs), _chosen_l2(ds, l2)
    status = _read(ds["status"])
    position = {int(run): place for place, run in enumerate(ds["run"].values)}
    cells = [(run, index) for run in chosen_runs for index in chosen]
    complete = [(run, index) for run, index in cells if status[position[run], index] == Status.COMPLETE]
    skipped = tuple((run, float(ds["l2"].values[index])) for run, index in cells if (run, index) not in set(complete))
    if not complete:
        raise ExportError(f"none of the {len(cells)} chosen λ is complete: run the sweep first")
    files = list(_files(ds, complete, [kind for kind in KINDS if kind in only]))
    if folder.exists() and not folder.is_dir():
        raise ExportError(f"{folder}: is a file, not a folder: give another with -o")
    present = [file.name for file in files if (folder / file.name).exists()]
    if present and not force:
        raise ExportError(
            f"{folder}: {len(present)} of {len(files)} files are there already (such as {present[0]}): "
            "pass --force to overwrite them, or -o for another folder"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExportError(f"{folder}: can't be made ({error.strerror}): give another folder with -o") from None
    written = 0
    for count, file in enumerate(files, start=1):
        content = file.content()
        write_file(folder / file.name, content)
        written += len(content)
        if progress is not None:
            progress(count, len(files))
    return ExportSummary(len(files), written, skipped)


def l2_decimals(grid: NDArray[np.float64]) -> int:
    """Decimals that file names give λ: 5, or as many as it takes to tell all of ``grid`` apart."""
    decimals = LEAST_DECIMALS
    while len({f"{value:.{decimals}f}" for value in grid}) < len(grid):
        decimals += 1
    return decimals


@dataclass(frozen=True)
class _File:
    """A file to be: its name, and a function that makes its bytes when its turn comes."""

    name: str
    content: Callable[[], bytes]


class _Writer(Protocol):
    def __call__(self, ds: xr.Dataset, run: int, index: int) -> bytes: ...


def _files(ds: xr.Dataset, cells: list[tuple[int, int]], kinds: list[str]) -> Iterator[_File]:
    grid = ds["l2"].values
    decimals = l2_decimals(grid)
    per_l2: dict[str, tuple[str, _Writer]] = {
        "eigenvalues": ("Hessian-eigenvalues-{}-{}.csv", _eigenvalues),
        "eigenvectors": ("Hessian-eigenvectors-{}-{}.csv", _eigenvectors),
        "gradients": ("gradients-{}-{}.csv", _gradients),
        "weights": ("model_weights-{}-{}.pth", _weights),
    }
    if "accuracy" in kinds:
        for run in dict.fromkeys(run for run, _ in cells):
            rows = [index for cell_run, index in cells if cell_run == run]
            yield _File(f"Model-{run}_split_accuracy.csv", lambda run=run, rows=rows: _accuracy(ds, run, rows))  # type: ignore[misc]
    for run, index in cells:
        for kind in kinds:
            if kind in per_l2:
                pattern, writer = per_l2[kind]
                name = pattern.format(run, f"{grid[index]:.{decimals}f}")
                yield _File(name, lambda w=writer, r=run, i=index: w(ds, r, i))  # type: ignore[misc]


def _accuracy(ds: xr.Dataset, run: int, rows: list[int]) -> bytes:
    part = ds.sel(run=run).isel(l2=sorted(rows))
    loss, penalty, confusion = (_read(part[name]) for name in ("loss", "penalty", "confusion"))
    train_loss, test_loss = loss.T
    counts = confusion[:, 1].astype(np.float64)
    hits, totals = np.diagonal(counts, axis1=1, axis2=2), counts.sum(axis=2)
    with np.errstate(invalid="ignore"):  # a class without rows has no accuracy: 0/0 is NaN
        class_percent = 100 * hits / totals
    columns = {
        "L2_strength": part["l2"].values,
        "Train_Loss": train_loss,
        "Train_Reg_Loss": train_loss + penalty,
        "Test_Loss": test_loss,
        "Test_Accuracy": 100 * hits.sum(axis=1) / totals.sum(axis=1),
    }
    for position, label in enumerate(part["label"].values):
        columns[f"Class_{label}_Accuracy"] = class_percent[:, position]
    return pd.DataFrame(columns).to_csv(index=False, na_rep="nan", lineterminator="\n").encode()


def _read(array: xr.DataArray) -> NDArray[Any]:
    """The values of ``array``; a damaged chunk, or a missing one of what must be finite, is an error of its own."""
    try:
        values: NDArray[Any] = array.values
    except (ValueError, RuntimeError) as error:
        raise CorruptStoreError(f"{array.name}: {error}") from error
    if array.name in {"weights", "gradient", "loss", "penalty"} and not np.isfinite(values).all():
        where = ", ".join(f"{name} {array[name].values}" for name in ("run", "l2") if name in array.coords)
        raise CorruptStoreError(f"{array.name} at {where}: missing or damaged")
    return values


def _eigenvalues(ds: xr.Dataset, run: int, index: int) -> bytes:
    return joined(_read(ds["eigenvalues"].sel(run=run)[index]), b"\n") + b"\n"


def _eigenvectors(ds: xr.Dataset, run: int, index: int) -> bytes:
    vectors = _read(ds["eigenvectors"].sel(run=run)[index])
    return b"".join(joined(vector, b",") + b"\n" for vector in vectors)


def _gradients(ds: xr.Dataset, run: int, index: int) -> bytes:
    gradient = _read(ds["gradient"].sel(run=run)[index])
    lines = []
    for name, _, where in _parameters(ds):
        lines.append(b"dL/d" + name.encode() + b": " + joined(gradient[where], b", ") + b"\n")
    return b"".join(lines)


def _weights(ds: xr.Dataset, run: int, index: int) -> bytes:
    import torch  # noqa: PLC0415 - the other kinds need no torch

    weights = _read(ds["weights"].sel(run=run)[index])
    state = {name: torch.from_numpy(weights[where].reshape(shape)) for name, shape, where in _parameters(ds)}
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def _parameters(ds: xr.Dataset) -> Iterator[tuple[str, tuple[int, ...], slice]]:
    """Name, shape and place in the flat vector of each parameter."""
    start = 0
    for name, shape in parameter_shapes(ds):
        size = int(np.prod(shape, dtype=np.int64))
        yield name, shape, slice(start, start + size)
        start += size


def parameter_shapes(ds: xr.Dataset) -> list[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the network's parameters, in ``state_dict`` order."""
    return [(name, tuple(shape)) for name, shape in json.loads(ds.attrs["identity"])["parameters"]]


def _chosen_runs(ds: xr.Dataset, runs: Sequence[int] | None) -> list[int]:
    there = [int(run) for run in ds["run"].values]
    missing = [run for run in runs or () if run not in there]
    if missing:
        raise ExportError(f"run {missing[0]} is not in the store: it has {', '.join(map(str, there))}")
    return list(dict.fromkeys(runs)) if runs else there


def _chosen_l2(ds: xr.Dataset, l2: Sequence[float] | None) -> list[int]:
    grid = ds["l2"].values
    if l2 is None:
        return list(range(len(grid)))
    chosen = []
    for value in l2:
        hits = np.flatnonzero(grid == round(value, L2_DECIMALS))
        if not len(hits):
            nearest = grid[np.abs(grid - value).argmin()]
            raise ExportError(f"λ = {value:g} is not in the store: the nearest is {nearest:.10g}")
        chosen.append(int(hits[0]))
    return sorted(set(chosen))
