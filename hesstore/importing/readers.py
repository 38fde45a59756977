"""Readers for one file of each kind. An error names the file, the line, and what was expected there."""

from __future__ import annotations

import csv
import io
import math
import re
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np
import polars as pl

from hesstore.config.l2_grid import L2_DECIMALS
from hesstore.errors import ImportFilesError, first_line
from hesstore.importing.text_lines import read_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

Shapes = dict[str, tuple[int, ...]]
"""The shapes of the parameters by name, in the order of the ``state_dict``."""

COLUMNS = ("L2_strength", "Train_Loss", "Train_Reg_Loss", "Test_Loss", "Test_Accuracy")
_CLASS = re.compile(r"Class_(\d+)_Accuracy")
_WRAPPERS = ("state_dict", "model_state_dict", "model")


class AccuracyRow(NamedTuple):
    """A row of ``Model-ID_split_accuracy.csv``; NaN where the table has no value. Accuracies are in percent."""

    train_loss: float
    train_reg_loss: float
    test_loss: float
    test_accuracy: float
    classes: tuple[float, ...]


class AccuracyTable(NamedTuple):
    """The rows of ``Model-ID_split_accuracy.csv`` by λ, and the number of classes that have a column."""

    rows: dict[float, AccuracyRow]
    num_classes: int


# -- eigenvalues, eigenvectors and gradients --------------------------------------------------------------


def read_eigenvalues(path: Path) -> NDArray[np.float64]:
    """(k,) the eigenvalues, one per line."""
    return np.array([_number(text, path, number) for number, text in read_lines(path)])


def read_eigenvectors(path: Path, parameters: int | None = None) -> Iterator[NDArray[np.float32]]:
    """The eigenvectors, one per line, each (P,); P is ``parameters``, or else the length of the first line."""
    for number, line in read_lines(path):
        count = line.count(b",") + 1
        parameters = parameters or count
        if count != parameters:
            raise ImportFilesError(f"{path}: line {number}: expected {parameters} values, found {count}")
        yield _numbers(line, path, number)


def read_gradients(path: Path, shapes: Shapes | None = None) -> dict[str, NDArray[np.float32]]:
    """The values of each parameter, flat, by name; if ``shapes`` is given, names and sizes must agree with it."""
    found: dict[str, NDArray[np.float32]] = {}
    expected = list(shapes or ())
    for number, line in read_lines(path):
        head, colon, rest = line.partition(b":")
        name = head.decode(errors="replace").strip().removeprefix("dL/d")
        if not colon or not head.strip().startswith(b"dL/d"):
            raise ImportFilesError(f"{path}: line {number}: expected dL/dNAME: at the beginning, found {_short(line)}")
        if shapes is not None and (len(found) >= len(expected) or name != expected[len(found)]):
            wanted = expected[len(found)] if len(found) < len(expected) else "the end of the file"
            raise ImportFilesError(f"{path}: line {number}: expected {wanted}, found the parameter {name!r}")
        if name in found:
            raise ImportFilesError(f"{path}: line {number}: second line for the parameter {name!r}")
        found[name] = _numbers(rest, path, number)
        if shapes is not None and len(found[name]) != math.prod(shapes[name]):
            raise ImportFilesError(
                f"{path}: line {number}: expected {math.prod(shapes[name])} values of {name}, found {len(found[name])}"
            )
    if len(found) < len(expected):
        raise ImportFilesError(f"{path}: the file ends after {len(found)} lines: expected {expected[len(found)]} next")
    return found


# -- weights ----------------------------------------------------------------------------------------------


def read_weights(path: Path, shapes: Shapes | None = None) -> dict[str, NDArray[np.float32]]:
    """The parameters by name; if ``shapes`` is given, names and shapes must agree with it, and it gives the order.

    The state dict may be wrapped, as in ``{"state_dict": …}``, and all of its keys may begin with ``module.``, a
    prefix that data-parallel training adds. Nothing but tensors is unpickled.
    """
    loaded = _load(path)
    for wrapper in _WRAPPERS:
        if isinstance(loaded, dict) and isinstance(loaded.get(wrapper), dict):
            loaded = loaded[wrapper]
    if not isinstance(loaded, dict) or not loaded:
        raise ImportFilesError(f"{path}: expected a state_dict, found {type(loaded).__name__}")
    if all(str(key).startswith("module.") for key in loaded):
        loaded = {str(key).removeprefix("module."): value for key, value in loaded.items()}
    found = {str(key): _array(value, path, str(key)) for key, value in loaded.items()}
    if shapes is None:
        return found
    unknown, missing = [key for key in found if key not in shapes], [key for key in shapes if key not in found]
    if unknown:
        raise ImportFilesError(f"{path}: unknown key {unknown[0]!r}: expected the keys {', '.join(shapes)}")
    if missing:
        raise ImportFilesError(f"{path}: missing key {missing[0]!r}: expected the keys {', '.join(shapes)}")
    for key, shape in shapes.items():
        if found[key].shape != shape:
            raise ImportFilesError(f"{path}: {key}: expected the shape {shape}, found {found[key].shape}")
    return {key: found[key] for key in shapes}


def _load(path: Path) -> Any:
    if path.suffix == ".safetensors":
        return _load_safetensors(path)
    import torch  # noqa: PLC0415 - the other kinds of file do not need it

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - decoding a file of another kind can raise anything
        raise ImportFilesError(
            f"{path}: cannot be loaded with weights_only=True ({first_line(error)}): save its state_dict()"
        ) from None


