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

from functools import partial
from typing import TYPE_CHECKING

import pandas as pd

from hesstore.dataset.networks import parameter_slices
from hesstore.dataset.point_selection import read
from hesstore.exporting.checkpoints import weight_files
from hesstore.exporting.compression import opened, suffix
from hesstore.exporting.file_names import l2_texts
from hesstore.exporting.output_folder import File
from hesstore.exporting.percent import percent
from hesstore.exporting.text import joined

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from hesstore.dataset.point_selection import PointSelection
    from hesstore.store.schema import Point

KINDS = ("accuracy", "eigenvalues", "eigenvectors", "gradients", "weights")
ACCURACY = "Model-{}_split_accuracy.csv"
PATTERNS = {
    "eigenvalues": "Hessian-eigenvalues-{}-{}.csv",
    "eigenvectors": "Hessian-eigenvectors-{}-{}.csv",
    "gradients": "gradients-{}-{}.csv",
    "weights": "model_weights-{}-{}.pth",
}
LOSSES = ("Train_Loss", "Train_Reg_Loss", "Test_Loss")

_BLOCK = 4 << 20  # values of eigenvectors that are read at once
_BYTES_A_ROW = 250


def classic_files(selection: PointSelection, kinds: Sequence[str], compress: str | None) -> Iterator[File]:
    """The files of the ``kinds`` that are asked for."""
    if "accuracy" in kinds:
        yield from _accuracy_files(selection, compress)
    texts: dict[str, tuple[str, Callable[[PointSelection, Point], Iterable[bytes | memoryview]]]] = {
        "eigenvalues": ("eigenvalues", _eigenvalues),
        "eigenvectors": ("eigenvectors", _eigenvectors),
        "gradients": ("gradient", _gradients),
    }
    names = l2_texts(selection.ds["l2"].values)
    for kind, (variable, parts) in texts.items():
        points = selection.points_with(kind) if kind in kinds else ()
        size = _estimate(selection, variable, points[0], compress) if points else 0
        for point in points:
            yield File(
                name=PATTERNS[kind].format(point.run.id, names[point.index]) + suffix(compress),
                kind=kind,
                source=selection.source([point]),
                estimate=size,
                write=partial(_write, parts=partial(parts, selection, point), compress=compress),
            )
    if "weights" in kinds:
        yield from weight_files(selection, "pth")


def _write(path: Path, parts: Callable[[], Iterable[bytes | memoryview]], compress: str | None) -> None:
    with opened(path, compress) as file:
        for part in parts():
            file.write(part)


def _estimate(selection: PointSelection, variable: str, point: Point, compress: str | None) -> float:
    """About the bytes of one λ's file, from the text of a few of its values."""
    array = selection.array(variable, point)
    sample = read(array[(0,) * (array.ndim - 1)])[:100_000]
    text: bytes | memoryview = joined(sample, b",")
    if compress:
        import zlib  # noqa: PLC0415

        text = zlib.compress(text, 1)
    return len(text) / max(1, sample.size) * float(array.size)


def _accuracy_files(selection: PointSelection, compress: str | None) -> Iterator[File]:
    by_run: dict[int, list[Point]] = {}
    for point in selection.points_with("accuracy"):
        by_run.setdefault(point.run.id, []).append(point)
    for run, points in by_run.items():
        yield File(
            name=ACCURACY.format(run) + suffix(compress),
            kind="accuracy",
            source=selection.source(points),
            estimate=_BYTES_A_ROW * len(points),
            write=partial(
                _write, parts=partial(_accuracy, selection, run, [point.index for point in points]), compress=compress
            ),
        )


def _accuracy(selection: PointSelection, run: int, rows: list[int]) -> Iterator[bytes]:
    part = selection.ds.sel(run=run).isel(l2=rows)
    loss, penalty, accuracy, class_accuracy = (
        read(part[name], gaps=selection.is_import) for name in ("loss", "penalty", "accuracy", "class_accuracy")
    )
    columns: dict[str, NDArray[np.float64]] = {
        "L2_strength": part["l2"].values,
        **dict(zip(LOSSES, (loss[:, 0], loss[:, 0] + penalty, loss[:, 1]), strict=True)),
        "Test_Accuracy": percent(accuracy[:, 1]),
    }
    for position, label in enumerate(part["label"].values):
        columns[f"Class_{label}_Accuracy"] = percent(class_accuracy[:, 1, position])
    yield pd.DataFrame(columns).to_csv(index=False, na_rep="nan", lineterminator="\n").encode()


def _eigenvalues(selection: PointSelection, point: Point) -> Iterator[bytes | memoryview]:
    yield joined(read(selection.array("eigenvalues", point)), b"\n")
    yield b"\n"


def _eigenvectors(selection: PointSelection, point: Point) -> Iterator[bytes | memoryview]:
    array = selection.array("eigenvectors", point)
    modes, size = array.shape
    step = max(1, _BLOCK // max(1, size))
    for first in range(0, modes, step):
        for vector in read(array[first : first + step]):
            yield joined(vector, b",")
            yield b"\n"


def _gradients(selection: PointSelection, point: Point) -> Iterator[bytes | memoryview]:
    gradient = read(selection.array("gradient", point))
    for name, _, where in parameter_slices(selection.ds.attrs):
        yield f"dL/d{name}: ".encode()
        yield joined(gradient[where], b", ")
        yield b"\n"
