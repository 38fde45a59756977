"""How far imported numbers are from those that were computed from the imported weights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from hesstore.analysis.subspaces import span_distance
from hesstore.importing.transfer import values_of
from hesstore.store.schema import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from hesstore.importing.import_plan import Cell, Plan
    from hesstore.store.schema import Run
    from hesstore.store.writing import SweepStore


@dataclass(frozen=True)
class Difference:
    """Of one quantity, over all λ that have it in both.

    Attributes
    ----------
    quantity, unit : str
        What, and in which unit.
    count : int
        λ that were compared.
    median, largest : float
        Of the differences.
    run, l2 : int, float
        Where it is largest.
    """

    quantity: str
    unit: str
    count: int
    median: float
    largest: float
    run: int
    l2: float


def differences(plan: Plan, store: SweepStore) -> tuple[Difference, ...]:
    """The differences at all λ whose computation is complete; reads the files again."""
    found: dict[tuple[str, str], list[tuple[float, Cell]]] = {}
    position = {float(l2): index for index, l2 in enumerate(store.l2)}
    for cell in plan.cells:
        run, index = store.runs[cell[0]], position[cell[1]]
        if plan.has("weights", cell) and store.status(run)[index] == Status.COMPLETE:
            imported = values_of(plan, cell)
            for what, value in _of(imported, partial(_read, store, run, index)):
                found.setdefault(what, []).append((value, cell))
    return tuple(_summary(what, values) for what, values in found.items())


def _read(store: SweepStore, run: Run, index: int, name: str) -> NDArray[Any]:
    return store.read(name, run, index)


def _summary(what: tuple[str, str], values: list[tuple[float, Cell]]) -> Difference:
    numbers = [value for value, _ in values]
    largest = int(np.argmax(numbers))
    run, l2 = values[largest][1]
    return Difference(*what, len(numbers), float(np.median(numbers)), numbers[largest], run, l2)


def _of(imported: dict[str, Any], stored: Callable[[str], NDArray[Any]]) -> Iterator[tuple[tuple[str, str], float]]:
    if "eigenvalues" in imported:
        own = stored("eigenvalues")
        count = min(len(own), len(imported["eigenvalues"]))
        off = np.abs(imported["eigenvalues"][:count] - own[:count])
        yield ("eigenvalues", "of |μ₁|"), float(np.nanmax(off) / abs(own[0]))
    if "eigenvectors" in imported:
        yield (
            ("span of the eigenvectors", "1 − overlap"),
            span_distance(imported["eigenvectors"], stored("eigenvectors")),
        )
    if "gradient" in imported:
        own = stored("gradient").astype(np.float64)
        norm = float(np.linalg.norm(own)) or 1.0
        yield ("gradient", "of its norm"), float(np.linalg.norm(imported["gradient"] - own)) / norm
    for name, column, position in (("training loss", "loss", 0), ("test loss", "loss", 1)):
        if column in imported and np.isfinite(imported[column][position]):
            yield (name, "nat"), abs(float(imported[column][position] - stored(column)[position]))
    if "accuracy" in imported and np.isfinite(imported["accuracy"][1]):
        yield ("test accuracy", "points"), 100 * abs(float(imported["accuracy"][1] - stored("accuracy")[1]))
    if "class_accuracy" in imported and np.isfinite(imported["class_accuracy"][1]).any():
        off = np.abs(imported["class_accuracy"][1] - stored("class_accuracy")[1])
        yield ("class accuracies", "points"), 100 * float(np.nanmax(off))
