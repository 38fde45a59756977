"""Inputs and targets as tensors, from tensors, arrays, a Dataset or a DataLoader."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from hesstore.custom_code import running_user_code
from hesstore.errors import DataError, first_line
from hesstore.problem.array_conversion import to_tensor

if TYPE_CHECKING:
    from hesstore.problem.models import Inputs

BATCH_ROWS = 256
"""Number of rows that are read from a Dataset together."""

TARGETS = "labels"
"""The key of the targets in batches that are dicts."""


@dataclass(frozen=True)
class Rows:
    """The rows of a data set.

    Attributes
    ----------
    inputs : Tensor or tuple of Tensor
        The inputs, (N, …) each.
    keywords : tuple of str
        The names of the inputs, if they are arguments by name.
    y : Tensor
        The targets, (N, …).
    """

    inputs: Inputs
    keywords: tuple[str, ...]
    y: Tensor

    def to(self, device: torch.device, dtype: torch.dtype) -> Rows:
        """Return the rows on a device, with floating-point inputs in ``dtype``."""

        def moved(part: Tensor) -> Tensor:
            return part.to(device, dtype if part.is_floating_point() else part.dtype)

        inputs = tuple(map(moved, self.inputs)) if isinstance(self.inputs, tuple) else moved(self.inputs)
        return Rows(inputs, self.keywords, self.y.to(device))


def load_rows(x: Any, y: Any = None) -> Rows:
    """Return the rows of data in any of the forms that :class:`~hesstore.Hessian` takes.

    Raises
    ------
    DataError
        If there are no rows, if parts differ in length, if values are not numbers or not finite, or if batches are not
        pairs of inputs and targets.
    """
    if y is None:
        x, y = _gather(x)
    inputs, keywords = _inputs(x)
    targets = _tensor(y, "y")
    parts = dict(zip(keywords or ("x",) * len(inputs), inputs, strict=True))
    for name, part in parts.items():
        if not part.dim() or len(part) != (len(targets) if targets.dim() else -1):
            raise DataError(
                f"{name}: inputs {tuple(part.shape)} do not match targets {tuple(targets.shape)} row by row"
            )
    if not len(targets):
        raise DataError("x: there are no rows")
    for name, part in (*parts.items(), ("y", targets)):
        bad = int((~torch.isfinite(part)).sum()) if part.is_floating_point() else 0
        if bad:
            raise DataError(f"{name}: {bad} values are NaN or infinite: clean them first")
    several = keywords or isinstance(x, tuple)
    return Rows(tuple(inputs) if several else inputs[0], keywords, targets)


def _inputs(x: Any) -> tuple[list[Tensor], tuple[str, ...]]:
    """The inputs as tensors, and their names if they have some."""
    if isinstance(x, Mapping):
        if not x:
            raise DataError("x: an empty dict: pass the inputs of the network by name")
        return [_tensor(part, f"x[{name!r}]") for name, part in x.items()], tuple(map(str, x))
    if isinstance(x, tuple):
        if not x:
            raise DataError("x: an empty tuple: pass the inputs of the network")
        return [_tensor(part, f"x[{place}]") for place, part in enumerate(x)], ()
    if isinstance(x, list) and any(isinstance(part, Tensor) for part in x):
        raise DataError("x: a list of tensors: pass a tuple if they are several inputs, or torch.stack(x) if rows")
    return [_tensor(x, "x")], ()


def _tensor(part: Any, what: str) -> Tensor:
    if not isinstance(part, Tensor):
        return to_tensor(part, what)
    if part.layout != torch.strided or part.is_meta or part.is_nested:
        raise DataError(f"{what} is not a dense tensor with values: pass .to_dense() or a padded tensor")
    return part.detach()


def _gather(data: Any) -> tuple[Any, Any]:
    """The inputs and targets of all batches, joined."""
    if isinstance(data, (Tensor, Mapping, str)) or hasattr(data, "__array__") or not _is_data(data):
        raise DataError("y: missing: pass inputs and targets, or a Dataset or DataLoader of both")
    name = type(data).__name__
    with running_user_code(name, DataError), torch.random.fork_rng(devices=[]):
        if isinstance(data, Dataset) and not isinstance(data, IterableDataset):
            data = DataLoader(data, batch_size=BATCH_ROWS)
        pairs = [_pair(batch, name) for batch in data]
    if not pairs:
        raise DataError(f"{name}: there are no rows")
    inputs = [pair[0] for pair in pairs]
    if isinstance(inputs[0], Mapping):
        x: Any = {key: _join([each[key] for each in inputs], name) for key in inputs[0]}
    elif isinstance(inputs[0], (tuple, list)):
        x = tuple(_join(list(parts), name) for parts in zip(*inputs, strict=True))
    else:
        x = _join(inputs, name)
    return x, _join([pair[1] for pair in pairs], name)


def _is_data(data: Any) -> bool:
    return isinstance(data, (Dataset, DataLoader, Iterable))


def _pair(batch: Any, name: str) -> tuple[Any, Any]:
    """The inputs and the targets of a batch."""
    if isinstance(batch, Mapping):
        if TARGETS not in batch or len(batch) < 2:
            raise DataError(f"{name}: its batches are dicts without {TARGETS!r}: give inputs by name, and {TARGETS!r}")
        return {key: part for key, part in batch.items() if key != TARGETS}, batch[TARGETS]
    if isinstance(batch, (tuple, list)) and len(batch) == 2:
        return batch[0], batch[1]
    what = f"{type(batch).__name__} of {len(batch)}" if isinstance(batch, (tuple, list)) else type(batch).__name__
    raise DataError(f"{name}: its batches are {what}, not (inputs, targets): several inputs are one tuple or dict")


def _join(parts: list[Any], name: str) -> Tensor:
    tensors = [_tensor(part, name) for part in parts]
    if not all(part.dim() for part in tensors):
        raise DataError(f"{name}: yields single rows, not batches: pass it through a DataLoader")
    try:
        return torch.cat(tensors)
    except (RuntimeError, TypeError) as error:
        raise DataError(f"{name}: batches can't be joined ({first_line(error)}): pad them to one length") from error
