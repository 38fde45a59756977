"""Reading one file of each kind; what is wrong is told with the file, the line and what was expected there."""

from __future__ import annotations

import csv
import gzip
import io
import math
import re
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, NoReturn, cast

import numpy as np
import polars as pl

from hesstore.config.l2_grid import L2_DECIMALS
from hesstore.errors import ImportFilesError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

Shapes = dict[str, tuple[int, ...]]
"""Of the parameters, by name, in ``state_dict`` order."""

COLUMNS = ("L2_strength", "Train_Loss", "Train_Reg_Loss", "Test_Loss", "Test_Accuracy")
_CLASS = re.compile(r"Class_(\d+)_Accuracy")
_FIXED = re.compile(r"-?\d+\.(\d+)")
_WRAPPERS = ("state_dict", "model_state_dict", "model")


class AccuracyRow(NamedTuple):
    """A row of ``Model-ID_split_accuracy.csv``; NaN for what is not there. Accuracies in percent."""

    train_loss: float
    train_reg_loss: float
    test_loss: float
    test_accuracy: float
    classes: tuple[float, ...]


def lines_of(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a text file, numbered from 1, without their ends; ``.gz`` and ``.zst`` are unpacked on the way.

    Raises
    ------
    ImportFilesError
        If the file is empty, can't be unpacked, or its last line has no end: it may have been cut off.
    """
    number, whole = 0, True
    try:
        with _opened(path) as file:
            for number, line in enumerate(file, start=1):
                whole = line.endswith(b"\n")
                yield number, line.rstrip(b"\r\n")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ImportFilesError(f"{path}: line {number + 1}: can't be unpacked ({error}): restore the file") from None
    if not number:
        raise ImportFilesError(f"{path}: is empty")
    if not whole:
        raise ImportFilesError(
            f"{path}: line {number}: has no end, it may have been cut off: if it is whole, add a line break"
        )


def _opened(path: Path) -> BinaryIO:
    if path.suffix == ".gz":
        return cast("BinaryIO", gzip.open(path, "rb"))
    if path.suffix == ".zst":
        try:
            import zstandard  # noqa: PLC0415 - an extra
        except ImportError:
            raise ImportFilesError(f'{path}: needs zstandard: pip install "hesstore[files]"') from None
        return io.BufferedReader(_Zstandard(zstandard, path), 1 << 20)
    return path.open("rb", buffering=1 << 20)


class _Zstandard(io.RawIOBase):
    """A reader that tells of a truncated frame, which zstandard's own takes for the end."""

    def __init__(self, zstandard: Any, path: Path) -> None:
        self._file = path.open("rb")
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._errors, self._rest = zstandard.ZstdError, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            packed = self._file.read(1 << 20)
            if not packed:
                if not self._frame.eof:
                    raise EOFError("the compressed file ends too early")
                return 0
            try:
                self._rest = self._frame.decompress(packed)
            except self._errors as error:
                raise EOFError(str(error)) from None
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


def eigenvalues(path: Path) -> NDArray[np.float64]:
    """(k,) an eigenvalue a line."""
    return np.array([_number(text, path, number) for number, text in lines_of(path)])


def eigenvectors(path: Path, parameters: int | None = None) -> Iterator[NDArray[np.float32]]:
    """(P,) each, an eigenvector a line; P as given, or as in the first line."""
    for number, line in lines_of(path):
        count = line.count(b",") + 1
        parameters = parameters or count
        if count != parameters:
            raise ImportFilesError(f"{path}: line {number}: has {count} values, {parameters} were expected")
        yield _numbers(line, path, number)


def gradients(path: Path, shapes: Shapes | None = None) -> dict[str, NDArray[np.float32]]:
    """The values of each parameter's line, flat, by name; names and sizes as ``shapes`` has them, if given."""
    found: dict[str, NDArray[np.float32]] = {}
    expected = list(shapes or ())
    for number, line in lines_of(path):
        head, colon, rest = line.partition(b":")
        name = head.decode(errors="replace").strip().removeprefix("dL/d")
        if not colon or not head.strip().startswith(b"dL/d"):
            raise ImportFilesError(f"{path}: line {number}: does not begin with dL/dNAME: (it is {_short(line)})")
        if shapes is not None and (len(found) >= len(expected) or name != expected[len(found)]):
            wanted = expected[len(found)] if len(found) < len(expected) else "the end of the file"
            raise ImportFilesError(f"{path}: line {number}: is of {name!r}, {wanted} was expected")
        if name in found:
            raise ImportFilesError(f"{path}: line {number}: {name!r} has a line already")
        found[name] = _numbers(rest, path, number)
        if shapes is not None and len(found[name]) != math.prod(shapes[name]):
            raise ImportFilesError(
                f"{path}: line {number}: {name} has {len(found[name])} values, {math.prod(shapes[name])} were expected"
            )
    if len(found) < len(expected):
        raise ImportFilesError(f"{path}: ends after {len(found)} lines, {expected[len(found)]} was expected next")
    return found


def weights(path: Path, shapes: Shapes | None = None) -> dict[str, NDArray[np.float32]]:
    """Each parameter, by name; names and shapes as ``shapes`` has them, if given, in its order.

    The state dict may be wrapped as ``{"state_dict": …}``, and its keys may all begin with ``module.``, as
    data-parallel training leaves them. Nothing but tensors is unpickled.
    """
    loaded = _loaded(path)
    for wrapper in _WRAPPERS:
        if isinstance(loaded, dict) and isinstance(loaded.get(wrapper), dict):
            loaded = loaded[wrapper]
    if not isinstance(loaded, dict) or not loaded:
        raise ImportFilesError(f"{path}: holds {type(loaded).__name__}, not a state_dict")
    if all(str(key).startswith("module.") for key in loaded):
        loaded = {str(key).removeprefix("module."): value for key, value in loaded.items()}
    found = {str(key): _array(value, path, str(key)) for key, value in loaded.items()}
    if shapes is None:
        return found
    unknown, missing = [key for key in found if key not in shapes], [key for key in shapes if key not in found]
    if unknown:
        raise ImportFilesError(f"{path}: unknown key {unknown[0]!r}: {', '.join(shapes)} were expected")
    if missing:
        raise ImportFilesError(f"{path}: lacks {missing[0]!r}: {', '.join(shapes)} were expected")
    for key, shape in shapes.items():
        if found[key].shape != shape:
            raise ImportFilesError(f"{path}: {key} has shape {found[key].shape}, {shape} was expected")
    return {key: found[key] for key in shapes}


def _loaded(path: Path) -> Any:
    if path.suffix == ".safetensors":
        try:
            from safetensors import SafetensorError  # noqa: PLC0415 - an extra
            from safetensors.torch import load_file  # noqa: PLC0415
        except ImportError:
            raise ImportFilesError(f'{path}: needs safetensors: pip install "hesstore[files]"') from None
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise ImportFilesError(f"{path}: is no safetensors file ({_first_line(error)})") from None
    import torch  # noqa: PLC0415 - other kinds need none

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - whatever a decoder makes of a file that is something else
        raise ImportFilesError(
            f"{path}: can't be loaded with weights_only=True ({_first_line(error)}): save its state_dict()"
        ) from None


def _array(value: Any, path: Path, key: str) -> NDArray[np.float32]:
    import torch  # noqa: PLC0415

    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        what = str(value.dtype) if isinstance(value, torch.Tensor) else type(value).__name__
        raise ImportFilesError(
            f"{path}: {key} is {what}, not a real-valued parameter: save parameters alone, without buffers"
        )
    array: NDArray[np.float32] = value.detach().to(torch.float32).numpy()
    if not np.isfinite(array).all():
        raise ImportFilesError(f"{path}: {key} has {int((~np.isfinite(array)).sum())} values that are NaN or infinite")
    return array


def accuracies(path: Path) -> tuple[dict[float, AccuracyRow], int]:
    """Rows by λ, and how many classes have a column."""
    lines = lines_of(path)
    _, first = next(lines)
    names = next(csv.reader([first.decode(errors="replace")]))
    classes = _classes(names, path)
    rows: dict[float, AccuracyRow] = {}
    for number, line in lines:
        cells = next(csv.reader([line.decode(errors="replace")]))
        if len(cells) != len(names):
            raise ImportFilesError(f"{path}: line {number}: has {len(cells)} values, {len(names)} were expected")
        values = {name: _number(cell, path, number) for name, cell in zip(names, cells, strict=True)}
        l2 = round(values["L2_strength"], L2_DECIMALS)
        if l2 in rows:
            raise ImportFilesError(f"{path}: line {number}: λ = {l2:g} has a row already")
        if not 0 <= l2 < math.inf:
            raise ImportFilesError(f"{path}: line {number}: L2_strength is {l2:g}, not a λ of at least 0")
        rows[l2] = AccuracyRow(
            *_four(values),
            tuple(values[f"Class_{label}_Accuracy"] for label in range(classes)),
        )
        _check_percent(rows[l2], path, number)
    return rows, classes


def _four(values: Mapping[str, float]) -> tuple[float, float, float, float]:
    train, regularised, test, accuracy = (values.get(name, math.nan) for name in COLUMNS[1:])
    return train, regularised, test, accuracy


def _classes(names: Sequence[str], path: Path) -> int:
    known = {*COLUMNS, ""}  # pandas writes an index without a name
    unknown = [name for name in names if name not in known and not _CLASS.fullmatch(name)]
    if unknown or "L2_strength" not in names:
        what = f"has an unknown column {unknown[0]!r}" if unknown else "has no column L2_strength"
        raise ImportFilesError(f"{path}: line 1: {what}: {', '.join(COLUMNS)}, Class_0_Accuracy … were expected")
    labels = [int(match[1]) for name in names if (match := _CLASS.fullmatch(name))]
    if sorted(labels) != list(range(len(labels))):
        raise ImportFilesError(f"{path}: line 1: has columns for the classes {labels}: 0, 1, … were expected")
    return len(labels)


def _check_percent(row: AccuracyRow, path: Path, number: int) -> None:
    for value in (row.test_accuracy, *row.classes):
        if not (math.isnan(value) or 0 <= value <= 100):
            raise ImportFilesError(f"{path}: line {number}: {value:g} is not an accuracy in percent, 0 to 100")


def decimals(path: Path) -> int | None:
    """With how many decimals all numbers at the beginning of a text file are written; None if not all with the same."""
    with _opened(path) as file:
        head = file.read(4000).decode(errors="replace")
    tokens = re.split(r"[,\s:]+", head)[:-1]
    numbers = [token for token in tokens if re.match(r"-?\d", token)]
    found = {len(match[1]) if (match := _FIXED.fullmatch(token)) else None for token in numbers}
    return found.pop() if len(found) == 1 and len(numbers) >= 3 else None


def _numbers(line: bytes, path: Path, number: int) -> NDArray[np.float32]:
    column = line.replace(b",", b"\n").replace(b" ", b"")
    try:
        values = pl.read_csv(
            io.BytesIO(column), has_header=False, new_columns=["value"], schema_overrides={"value": pl.Float32}
        )["value"]
    except pl.exceptions.PolarsError:
        _blame(line, path, number)
    if values.null_count() or len(values) != line.count(b",") + 1:
        _blame(line, path, number)
    return values.to_numpy()


def _blame(line: bytes, path: Path, number: int) -> NoReturn:
    for place, text in enumerate(line.split(b","), start=1):
        _number(text, path, number, f"value {place}: ")
    raise ImportFilesError(f"{path}: line {number}: can't be read as numbers with commas between them")


def _number(text: bytes | str, path: Path, number: int, where: str = "") -> float:
    plain = text.decode(errors="replace").strip() if isinstance(text, bytes) else text.strip()
    try:
        return float(plain)
    except ValueError:
        raise ImportFilesError(f"{path}: line {number}: {where}{_short(plain)} is not a number") from None


def _short(text: bytes | str) -> str:
    plain = text.decode(errors="replace") if isinstance(text, bytes) else text
    return repr(plain if len(plain) <= 40 else f"{plain[:37]}…")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def layout_of(named: Mapping[str, NDArray[np.float32]]) -> Shapes:
    """Shapes as the arrays have them."""
    return {name: array.shape for name, array in named.items()}


def guessed_layout(sizes: Mapping[str, int]) -> Shapes:
    """Shapes from sizes: the weight before a bias of n values has n rows."""
    shapes: Shapes = {}
    for name, size in sizes.items():
        bias = sizes.get(f"{name.removesuffix('weight')}bias", 0) if name.endswith("weight") else 0
        shapes[name] = (bias, size // bias) if bias and size % bias == 0 else (size,)
    return shapes
