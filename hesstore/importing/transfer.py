"""Filling a store from files, one λ after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hesstore.errors import ImportFilesError
from hesstore.exporting.percent import fraction
from hesstore.importing import readers
from hesstore.store.schema import Status
from hesstore.store.writing import PROMISES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from hesstore.importing.import_plan import Cell, Plan
    from hesstore.store.schema import StoreSpec


def nothing(spec: StoreSpec) -> dict[str, Any]:
    """What each variable says at a λ of which nothing is known."""
    sizes, empty = spec.sizes, {}
    for variable in (each for each in spec.variables if each.name not in PROMISES):
        shape = tuple(sizes[dim] for dim in variable.dims[2:])
        empty[variable.name] = "" if variable.dtype == "string" else np.full(shape, variable.fill, variable.dtype)
    return empty


def values_of(plan: Plan, cell: Cell) -> dict[str, Any]:
    """All that the files say of one λ, by variable, in the store's order and signs; nothing else is changed.

    Raises
    ------
    ImportFilesError
        If a file is not what the others let expect.
    """
    found: dict[str, Any] = {}
    pairs: list[NDArray[Any] | None] = [None, None]
    if path := plan.paths["eigenvalues"].get(cell):
        pairs[0] = _checked(readers.eigenvalues(path), plan.modes, path)
    if path := plan.paths["eigenvectors"].get(cell):
        pairs[1] = _checked(_stacked(path, plan), plan.modes, path)
    found |= _in_order(*pairs, which=plan.config.which)
    if path := plan.paths["gradients"].get(cell):
        found["gradient"] = np.concatenate(list(readers.gradients(path, plan.shapes).values()))
    if path := plan.paths["weights"].get(cell):
        found["weights"] = weights_of(plan, path)
    if plan.has("accuracy", cell):
        found |= _of_row(plan, cell)
    return found


def weights_of(plan: Plan, path: Path) -> NDArray[np.float32]:
    """(P,) the weights in a file, flat."""
    return np.concatenate([array.reshape(-1) for array in readers.weights(path, plan.shapes).values()])


def _stacked(path: Path, plan: Plan) -> NDArray[np.float32]:
    rows: list[NDArray[np.float32]] = []
    for vector in readers.eigenvectors(path, plan.size):
        if len(rows) == plan.modes:
            raise ImportFilesError(f"{path}: line {len(rows) + 1}: is one too many, {plan.modes} were expected")
        rows.append(vector)
    return np.stack(rows)


def _checked(values: NDArray[Any], k: int, path: Path) -> NDArray[Any]:
    if len(values) != k:
        raise ImportFilesError(f"{path}: has {len(values)} lines, {k} were expected, one an eigenpair")
    return values


def _in_order(
    eigenvalues: NDArray[np.float64] | None, vectors: NDArray[np.float32] | None, *, which: str
) -> dict[str, NDArray[Any]]:
    """Pairs with the wanted end first, and vectors whose largest entry is positive."""
    found: dict[str, NDArray[Any]] = {}
    if vectors is not None:
        peaks = np.take_along_axis(vectors, np.abs(vectors).argmax(1)[:, None], 1)
        vectors = np.where(peaks < 0, -vectors, vectors)
        found["eigenvectors"] = vectors
    if eigenvalues is not None:
        distance = {"LM": np.abs(eigenvalues), "LA": eigenvalues, "SA": -eigenvalues}[which]
        rank = np.argsort(-distance, kind="stable")  # NaN last
        found["eigenvalues"] = eigenvalues[rank]
        if vectors is not None:
            found["eigenvectors"] = vectors[rank]
    return found


def _of_row(plan: Plan, cell: Cell) -> Mapping[str, Any]:
    row = plan.rows[cell]
    classes = np.full((2, plan.classes), np.nan)
    if row.classes:
        if len(row.classes) != plan.classes:
            path = plan.sources.tables[cell[0]]
            raise ImportFilesError(f"{path}: has {len(row.classes)} classes, {plan.classes} were expected")
        classes[1] = fraction(np.array(row.classes))
    return {
        "loss": np.array([row.train_loss, row.test_loss]),
        "penalty": _difference(row.train_reg_loss, row.train_loss),
        "accuracy": np.array([np.nan, fraction(np.array([row.test_accuracy]))[0]]),
        "class_accuracy": classes,
    }


def _difference(total: float, part: float) -> float:
    """What added to ``part`` gives ``total``, to the last bit if there is such a number."""
    near = total - part
    for candidate in (near, np.nextafter(near, np.inf), np.nextafter(near, -np.inf)):
        if part + candidate == total:
            return float(candidate)
    return near


def status_of(plan: Plan, cell: Cell) -> Status:
    """Complete; or fitted, if the rest is to be computed."""
    return Status.FITTED if plan.recompute and plan.has("weights", cell) else Status.COMPLETE
