"""Reads CIFAR-10 in either of its two formats.

A file of the binary version has a byte for the label and 3,072 for the pixels of each image; it is read from the
published archive or from its folder. The files of the Python version can contain code. torchvision reads them, after it
has compared them with the checksums of the published ones. The files are only read: nothing is unpacked or changed.
"""

from __future__ import annotations

import tarfile
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hesstore.errors import DataError, first_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

PYTHON, BINARY = "cifar-10-batches-py", "cifar-10-batches-bin"
"""The folders of the two formats."""
_ARCHIVE = "cifar-10-binary.tar.gz"
_TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
_TEST = "test_batch.bin"
_SHAPE = (3, 32, 32)
_ROW = 1 + 3072
_CLASSES = 10


class CifarSplit(NamedTuple):
    """Images (N, 3, 32, 32) and labels (N,) of one split, as bytes."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]


def read_cifar10(root: Path) -> tuple[CifarSplit, CifarSplit] | None:
    """Read the training and the test split of CIFAR-10 in a folder; None if it does not have them.

    The folder has ``cifar-10-batches-bin``, ``cifar-10-binary.tar.gz`` or ``cifar-10-batches-py``, or is one of the two
    folders itself.

    Raises
    ------
    DataError
        If a file is missing or damaged.
    """
    for folder in (root / BINARY, root):
        if (folder / _TEST).is_file() or (folder / _TRAIN[0]).is_file():
            return _splits({name: _read(folder / name) for name in (*_TRAIN, _TEST)}, folder)
    if (root / _ARCHIVE).is_file():
        return _splits(dict(_unpacked(root / _ARCHIVE)), root / _ARCHIVE)
    for folder in (root / PYTHON, root):
        if (folder / "test_batch").is_file():
            return _published(folder)
    return None


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}): give all six files of CIFAR-10") from None


def _unpacked(archive: Path) -> Iterator[tuple[str, bytes]]:
    """The names, without folder, and the contents of the batches in an archive."""
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                name = member.name.rsplit("/", 1)[-1]
                if name in {*_TRAIN, _TEST} and (file := tar.extractfile(member)) is not None:
                    yield name, file.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{archive}: cannot be read ({first_line(error)}): download it again") from error


def _splits(contents: dict[str, bytes], where: Path) -> tuple[CifarSplit, CifarSplit]:
    parts: dict[str, CifarSplit] = {}
    for name in (*_TRAIN, _TEST):
        if name not in contents:
            raise DataError(f"{where}: lacks {name}: give all six files of CIFAR-10")
        content = np.frombuffer(contents[name], np.uint8)
        if not content.size or content.size % _ROW:
            raise DataError(f"{where}: {name} has {content.size:,} bytes, not rows of {_ROW:,}: restore it")
        rows = content.reshape(-1, _ROW).copy()
        if rows[:, 0].max() >= _CLASSES:
            raise DataError(f"{where}: {name} has the label {rows[:, 0].max()}, not below {_CLASSES}: restore it")
        parts[name] = CifarSplit(rows[:, 1:].reshape(-1, *_SHAPE), rows[:, 0])
    train = CifarSplit(*(np.concatenate(each) for each in zip(*(parts[name] for name in _TRAIN), strict=True)))
    return train, parts[_TEST]


def _published(folder: Path) -> tuple[CifarSplit, CifarSplit]:
    """The splits in a folder of the Python version, whose files must be those that were published."""
    from torchvision.datasets import CIFAR10  # noqa: PLC0415 - it takes a second to import

    class _Folder(CIFAR10):  # type: ignore[misc]
        base_folder = folder.name

    try:
        train, test = (_Folder(str(folder.parent), train=train) for train in (True, False))
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"{folder}: has other files than the published ones ({first_line(error)}): restore them, or give "
            f"{_ARCHIVE}, which can contain no code"
        ) from error
    return _as_split(train), _as_split(test)


def _as_split(read: Any) -> CifarSplit:
    return CifarSplit(read.data.transpose(0, 3, 1, 2), np.array(read.targets, np.uint8))
