"""The digests that tie the values of a grid point to its place in the store."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from hesstore.store.schema import Run, Status


class PointDigest:
    """The digest of some variables at a grid point, to which their values are added as they are read.

    It is the 64-bit BLAKE2b over seed, direction, λ and each array's name, shape and little-endian bytes, in the order
    of the names.
    """

    def __init__(self, run: Run, l2: float) -> None:
        self._state = hashlib.blake2b(f"{run.seed}|{run.direction}|{l2!r}".encode(), digest_size=8)

    def begin(self, name: str, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Self:
        """Begin with the next array, whose values :meth:`add` takes."""
        self._state.update(_header(name, shape or (1,), dtype))
        return self

    def add(self, values: NDArray[np.generic]) -> Self:
        """Add the next values of an array, in the order in which C stores them."""
        self._state.update(np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<")).data)
        return self

    def value(self) -> int:
        """Return the digest of everything that was added."""
        return int.from_bytes(self._state.digest(), "little")


def digest(run: Run, l2: float, arrays: Mapping[str, NDArray[np.generic]]) -> int:
    """Return the digest of large variables at a grid point; see :class:`PointDigest`."""
    state = PointDigest(run, l2)
    for name in sorted(arrays):
        state.begin(name, arrays[name].shape, arrays[name].dtype).add(arrays[name])
    return state.value()


def reference_digest(weights: NDArray[np.float32]) -> str:
    """Return the digest of weights (P,) by which an identity names them: SHA-256, 16 hex digits."""
    return hashlib.sha256(np.ascontiguousarray(weights, "<f4").tobytes()).hexdigest()[:16]


def entries_digest(run: Run, l2: float, status: Status, entries: Mapping[str, object]) -> int:
    """Return the digest of small variables at a grid point, and of the status that promises them.

    Texts enter as UTF-8, missing ones as empty texts. All NaN are equal.
    """
    arrays = {name: _plain(value) for name, value in entries.items()}
    return digest(run, l2, {f"status {status.name}": np.zeros(0), **arrays})


class EntriesDigests:
    """The digests of the small variables of a run: :func:`entries_digest` at many grid points, in less time.

    Parameters
    ----------
    run : Run
        The run.
    l2 : sequence of float
        (L,) the grid.
    rows : mapping of str to array
        (L, …) the small variables at all grid points.
    """

    def __init__(self, run: Run, l2: Sequence[float], rows: Mapping[str, NDArray[np.generic]]) -> None:
        self._run, self._l2, self._rows = run, l2, rows
        self._pieces: dict[str, list[bytes]] = {}

    def at(self, index: int, status: Status, names: Sequence[str]) -> int:
        """Return the digest of the variables ``names`` at a grid point."""
        state = hashlib.blake2b(
            f"{self._run.seed}|{self._run.direction}|{float(self._l2[index])!r}".encode(), digest_size=8
        )
        of_status = f"status {status.name}"
        for name in sorted((*names, of_status)):
            if name == of_status:
                state.update(_header(name, (0,), np.dtype(np.float64)))
            else:
                state.update(self._piece(name, index))
        return int.from_bytes(state.digest(), "little")

    def _piece(self, name: str, index: int) -> bytes:
        if name not in self._pieces:
            self._pieces[name] = list(_pieces(name, self._rows[name]))
        return self._pieces[name][index]


def _pieces(name: str, row: NDArray[np.generic]) -> Iterator[bytes]:
    """Yield what a small variable adds to the digest of each grid point."""
    if row.dtype.kind in "OUT":
        for text in row:  # xarray reads missing texts as NaN
            encoded = text.encode() if isinstance(text, str) else b""
            yield _header(name, (len(encoded),), np.dtype(np.uint8)) + encoded
        return
    plain = _plain(row)
    plain = np.ascontiguousarray(plain, plain.dtype.newbyteorder("<"))
    header = _header(name, plain.shape[1:] or (1,), plain.dtype)
    for values in plain:
        yield header + values.tobytes()


def _header(name: str, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> bytes:
    return f"|{name}|{shape}|{dtype.newbyteorder('<').str}|".encode()


def _plain(value: object) -> NDArray[np.generic]:
    """Return an array of numbers, in which all NaN are equal: chunks of fill values do not keep their bits."""
    array = np.asarray(value)
    if array.dtype.kind in "OUT":
        text: object = array[()]
        return np.frombuffer(text.encode() if isinstance(text, str) else b"", dtype=np.uint8)
    return np.where(np.isnan(array), np.nan, array) if array.dtype.kind == "f" else array
