"""The outcome of one task, on its way from the worker that computed it to the store and to the observer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hesstore.dataset.class_accuracy import worst_class
from hesstore.store.schema import Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from hesstore.engine.events import Facts
    from hesstore.store.schema import Point


@dataclass(frozen=True)
class Outcome:
    """The outcome of one fit or analysis.

    Attributes
    ----------
    point : Point
        The grid point.
    status : Status
        The new status of the grid point: fitted, complete or failed.
    values : mapping
        The values to record, by variable.
    facts : dict
        The facts to report to the observer.
    arrays_digest : int, optional
        The digest of the grid point's large arrays, if the worker has already written them to the store. ``values``
        then has small variables only.
    """

    point: Point
    status: Status
    values: Mapping[str, Any]
    facts: Facts
    arrays_digest: int | None = None

    @classmethod
    def failed(cls, point: Point, reason: str) -> Outcome:
        """The outcome of a task that failed for ``reason``."""
        return cls(point, Status.FAILED, {"failure": reason}, {"reason": reason})


def accuracy_facts(test_accuracy: float, class_accuracy: NDArray[np.float64]) -> Facts:
    """The facts about a fitted grid point: its accuracy on the test set and its worst class there.

    Raises
    ------
    ValueError
        If all test accuracies by class (C,) are NaN.
    """
    worst = worst_class(class_accuracy)
    if worst is None:
        raise ValueError("the test accuracies of all classes are NaN")
    label, accuracy = worst
    return {"test_accuracy": test_accuracy, "worst_class": label, "worst_class_accuracy": accuracy}
