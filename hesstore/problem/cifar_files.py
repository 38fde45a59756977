"""Reads CIFAR-10 in either of its two formats, from a folder or from the archive that is published.

Files of the Python version are pickles. Only arrays, texts and lists are taken from them; nothing else is loaded, so
that no code of a file can run. A file of the binary version has a byte for the label and 3,072 for the pixels of each
image. The files are only read: nothing is downloaded, unpacked or changed.
"""

from __future__ import annotations

import io
import pickle
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
_FOLDERS = {PYTHON: "", BINARY: ".bin"}  # with the ending of their files
_ARCHIVES = {"cifar-10-python.tar.gz": PYTHON, "cifar-10-binary.tar.gz": BINARY}
_TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
_TEST = "test_batch"
_SHAPE = (3, 32, 32)
_PIXELS = 3072
_CLASSES = 10


class CifarSplit(NamedTuple):
    """Images (N, 3, 32, 32) and labels (N,) of one split, as bytes."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]


def read_cifar10(root: Path) -> tuple[CifarSplit, CifarSplit] | None:
    """Read the training and the test split of CIFAR-10 in a folder; None if it does not have them.

    The folder has ``cifar-10-batches-py``, ``cifar-10-batches-bin`` or one of the two published archives, or is one of
    these folders itself.

    Raises
    ------
    DataError
        If a file is missing or damaged.
    """
    for name, ending in _FOLDERS.items():
        for folder in (root / name, root):
            if (folder / f"{_TEST}{ending}").is_file() or (folder / f"{_TRAIN[0]}{ending}").is_file():
                return _splits({part: _read(folder / f"{part}{ending}") for part in (*_TRAIN, _TEST)}, name, folder)
    for archive, name in _ARCHIVES.items():
        if (root / archive).is_file():
            return _splits(dict(_unpacked(root / archive, _FOLDERS[name])), name, root / archive)
    return None


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}): give all six files of CIFAR-10") from None


def _unpacked(archive: Path, ending: str) -> Iterator[tuple[str, bytes]]:
    """The names, without folder and ending, and the contents of the batches in an archive."""
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                name = member.name.rsplit("/", 1)[-1].removesuffix(ending)
                if name in {*_TRAIN, _TEST} and (file := tar.extractfile(member)) is not None:
                    yield name, file.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{archive}: cannot be read ({first_line(error)}): download it again") from error


def _splits(contents: dict[str, bytes], folder: str, where: Path) -> tuple[CifarSplit, CifarSplit]:
    parts: dict[str, CifarSplit] = {}
    for name in (*_TRAIN, _TEST):
        if name not in contents:
            raise DataError(f"{where}: lacks {name}: give all six files of CIFAR-10")
        decode = _from_pickle if folder == PYTHON else _from_rows
        try:
            parts[name] = decode(contents[name])
        except (pickle.UnpicklingError, ValueError, TypeError, KeyError, EOFError, AttributeError, IndexError) as error:
            raise DataError(f"{where}: {name} is not a batch of CIFAR-10 ({first_line(error)}): restore it") from error
    train = CifarSplit(*(np.concatenate(each) for each in zip(*(parts[name] for name in _TRAIN), strict=True)))
    return train, parts[_TEST]


def _from_rows(content: bytes) -> CifarSplit:
    rows = np.frombuffer(content, np.uint8)
    if not rows.size or rows.size % (1 + _PIXELS):
        raise ValueError(f"{rows.size:,} bytes are not rows of {1 + _PIXELS:,}")
    rows = rows.reshape(-1, 1 + _PIXELS)
    return _checked(rows[:, 1:], rows[:, 0])


def _from_pickle(content: bytes) -> CifarSplit:
    batch = _ArraysOnly(io.BytesIO(content), encoding="bytes").load()
    return _checked(np.asarray(batch[b"data"]), np.asarray(batch[b"labels"]))


def _checked(pixels: NDArray[Any], labels: NDArray[Any]) -> CifarSplit:
    if pixels.dtype != np.uint8 or pixels.shape != (len(labels), _PIXELS):
        raise ValueError(f"images {pixels.dtype} {pixels.shape} for {len(labels)} labels")
    if labels.size and not (labels.min() >= 0 and labels.max() < _CLASSES):
        raise ValueError(f"label {labels.max()} is not below {_CLASSES}")
    return CifarSplit(np.array(pixels).reshape(-1, *_SHAPE), labels.astype(np.uint8))


class _ArraysOnly(pickle.Unpickler):
    """Loads arrays of numbers, and what Python itself builds without a call."""

    _ALLOWED = frozenset(
        {
            *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
            *("numpy.ndarray", "numpy.dtype", "_codecs.encode"),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        """Return a class that arrays consist of.

        Raises
        ------
        UnpicklingError
            For any other.
        """
        if f"{module}.{name}" not in self._ALLOWED:
            raise pickle.UnpicklingError(f"contains {module}.{name}, which is not loaded because that could run code")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)
