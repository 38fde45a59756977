"""Reads data sets from IDX files, the format of MNIST: plain or compressed with gzip, recognised by their content.

The files are only read: nothing is downloaded, unpacked or changed.
"""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

import numpy as np

from hesstore.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

_NAME = re.compile(r"(train|t10k|test)[-_](images|labels)[-._]idx[13][-._]ubyte(?:\.gz)?", re.IGNORECASE)
_AXES = {"images": 3, "labels": 1}
_BYTES = 8  # the code of unsigned bytes in the header
_MOST = 600_000_000  # bytes: a limit for the size that a header states; the largest data set of this kind has 550 MB
_PART = 1 << 24  # bytes that are read together, so that a wrong size in a header takes no memory
_GZIP = b"\x1f\x8b"


class IdxSplit(NamedTuple):
    """Images (N, height, width) and labels (N,) of one split, as bytes."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]


def find_folder(folders: Iterable[Path]) -> Path | None:
    """Return the first of ``folders`` that contains a file with the name of an IDX file."""
    return next((folder for folder in folders if _files(folder)), None)


def read_splits(folder: Path) -> tuple[IdxSplit, IdxSplit]:
    """Read the training and the test split from the four IDX files in a folder.

    Names such as ``train-images-idx3-ubyte``, ``t10k-labels.idx1-ubyte`` and ``t10k-labels-idx1-ubyte.gz`` are
    recognised. If several names stand for the same part, the files must have the same content.

    Raises
    ------
    DataError
        If one of the four files is missing, damaged, or does not fit the others.
    """
    files = _files(folder)
    train, test = (
        IdxSplit(*(_read_part(folder, files.get((split, kind), []), split, kind) for kind in _AXES))
        for split in ("train", "t10k")
    )
    for split, (images, labels) in (("train", train), ("t10k", test)):
        if len(images) != len(labels):
            names = " and ".join(str(files[split, kind][0]) for kind in _AXES)
            raise DataError(f"{names}: {len(images)} images do not match {len(labels)} labels: restore the files")
    return train, test


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read the array of unsigned bytes in an IDX file, which may be compressed with gzip whatever its name.

    Raises
    ------
    DataError
        If the file is truncated, has further bytes, or is not an IDX file of unsigned bytes.
    """
    try:
        with _open(path) as file:
            shape = _read_shape(file, path)
            size = math.prod(shape)
            content = bytearray()
            while len(content) < size and (part := file.read(min(_PART, size - len(content)))):
                content += part
            if len(content) < size:
                raise DataError(f"{path}: truncated: the header states {size} bytes of data, found {len(content)}")
            if file.read(1):
                raise DataError(f"{path}: has more data than the {size} bytes that its header states")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: truncated or damaged: cannot be decompressed ({error})") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    return np.frombuffer(content, np.uint8).reshape(shape)


def _files(folder: Path) -> dict[tuple[str, str], list[Path]]:
    """The files in a folder whose names are those of IDX files, by split and kind."""
    found: dict[tuple[str, str], list[Path]] = {}
    if not folder.is_dir():
        return found
    for path in sorted(folder.iterdir()):
        if match := _NAME.fullmatch(path.name):
            split = "train" if match[1].lower() == "train" else "t10k"
            file = path / path.name if path.is_dir() else path  # some archives unpack each file into a folder
            if file.is_file():
                found.setdefault((split, match[2].lower()), []).append(file)
    return found


def _read_part(folder: Path, paths: list[Path], split: str, kind: str) -> NDArray[np.uint8]:
    if not paths:
        raise DataError(f"{folder}: has no file {split}-{kind}-idx{_AXES[kind]}-ubyte, plain or .gz: add it")
    first, *others = (read_idx(path) for path in paths)
    for path, array in zip(paths[1:], others, strict=True):
        if not np.array_equal(first, array):
            raise DataError(f"{path}: has other content than {paths[0]}: keep one of them in this folder")
    if first.ndim != _AXES[kind]:
        raise DataError(
            f"{paths[0]}: expected {kind} with {_AXES[kind]} axes, found an array of the shape {first.shape}"
        )
    return first


def _open(path: Path) -> BinaryIO:
    with path.open("rb") as file:
        compressed = file.read(2) == _GZIP
    return cast("BinaryIO", gzip.open(path, "rb")) if compressed else path.open("rb")


def _read_shape(file: BinaryIO, path: Path) -> tuple[int, ...]:
    header = file.read(4)
    if len(header) < 4:
        raise DataError(f"{path}: truncated: an IDX file begins with 4 bytes of header, found {len(header)}")
    zeros, code, axes = struct.unpack(">HBB", header)
    if zeros or code != _BYTES or axes not in _AXES.values():
        raise DataError(
            f"{path}: not an IDX file of images or labels: it begins with the bytes {header.hex(' ')}, "
            "not with 00 00 08 03 or 00 00 08 01"
        )
    sizes = file.read(4 * axes)
    if len(sizes) < 4 * axes:
        raise DataError(f"{path}: truncated: the file ends within its header")
    shape: tuple[int, ...] = struct.unpack(f">{axes}I", sizes)
    if math.prod(shape) > _MOST:
        raise DataError(f"{path}: the header states a shape of {shape}, above the limit of {_MOST} bytes: damaged?")
    return shape
