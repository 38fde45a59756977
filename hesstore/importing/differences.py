"""How much imported numbers differ from those that are computed from the imported weights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from hesstore.analysis.subspaces import one_minus_overlap
from hesstore.importing.point_values import read_values
from hesstore.store.schema import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from hesstore.importing.import_plan import ImportPlan
    from hesstore.store.schema import Point
    from hesstore.store.writing import SweepStore


@dataclass(frozen=True)
class Difference:
    """The differences of one quantity between files and store, over all grid points where both have it.

    Attributes
    ----------
    quantity, unit : str
        Name of the quantity, and unit of the differences.
    count : int
        Number of grid points that were compared.
    median, largest : float
        Median and maximum of the differences.
    run, l2 : int, float
        Run ID and λ of the grid point with the largest difference.
    """

    quantity: str
    unit: str
    count: int
    median: float
    largest: float
    run: int
    l2: float


def compare_with_files(plan: ImportPlan, store: SweepStore) -> tuple[Difference, ...]:
    """Read the files again and compare them with the computed results at all grid points that are complete."""
    found: dict[tuple[str, str], list[tuple[float, Point]]] = {}
    for point in plan.points:
        if plan.path("weights", point) and store.status(point.run)[point.index] == Status.COMPLETE:
            imported = read_values(plan, point)
            for what, value in _point_differences(imported, partial(_read, store, point)):
                found.setdefault(what, []).append((value, point))
    return tuple(_summary(what, values) for what, values in found.items())


def _read(store: SweepStore, point: Point, name: str) -> NDArray[Any]:
    return store.read(name, point.run, point.index)


def _summary(what: tuple[str, str], values: list[tuple[float, Point]]) -> Difference:
    numbers = [value for value, _ in values]
    largest = int(np.argmax(numbers))
    point = values[largest][1]
    return Difference(*what, len(numbers), float(np.median(numbers)), numbers[largest], point.run.id, point.value)


def _point_differences(
    imported: dict[str, Any], stored: Callable[[str], NDArray[Any]]
) -> Iterator[tuple[tuple[str, str], float]]:
    """Quantity, unit and difference, for each quantity in the files of one grid point."""
    if "eigenvalues" in imported:
        own = stored("eigenvalues")
        count = min(len(own), len(imported["eigenvalues"]))
        off = np.abs(imported["eigenvalues"][:count] - own[:count])
        yield ("eigenvalues", "relative to |μ₁|"), float(np.nanmax(off) / abs(own[0]))
    if "eigenvectors" in imported:
        distance = one_minus_overlap(imported["eigenvectors"], stored("eigenvectors"))
        yield ("span of the eigenvectors", "1 − overlap"), distance
    if "gradient" in imported:
        own = stored("gradient").astype(np.float64)
        norm = float(np.linalg.norm(own)) or 1.0
        yield ("gradient", "relative to its norm"), float(np.linalg.norm(imported["gradient"] - own)) / norm
    for name, column, position in (("training loss", "loss", 0), ("test loss", "loss", 1)):
        if column in imported and np.isfinite(imported[column][position]):
            yield (name, "nat"), abs(float(imported[column][position] - stored(column)[position]))
    if "accuracy" in imported and np.isfinite(imported["accuracy"][1]):
        off = abs(float(imported["accuracy"][1] - stored("accuracy")[1]))
        yield ("test accuracy", "percentage points"), 100 * off
    if "class_accuracy" in imported and np.isfinite(imported["class_accuracy"][1]).any():
        off = np.abs(imported["class_accuracy"][1] - stored("class_accuracy")[1])
        yield ("class accuracies", "percentage points"), 100 * float(np.nanmax(off))
