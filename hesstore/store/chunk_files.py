"""The files that hold a variable, and a description of what is wrong with one that cannot be decoded."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np

from hesstore.store.variable import CHUNK_POINTS

if TYPE_CHECKING:
    from pathlib import Path

    import zarr
    from numpy.typing import NDArray

    from hesstore.store.variable import Variable


_NO_CHUNK = 2**64 - 1
"""The offset of a chunk that a shard does not have."""


def chunk_file(variable: Variable, run: int, index: int) -> str:
    """Return the path, within the store, of the file that holds a variable at a grid point."""
    block = index if variable.is_large else index // CHUNK_POINTS
    return "/".join([variable.name, "c", str(run), str(block), *("0" for _ in variable.dims[2:])])


def chunk_files(variable: Variable, run: int, count: int) -> list[str]:
    """Return the paths of all files that hold a variable of a run on a grid of ``count`` points."""
    step = 1 if variable.is_large else CHUNK_POINTS
    return [chunk_file(variable, run, index) for index in range(0, count, step)]


def block_at(index: int, count: int) -> slice:
    """Return the grid points that share the chunks of small variables with the one at ``index``, out of ``count``."""
    start = index - index % CHUNK_POINTS
    return slice(start, min(start + CHUNK_POINTS, count))


def blocks(count: int) -> list[slice]:
    """Return the grid points of each chunk of a small variable on a grid of ``count`` points."""
    return [block_at(start, count) for start in range(0, count, CHUNK_POINTS)]


def are_chunks_sound(array: zarr.Array[Any], data: bytes) -> bool:
    """Whether all chunks in a file have the checksum, CRC-32C, that they end in; nothing is decompressed."""
    values = np.frombuffer(data, np.uint8)  # its slices are not copies
    if array.shards is None:
        return _has_checksum(values)
    # The last bytes of a shard are the offset and the length of each chunk, and the checksum of these.
    count = math.prod(shard // chunk for shard, chunk in zip(array.shards, array.chunks, strict=True))
    index = values[-(16 * count + 4) :]
    if len(index) != 16 * count + 4 or not _has_checksum(index):
        return False
    for start, length in index[:-4].view("<u8").reshape(count, 2).tolist():
        if start != _NO_CHUNK and not _has_checksum(values[start : start + length]):
            return False
    return True


def _has_checksum(values: NDArray[np.uint8]) -> bool:
    return len(values) > 4 and google_crc32c.value(values[:-4]) == int.from_bytes(values[-4:].tobytes(), "little")


def damage(file: Path, error: Exception) -> str:
    """Describe what is wrong with a chunk file that cannot be decoded."""
    try:
        if not file.stat().st_size:
            return "is empty"
    except OSError:
        pass
    return f"is damaged ({' '.join(str(error).split()) or type(error).__name__})"
