"""A custom data set: 178 wines of three cultivars with 13 measurements each, from scikit-learn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def load() -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Return training inputs and labels, and test inputs and labels.

    They are the same at every call, because the store records their digest.
    """
    x, y = load_wine(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(x, y, test_size=0.3, stratify=y, random_state=0)
    scaler = StandardScaler().fit(train_x)  # the test rows must not influence the training data
    return scaler.transform(train_x), train_y, scaler.transform(test_x), test_y
