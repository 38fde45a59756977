"""The opener of text files, plain or compressed: a file that was cut off is an error, never a shorter file."""

from __future__ import annotations

import codecs
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
_LONGEST = 1 << 27  # bytes of a line; a vector of ten million values is shorter
_MOST_LINES = 10**6  # more than any of these files has, unless a small compressed file expands without end
_GZIP, _ZSTANDARD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_UTF8_MARK = codecs.BOM_UTF8
_OTHER_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",  # begins as UTF-16 does, so it comes first
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}

_OTHER_FORMATS = {
    b"BZh": "compressed with bzip2",
    b"\xfd7zXZ\x00": "compressed with xz",
    b"PK\x03\x04": "a zip archive",
    _GZIP: "compressed twice",
    _ZSTANDARD: "compressed twice",
    b"PAR1": "a Parquet file",
    b"\x93NUMPY": "a NumPy file",
    b"\x89HDF": "an HDF5 file",
}


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a text file that are not blank, numbered from 1, without line breaks and blanks at their ends.

    Files that gzip or zstandard compressed are recognised by their content. Line breaks are those of Unix, Windows or
    old Macs; a byte order mark of UTF-8 is skipped.

    Raises
    ------
    ImportFilesError
        If the file is empty, cannot be decompressed, or is not text in UTF-8, or if the last line has no line break:
        it may be incomplete.
    """
    number, last, found, ended = 0, 0, False, True
    try:
        with _open(path) as file:
            for number, line in enumerate(_split_lines(file, path), start=1):
                if number > _MOST_LINES:
                    raise ImportFilesError(f"{path}: has more than {_MOST_LINES} lines: is it a file of results?")
                text = _check_text(line.removeprefix(_UTF8_MARK) if number == 1 else line, path, number)
                if plain := text.strip(b" \t\r\n"):
                    found, ended, last = True, line.endswith((b"\n", b"\r")), number
                    yield number, plain
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ImportFilesError(
            f"{path}: line {number + 1}: cannot be decompressed ({error}): restore the file"
        ) from None
    if not found:
        raise ImportFilesError(f"{path}: the file is empty")
    if not ended:
        raise ImportFilesError(
            f"{path}: line {last}: has no line break at its end, so the file may have been cut off: "
            "if it is complete, add a line break"
        )


def _split_lines(file: BinaryIO, path: Path) -> Iterator[bytes]:
    """The lines with their line breaks, which may be a lone carriage return."""
    while line := file.readline(_LONGEST):
        if len(line) == _LONGEST:
            raise ImportFilesError(f"{path}: has a line of more than {_LONGEST >> 20} MiB: is it a text file?")
        if line.find(b"\r", 0, -1) >= 0:
            yield from re.findall(rb"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+$", line)
        else:
            yield line


def _check_text(line: bytes, path: Path, number: int) -> bytes:
    """Return the line, which must be text in UTF-8."""
    if number == 1:
        encoding = next((name for mark, name in _OTHER_MARKS.items() if line.startswith(mark)), None)
        if encoding:
            raise ImportFilesError(f"{path}: line 1: the text is encoded as {encoding}: save the file as UTF-8")
        form = next((name for start, name in _OTHER_FORMATS.items() if line.startswith(start)), None)
        if form:
            raise ImportFilesError(f"{path}: is {form}: save it as text in UTF-8, plain or compressed with gzip")
    if b"\0" in line:
        raise ImportFilesError(f"{path}: line {number}: has NUL bytes: save the file as text in UTF-8")
    if not line.isascii():
        try:
            line.decode()
        except UnicodeDecodeError as error:
            raise ImportFilesError(
                f"{path}: line {number}: byte {error.start + 1} is not UTF-8: save the file as text in UTF-8"
            ) from None
    return line


def count_decimals(path: Path) -> int | None:
    """The number of decimals of all numbers at the beginning of a text file; None if it is not the same for all."""
    with _open(path) as file:
        head = file.read(4000).decode(errors="replace")
    tokens = re.split(r"[,\s:]+", head)[:-1]
    numbers = [token for token in tokens if re.match(r"-?\d", token)]
    found = {len(match[1]) if (match := _FIXED.fullmatch(token)) else None for token in numbers}
    return found.pop() if len(found) == 1 and len(numbers) >= 3 else None


def _open(path: Path) -> BinaryIO:
    with path.open("rb") as file:
        start = file.read(4)
    if start.startswith(_GZIP):
        return cast("BinaryIO", gzip.open(path, "rb"))
    if start == _ZSTANDARD:
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
