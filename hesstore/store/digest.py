"""The digests that tie the values of a grid point to its place in the store."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from hesstore.store.schema import Run, Status


def digest(run: Run, l2: float, arrays: Mapping[str, NDArray[np.generic]]) -> int:
    """Return the digest of large variables at a grid point.

    It is the 64-bit BLAKE2b over seed, direction, λ and each array's name, shape and little-endian bytes, in the order
    of the names.
    """
    state = hashlib.blake2b(f"{run.seed}|{run.direction}|{l2!r}".encode(), digest_size=8)
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name], dtype=arrays[name].dtype.newbyteorder("<"))
        state.update(f"|{name}|{array.shape}|{array.dtype.str}|".encode())
        state.update(array.data)
    return int.from_bytes(state.digest(), "little")


def reference_digest(weights: NDArray[np.float32]) -> str:
    """Return the digest of weights (P,) by which an identity names them: SHA-256, 16 hex digits."""
    return hashlib.sha256(np.ascontiguousarray(weights, "<f4").tobytes()).hexdigest()[:16]


def entries_digest(run: Run, l2: float, status: Status, entries: Mapping[str, object]) -> int:
    """Return the digest of small variables at a grid point, and of the status that promises them.

    Texts enter as UTF-8, missing ones as empty texts. All NaN are equal.
    """
    arrays = {name: _plain(value) for name, value in entries.items()}
    return digest(run, l2, {f"status {status.name}": np.zeros(0), **arrays})


def _plain(value: object) -> NDArray[np.generic]:
    """Return an array of numbers, in which all NaN are equal: chunks of fill values do not keep their bits."""
    array = np.asarray(value)
    if array.dtype.kind in "OUT":
        text: object = array[()]
        return np.frombuffer(text.encode() if isinstance(text, str) else b"", dtype=np.uint8)
    return np.where(np.isnan(array), np.nan, array) if array.dtype.kind == "f" else array
