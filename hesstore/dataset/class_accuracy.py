"""The worst class of a grid point. It is a file of its own because a sweep needs it, but not the analyses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def worst_class(class_accuracy: NDArray[np.float64]) -> tuple[int, float] | None:
    """Return the label of the class with the lowest accuracy, and that accuracy.

    Parameters
    ----------
    class_accuracy : array
        (C,) accuracy of each class.

    Returns
    -------
    tuple of int and float, or None
        None if all accuracies are NaN, as an import may have them.
    """
    if not np.isfinite(class_accuracy).any():
        return None
    label = int(np.nanargmin(class_accuracy))
    return label, float(class_accuracy[label])
