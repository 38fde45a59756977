"""The lines of a text file, plain or compressed: a file that was cut off is an error, never a shorter file."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from hesstore.errors import ImportFilesError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FIXED = re.compile(r"-?\d+\.(\d+)")
_BUFFER = 1 << 20


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a text file, numbered from 1, without line breaks; ``.gz`` and ``.zst`` files are decompressed.

    Raises
    ------
    ImportFilesError
        If the file is empty or cannot be decompressed, or if the last line has no line break: it may be incomplete.
    """
    number, ended = 0, True
    try:
        with _open(path) as file:
            for number, line in enumerate(file, start=1):
                ended = line.endswith(b"\n")
                yield number, line.rstrip(b"\r\n")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ImportFilesError(
            f"{path}: line {number + 1}: cannot be decompressed ({error}): restore the file"
        ) from None
    if not number:
        raise ImportFilesError(f"{path}: the file is empty")
    if not ended:
        raise ImportFilesError(
            f"{path}: line {number}: has no line break at its end, so the file may have been cut off: "
            "if it is complete, add a line break"
        )


def count_decimals(path: Path) -> int | None:
    """The number of decimals of all numbers at the beginning of a text file; None if it is not the same for all."""
    with _open(path) as file:
        head = file.read(4000).decode(errors="replace")
    tokens = re.split(r"[,\s:]+", head)[:-1]
    numbers = [token for token in tokens if re.match(r"-?\d", token)]
    found = {len(match[1]) if (match := _FIXED.fullmatch(token)) else None for token in numbers}
    return found.pop() if len(found) == 1 and len(numbers) >= 3 else None


def _open(path: Path) -> BinaryIO:
    if path.suffix == ".gz":
        return cast("BinaryIO", gzip.open(path, "rb"))
    if path.suffix == ".zst":
        try:
            import zstandard  # noqa: PLC0415 - an optional dependency
        except ImportError:
            raise ImportFilesError(
                f'{path}: reading this file needs zstandard: pip install "hesstore[files]"'
            ) from None
        return io.BufferedReader(_ZstandardFile(zstandard, path), _BUFFER)
    return path.open("rb", buffering=_BUFFER)


class _ZstandardFile(io.RawIOBase):
    """A reader that reports a truncated frame, which the reader of zstandard takes for the end of the file."""

    def __init__(self, zstandard: Any, path: Path) -> None:
        self._file = path.open("rb")
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._errors, self._rest = zstandard.ZstdError, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            compressed = self._file.read(_BUFFER)
            if not compressed:
                if not self._frame.eof:
                    raise EOFError("the compressed file ends too early")
                return 0
            try:
                self._rest = self._frame.decompress(compressed)
            except self._errors as error:
                raise EOFError(str(error)) from None
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count

    def close(self) -> None:
        self._file.close()
        super().close()
