"""From what a factory of data gives, arrays, data frames, tensors or lists, to tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from hesstore.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ENCODE = "number the classes 0, 1, … by np.unique(y, return_inverse=True)[1] or scikit-learn's LabelEncoder"


def inputs(part: Any, what: str) -> Tensor:
    """``part`` in floating point: float32, unless it has another floating type.

    Parameters
    ----------
    part : array-like
        (N, …) numbers.
    what : str
        What messages call it.

    Raises
    ------
    DataError
        If it is no array of real numbers.
    """
    x = _tensor(part, what)
    if x.is_complex():
        raise DataError(f"{what} are complex: give real and imaginary parts as two values")
    return x if x.is_floating_point() else x.to(torch.float32)


def labels(part: Any, what: str) -> Tensor:
    """``part`` as int64; floating-point numbers that are whole are taken for whole numbers.

    Raises
    ------
    DataError
        If it is no vector of whole numbers.
    """
    if not isinstance(part, Tensor) and (array := _plain(part)).dtype.kind not in "biufc":
        raise DataError(f"{what} are {_example(array)}, not whole numbers: {_ENCODE}")
    y = _tensor(part, what)
    if y.ndim != 1:
        raise DataError(f"{what} have the shape {tuple(y.shape)}, not (N,): {_flattening(y)}")
    if y.is_complex() or (y.is_floating_point() and not bool((y == y.round()).all())):
        raise DataError(f"{what} are not whole numbers: {_ENCODE}")
    return y.long()


def count_classes(y: Tensor, what: str) -> int:
    """How many classes ``y`` (N,) numbers from 0, none left out.

    Raises
    ------
    DataError
        If it leaves out any, or is empty.
    """
    found = sorted(set(y.tolist()))
    count = len(found)
    if not count:
        raise DataError(f"{what}: there are none: the split is empty")
    if found == list(range(count)):
        return count
    shown = ", ".join(map(str, found[:6])) + (", …" if count > 6 else "")
    how = _ENCODE
    if found == list(range(found[0], found[0] + count)) and found[0] > 0:
        how = f"give y - {found[0]}, of both splits"
    raise DataError(f"{what} are {shown}, not 0 to {count - 1}: {how}")


def _tensor(part: Any, what: str) -> Tensor:
    if hasattr(part, "toarray"):
        raise DataError(f"{what} are sparse: give them as .toarray()")
    if np.ma.is_masked(part):
        raise DataError(f"{what} have masked values: fill them, or leave out their rows")
    try:
        array = np.asarray(part.detach().cpu()) if isinstance(part, Tensor) else _plain(part)
        if array.dtype == object:
            array = array.astype(np.float64)  # the reason then names the value
        return torch.from_numpy(np.require(array, array.dtype.newbyteorder("="), ["C", "W"]))
    except (TypeError, ValueError) as error:
        reason = str(error).splitlines()[0].rstrip(".:")
        raise DataError(f"{what} are not an array of numbers ({reason})") from error


def _plain(part: Any) -> NDArray[Any]:
    """As an array; pandas gives its nullable numbers as objects."""
    array = np.asarray(part)
    is_numbers = array.dtype == object and all(isinstance(value, (int, float)) for value in array.flat)
    return array.astype(np.float64) if is_numbers else array


def _example(array: NDArray[Any]) -> str:
    return f"such as {str(array.flat[0])!r}" if array.size else str(array.dtype)


def _flattening(y: Tensor) -> str:
    """What to do about labels with several axes."""
    if y.ndim == 2 and y.shape[1] == 1:
        return "give y.ravel()"
    if y.ndim == 2 and bool((y.sum(1) == 1).all()) and bool(((y == 0) | (y == 1)).all()):
        return "give y.argmax(1)"
    return "the order is (train_x, train_y, test_x, test_y), which is not that of scikit-learn's train_test_split"
