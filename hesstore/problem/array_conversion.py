"""Converts the arrays, data frames, tensors or lists that a custom data set returns to tensors.

What can't be converted raises a :class:`DataError` that says how to prepare the data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from hesstore.errors import DataError, first_line

if TYPE_CHECKING:
    from numpy.typing import NDArray

_HOW_TO_ENCODE = "number the classes 0, 1, … with np.unique(y, return_inverse=True)[1] or scikit-learn's LabelEncoder"


def to_inputs(part: Any, what: str) -> Tensor:
    """Convert ``part`` to floating point: to float32, unless it already has a floating type.

    Parameters
    ----------
    part : array-like
        (N, …) numbers.
    what : str
        How messages name it.

    Raises
    ------
    DataError
        If it is not an array of real numbers.
    """
    x = to_tensor(part, what)
    if x.is_complex():
        raise DataError(f"{what} are complex: give real and imaginary parts as two values")
    return x if x.is_floating_point() else x.to(torch.float32)


def to_labels(part: Any, what: str) -> Tensor:
    """Convert ``part`` to int64; whole numbers in floating point are accepted.

    Parameters
    ----------
    part : array-like
        (N,) whole numbers.
    what : str
        How messages name it.

    Raises
    ------
    DataError
        If it is not a vector of whole numbers.
    """
    if not isinstance(part, Tensor) and (array := _plain(part)).dtype.kind not in "biufc":
        raise DataError(f"{what} are {_example(array)}, not whole numbers: {_HOW_TO_ENCODE}")
    y = to_tensor(part, what)
    if y.ndim != 1:
        raise DataError(f"{what} have the shape {tuple(y.shape)}, not (N,): {_flattening(y)}")
    if y.is_complex() or (y.is_floating_point() and not bool((y == y.round()).all())):
        raise DataError(f"{what} are not whole numbers: {_HOW_TO_ENCODE}")
    return y.long()


def count_classes(y: Tensor, what: str) -> int:
    """Return the number of classes in labels ``y`` (N,), which must be 0, 1, … without gaps.

    Parameters
    ----------
    y : Tensor
        (N,) labels.
    what : str
        How messages name them.

    Raises
    ------
    DataError
        If there is a gap, or no label.
    """
    found = sorted(set(y.tolist()))
    count = len(found)
    if not count:
        raise DataError(f"{what}: there are no labels: the split is empty")
    if found == list(range(count)):
        return count
    shown = ", ".join(map(str, found[:6])) + (", …" if count > 6 else "")
    how = _HOW_TO_ENCODE
    if found == list(range(found[0], found[0] + count)) and found[0] > 0:
        how = f"give y - {found[0]}, in both splits"
    raise DataError(f"{what} are {shown}, not 0 to {count - 1}: {how}")


def to_tensor(part: Any, what: str) -> Tensor:
    """Convert ``part`` to a tensor on the CPU, in its own type.

    Raises
    ------
    DataError
        If it is not an array of numbers; ``what`` is how the message names it.
    """
    if hasattr(part, "toarray"):
        raise DataError(f"{what} are sparse: give them as .toarray()")
    if np.ma.is_masked(part):
        raise DataError(f"{what} have masked values: fill them, or leave out their rows")
    try:
        array = np.asarray(part.detach().cpu()) if isinstance(part, Tensor) else _plain(part)
        if array.dtype == object:
            array = array.astype(np.float64)  # so that the error names the value
        return torch.from_numpy(np.require(array, array.dtype.newbyteorder("="), ["C", "W"]))
    except (TypeError, ValueError) as error:
        raise DataError(f"{what} are not an array of numbers ({first_line(error)})") from error


def _plain(part: Any) -> NDArray[Any]:
    """Return ``part`` as an array; pandas returns its nullable numbers as objects, which become float64."""
    array = np.asarray(part)
    is_numbers = array.dtype == object and all(isinstance(value, (int, float)) for value in array.flat)
    return array.astype(np.float64) if is_numbers else array


def _example(array: NDArray[Any]) -> str:
    return f"such as {str(array.flat[0])!r}" if array.size else str(array.dtype)


def _flattening(y: Tensor) -> str:
    """Say how to prepare labels that have several axes."""
    if y.ndim == 2 and y.shape[1] == 1:
        return "give y.ravel()"
    if y.ndim == 2 and bool((y.sum(1) == 1).all()) and bool(((y == 0) | (y == 1)).all()):
        return "give y.argmax(1)"
    return "the order is (train_x, train_y, test_x, test_y), which is not that of scikit-learn's train_test_split"
