"""The files that the original scripts write and read.

=================================== ============================================================================
``Model-ID_split_accuracy.csv``      one row per λ: losses, test accuracy and class accuracies (in percent)
``Hessian-eigenvalues-ID-L2.csv``    one eigenvalue per line
``Hessian-eigenvectors-ID-L2.csv``   one eigenvector per line, with P values
``gradients-ID-L2.csv``              one line per parameter: ``dL/dfc1.weight: v, v, …``
``model_weights-ID-L2.pth``          the ``state_dict``
=================================== ============================================================================
"""

from __future__ import annotations

import zlib
from functools import partial
from typing import TYPE_CHECKING

import pandas as pd

from hesstore.analysis.selection import matrix_name
from hesstore.config.l2_grid import AXIS
from hesstore.dataset.networks import parameter_slices
from hesstore.dataset.point_selection import read
from hesstore.exporting.checkpoints import weight_files
from hesstore.exporting.compression import open_for_writing, suffix
from hesstore.exporting.file_names import value_texts
from hesstore.exporting.number_text import number_text
from hesstore.exporting.output_folder import File
from hesstore.exporting.percentages import percent
from hesstore.store.schema import axis_of

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
}
GGN_PATTERNS = {
    **PATTERNS,
    "eigenvalues": "GGN-eigenvalues-{}-{}.csv",
    "eigenvectors": "GGN-eigenvectors-{}-{}.csv",
}
"""The names in a store of the Gauss–Newton part's eigenpairs, which must not be taken for those of the Hessian."""
LOSSES = ("Train_Loss", "Train_Reg_Loss", "Test_Loss")
REG_LOSSES = ("full", "objective")
"""What ``Train_Reg_Loss`` adds to ``Train_Loss``: λ‖θ‖², as in the published tables, or the objective's own penalty."""

_BLOCK = 4 << 20  # values of eigenvectors that are read together
_BYTES_PER_ROW = 250
_SAMPLE = 100_000  # values from which the size of a file is estimated


def classic_files(
    selection: PointSelection, kinds: Sequence[str], compress: str | None, reg_loss: str
) -> Iterator[File]:
    """The files of the given ``kinds``, which are some of :data:`KINDS`; ``reg_loss`` is one of :data:`REG_LOSSES`."""
    if "accuracy" in kinds:
        yield from _accuracy_files(selection, compress, reg_loss)
    contents: dict[str, tuple[str, Callable[[PointSelection, Point], Iterable[bytes | memoryview]]]] = {
        "eigenvalues": ("eigenvalues", _eigenvalue_lines),
        "eigenvectors": ("eigenvectors", _eigenvector_lines),
        "gradients": ("gradient", _gradient_lines),
    }
    texts = value_texts(selection.ds[axis_of(selection.ds)])
    patterns = PATTERNS if matrix_name(selection.ds) == "Hessian" else GGN_PATTERNS
    for kind, (variable, lines) in contents.items():
        points = selection.points_with(kind) if kind in kinds and variable in selection.ds else ()
        size = _estimate(selection, variable, points[0], compress) if points else 0
        for point in points:
            yield File(
                name=patterns[kind].format(point.run.id, texts[point.index]) + suffix(compress),
                kind=kind,
                source=selection.source([point]),
                estimate=size,
                write=partial(_write, parts=partial(lines, selection, point), compress=compress),
            )
    if "weights" in kinds:
        yield from weight_files(selection, "pth")


def _write(path: Path, parts: Callable[[], Iterable[bytes | memoryview]], compress: str | None) -> None:
    with open_for_writing(path, compress) as file:
        for part in parts():
            file.write(part)


def _estimate(selection: PointSelection, variable: str, point: Point, compress: str | None) -> float:
    """The approximate size of one file in bytes, from the text of some of its values."""
    array = selection.array(variable, point)
    sample = read(array[(0,) * (array.ndim - 1)])[:_SAMPLE]
    text: bytes | memoryview = number_text(sample, b",")
    if compress:
        text = zlib.compress(text, 1)
    return len(text) / max(1, sample.size) * float(array.size)


def _accuracy_files(selection: PointSelection, compress: str | None, reg_loss: str) -> Iterator[File]:
    by_run: dict[int, list[Point]] = {}
    for point in selection.points_with("accuracy"):
        by_run.setdefault(point.run.id, []).append(point)
    for run, points in by_run.items():
        yield File(
            name=ACCURACY.format(run) + suffix(compress),
            kind="accuracy",
            source=selection.source(points),
            estimate=_BYTES_PER_ROW * len(points),
            write=partial(_write, parts=partial(_accuracy_table, selection, run, points, reg_loss), compress=compress),
            reg_loss=reg_loss,
        )


def _accuracy_table(selection: PointSelection, run: int, points: Sequence[Point], reg_loss: str) -> Iterator[bytes]:
    axis = axis_of(selection.ds)
    part = selection.ds.sel(run=run).isel({axis: [point.index for point in points]})
    loss, penalty, accuracy, class_accuracy = (
        read(part[name], gaps=selection.is_import) for name in ("loss", "penalty", "accuracy", "class_accuracy")
    )
    # The penalty is c·λ‖θ‖² with c = 1/2 or 1, so that the division has no rounding error.
    added = penalty / part.attrs["penalty_scale"] if reg_loss == "full" else penalty
    columns: dict[str, NDArray[np.float64]] = {
        ("L2_strength" if axis == AXIS else axis): part[axis].values,
        **dict(zip(LOSSES, (loss[:, 0], loss[:, 0] + added, loss[:, 1]), strict=True)),
        "Test_Accuracy": percent(accuracy[:, 1]),
    }
    for position, label in enumerate(part["label"].values):
        columns[f"Class_{label}_Accuracy"] = percent(class_accuracy[:, 1, position])
    yield pd.DataFrame(columns).to_csv(index=False, na_rep="nan", lineterminator="\n").encode()


def _eigenvalue_lines(selection: PointSelection, point: Point) -> Iterator[bytes | memoryview]:
    yield number_text(read(selection.array("eigenvalues", point)), b"\n")
    yield b"\n"


def _eigenvector_lines(selection: PointSelection, point: Point) -> Iterator[bytes | memoryview]:
    array = selection.array("eigenvectors", point)
    step = max(1, _BLOCK // max(1, array.shape[1]))
    for block in selection.blocks("eigenvectors", point, step):
        for vector in block:
            yield number_text(vector, b",")
            yield b"\n"


def _gradient_lines(selection: PointSelection, point: Point) -> Iterator[bytes | memoryview]:
    (gradient,) = selection.blocks("gradient", point, selection.ds.sizes["param"])
    for name, _, where in parameter_slices(selection.ds.attrs):
        yield f"dL/d{name}: ".encode()
        yield number_text(gradient[where], b", ")
        yield b"\n"
