"""The values of one grid point as its files give them, in the order and with the signs of the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hesstore.errors import ImportFilesError
from hesstore.exporting.percentages import fraction
from hesstore.importing import readers
from hesstore.problem.state_dicts import read_weights

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from hesstore.importing.accuracy_tables import AccuracyRow
    from hesstore.importing.import_plan import ImportPlan
    from hesstore.store.schema import Point


OVERLAP = 0.1
"""The largest scalar product of two eigenvectors: more than that of coarse approximations."""


def read_values(plan: ImportPlan, point: Point) -> dict[str, Any]:
    """Read all files of a grid point; only the order of the modes and the signs of the vectors are changed.

    Raises
    ------
    ImportFilesError
        If a file does not agree with the others.
    """
    values: dict[str, Any] = {**_read_eigenpairs(plan, point)}
    if path := plan.path("gradients", point):
        values["gradient"] = np.concatenate(list(readers.read_gradients(path, plan.shapes).values()))
    if path := plan.path("weights", point):
        values["weights"] = read_flat_weights(path, plan)
    if row := plan.row(point):
        values |= _accuracy_values(row, plan.num_classes, plan.index.sources.tables[point.run.id])
        values["penalty"] = plan.penalty_of(point)
        values |= {"distance": row.distance} if plan.distance else {}
    return values


def read_flat_weights(path: Path, plan: ImportPlan) -> NDArray[np.float32]:
    """(P,) the weights in a file, whose buffers must be those of the other files."""
    weights = read_weights(path, plan.shapes, plan.statistics, plan.buffers)
    return np.concatenate([array.reshape(-1) for array in weights.values()])


def _read_eigenpairs(plan: ImportPlan, point: Point) -> dict[str, NDArray[Any]]:
    """Eigenvalues in the order of the store, and eigenvectors whose largest entry is positive."""
    values: dict[str, NDArray[Any]] = {}
    if path := plan.path("eigenvectors", point):
        vectors = _read_eigenvectors(path, plan)
        peaks = np.take_along_axis(vectors, np.abs(vectors).argmax(1)[:, None], 1)
        values["eigenvectors"] = np.where(peaks < 0, -vectors, vectors)
    if path := plan.path("eigenvalues", point):
        eigenvalues = readers.read_eigenvalues(path)
        _check_count(len(eigenvalues), plan.modes, path)
        distance = {"LM": np.abs(eigenvalues), "LA": eigenvalues, "SA": -eigenvalues}[plan.config.which]
        rank = np.argsort(-distance, kind="stable")  # NaN last
        values["eigenvalues"] = eigenvalues[rank]
        if "eigenvectors" in values:
            _check_pairs(eigenvalues, values["eigenvectors"], path)
            values["eigenvectors"] = values["eigenvectors"][rank]
    return values


def _read_eigenvectors(path: Path, plan: ImportPlan) -> NDArray[np.float32]:
    """(k, P) the eigenvectors in a file, in its order and with its signs."""
    rows: list[NDArray[np.float32]] = []
    for vector in readers.read_eigenvectors(path, plan.size):
        if len(rows) == plan.modes:
            raise ImportFilesError(f"{path}: line {len(rows) + 1}: expected only {plan.modes} lines, one per eigenpair")
        rows.append(vector)
    _check_count(len(rows), plan.modes, path)
    vectors = np.stack(rows)
    _check_orthogonality(vectors, path)
    return vectors


def _check_orthogonality(vectors: NDArray[np.float32], path: Path) -> None:
    """Raise :class:`ImportFilesError` if two of the vectors overlap, as the same vector twice does."""
    known = np.nan_to_num(vectors)
    overlaps = np.tril(np.abs(known @ known.T), -1)
    if overlaps.size and overlaps.max() > OVERLAP:
        second, first = np.unravel_index(int(overlaps.argmax()), overlaps.shape)
        raise ImportFilesError(
            f"{path}: lines {first + 1} and {second + 1} have the scalar product {overlaps.max():.3g} (in magnitude), "
            "but eigenvectors of a spectrum are orthogonal: restore the file"
        )


def _check_count(count: int, modes: int, path: Path) -> None:
    if count != modes:
        raise ImportFilesError(f"{path}: expected {modes} lines, one per eigenpair, found {count}")


def _check_pairs(eigenvalues: NDArray[np.float64], vectors: NDArray[np.float32], path: Path) -> None:
    """Raise :class:`ImportFilesError` unless exactly the eigenvectors of missing eigenvalues are missing."""
    differing = np.isnan(eigenvalues) != np.isnan(vectors).all(axis=1)
    if differing.any():
        row = int(differing.argmax())
        raise ImportFilesError(
            f"{path}: eigenvalue {row + 1} is {eigenvalues[row]:g}, but only one of it and its eigenvector is NaN: "
            "restore both files"
        )


def _accuracy_values(row: AccuracyRow, num_classes: int, path: Path) -> dict[str, Any]:
    class_accuracy = np.full((2, num_classes), np.nan)
    if row.classes:
        if len(row.classes) != num_classes:
            raise ImportFilesError(f"{path}: expected {num_classes} classes, found {len(row.classes)}")
        class_accuracy[1] = fraction(np.array(row.classes))
    return {
        "loss": np.array([row.train_loss, row.test_loss]),
        "accuracy": np.array([np.nan, fraction(np.array([row.test_accuracy]))[0]]),
        "class_accuracy": class_accuracy,
        "weights_norm": row.weights_norm,
    }