def _load_safetensors(path: Path) -> Any:
    try:
        from safetensors import SafetensorError  # noqa: PLC0415 - an optional dependency
        from safetensors.torch import load_file  # noqa: PLC0415
    except ImportError:
        raise ImportFilesError(f'{path}: reading this file needs safetensors: pip install "hesstore[files]"') from None
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ImportFilesError(f"{path}: not a valid safetensors file ({first_line(error)})") from None


def _array(value: Any, path: Path, key: str) -> NDArray[np.float32]:
    import torch  # noqa: PLC0415

    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        what = str(value.dtype) if isinstance(value, torch.Tensor) else type(value).__name__
        raise ImportFilesError(
            f"{path}: {key} is {what}, not a real-valued parameter: save only the parameters, without buffers"
        )
    array: NDArray[np.float32] = value.detach().to(torch.float32).numpy()
    if not np.isfinite(array).all():
        raise ImportFilesError(f"{path}: {key} has {int((~np.isfinite(array)).sum())} values that are NaN or infinite")
    return array


def shapes_of(named: Mapping[str, NDArray[np.float32]]) -> Shapes:
    """The shapes of the arrays."""
    return {name: array.shape for name, array in named.items()}


def shapes_from_sizes(sizes: Mapping[str, int]) -> Shapes:
    """Shapes inferred from sizes: a weight whose bias has n values has n rows."""
    shapes: Shapes = {}
    for name, size in sizes.items():
        bias = sizes.get(f"{name.removesuffix('weight')}bias", 0) if name.endswith("weight") else 0
        shapes[name] = (bias, size // bias) if bias and size % bias == 0 else (size,)
    return shapes


# -- losses and accuracies --------------------------------------------------------------------------------


def read_accuracies(path: Path) -> AccuracyTable:
    """The table of losses and accuracies of one run."""
    lines = read_lines(path)
    _, first = next(lines)
    names = next(csv.reader([first.decode(errors="replace")]))
    num_classes = _count_classes(names, path)
    rows: dict[float, AccuracyRow] = {}
    for number, line in lines:
        texts = next(csv.reader([line.decode(errors="replace")]))
        if len(texts) != len(names):
            raise ImportFilesError(f"{path}: line {number}: expected {len(names)} values, found {len(texts)}")
        values = {name: _number(text, path, number) for name, text in zip(names, texts, strict=True)}
        l2 = round(values["L2_strength"], L2_DECIMALS)
        if l2 in rows:
            raise ImportFilesError(f"{path}: line {number}: second row for λ = {l2:g}")
        if not 0 <= l2 < math.inf:
            raise ImportFilesError(f"{path}: line {number}: L2_strength is {l2:g}, but must be finite and at least 0")
        rows[l2] = AccuracyRow(
            *_losses_and_accuracy(values),
            tuple(values[f"Class_{label}_Accuracy"] for label in range(num_classes)),
        )
        _check_percent(rows[l2], path, number)
    return AccuracyTable(rows, num_classes)


def _losses_and_accuracy(values: Mapping[str, float]) -> tuple[float, float, float, float]:
    train, regularised, test, accuracy = (values.get(name, math.nan) for name in COLUMNS[1:])
    return train, regularised, test, accuracy


def _count_classes(names: Sequence[str], path: Path) -> int:
    known = {*COLUMNS, ""}  # pandas writes an index column without a name
    unknown = [name for name in names if name not in known and not _CLASS.fullmatch(name)]
    if unknown or "L2_strength" not in names:
        what = f"unknown column {unknown[0]!r}" if unknown else "missing column L2_strength"
        raise ImportFilesError(f"{path}: line 1: {what}: expected {', '.join(COLUMNS)}, Class_0_Accuracy, …")
    labels = [int(match[1]) for name in names if (match := _CLASS.fullmatch(name))]
    if sorted(labels) != list(range(len(labels))):
        raise ImportFilesError(f"{path}: line 1: expected columns for the classes 0, 1, …, found {labels}")
    return len(labels)


def _check_percent(row: AccuracyRow, path: Path, number: int) -> None:
    for value in (row.test_accuracy, *row.classes):
        if not (math.isnan(value) or 0 <= value <= 100):
            raise ImportFilesError(f"{path}: line {number}: {value:g} is not an accuracy in percent, from 0 to 100")


# -- numbers ----------------------------------------------------------------------------------------------


def _numbers(line: bytes, path: Path, number: int) -> NDArray[np.float32]:
    column = line.replace(b",", b"\n").replace(b" ", b"")
    try:
        values = pl.read_csv(
            io.BytesIO(column), has_header=False, new_columns=["value"], schema_overrides={"value": pl.Float32}
        )["value"]
    except pl.exceptions.PolarsError:
        _raise_not_numbers(line, path, number)
    if values.null_count() or len(values) != line.count(b",") + 1:
        _raise_not_numbers(line, path, number)
    return values.to_numpy()


def _raise_not_numbers(line: bytes, path: Path, number: int) -> NoReturn:
    """Name the first value that is not a number."""
    for place, text in enumerate(line.split(b","), start=1):
        _number(text, path, number, f"value {place}: ")
    raise ImportFilesError(f"{path}: line {number}: cannot be read as numbers that are separated by commas")


def _number(text: bytes | str, path: Path, number: int, where: str = "") -> float:
    plain = text.decode(errors="replace").strip() if isinstance(text, bytes) else text.strip()
    try:
        return float(plain)
    except ValueError:
        raise ImportFilesError(f"{path}: line {number}: {where}{_short(plain)} is not a number") from None


def _short(text: bytes | str) -> str:
    plain = text.decode(errors="replace") if isinstance(text, bytes) else text
    return repr(plain if len(plain) <= 40 else f"{plain[:37]}…")
