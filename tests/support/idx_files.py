"""Files in the IDX format of MNIST."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def idx_bytes(array: NDArray[np.uint8]) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_idx(path: Path, array: NDArray[np.uint8], *, compressed: bool = False) -> None:
    path.write_bytes(gzip.compress(idx_bytes(array)) if compressed else idx_bytes(array))
