"""The width of the terminal, and text that fits it without breaking words or paths."""

from __future__ import annotations

import os
import re
import shutil
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO

UNLIMITED = 10**6
"""The width of an output that does not go to a terminal: programs read it by lines."""


_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that move the cursor, change colours or the direction of writing, or erase text; not newline and tab.

The last ones are the bytes of file names that are not text.
"""


_BYTES = re.compile("[\udc80-\udcff]+")
"""Bytes of file names that Python could not decode."""


def printable(text: str) -> str:
    """Return ``text`` with control characters as escapes such as ``\\x1b``.

    Names in a store that somebody else made, of files and of failures can contain any characters, and a terminal would
    carry out what these say. In an ASCII locale, Python takes all other characters of file names for bytes that are
    not text; those that are UTF-8 are shown as characters.
    """
    return _CONTROL.sub(lambda found: _escape(found[0]), _BYTES.sub(_decode, text))


def _decode(found: re.Match[str]) -> str:
    return found[0].encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")


def _escape(character: str) -> str:
    byte = ord(character) - 0xDC00  # Python represents a byte that is not text in this way
    return f"\\x{byte:02x}" if 0x80 <= byte <= 0xFF else character.encode("unicode_escape").decode()


def width(stream: TextIO | None = None) -> int:
    """Return the columns of the terminal to which ``stream`` (by default stdout) goes, or :data:`UNLIMITED`.

    The environment variable ``COLUMNS`` also limits an output that does not go to a terminal, if it is stdout.
    """
    if (stream or sys.stdout).isatty() or (stream is None and os.environ.get("COLUMNS", "").isdigit()):
        return max(shutil.get_terminal_size().columns, 20)
    return UNLIMITED


def wrapped(text: str, columns: int, *, indent: str = "  ", gap: str = " ") -> list[str]:
    """Return ``text`` in lines of at most ``columns``, broken only at ``gap``; a longer word has a line of its own.

    Parameters
    ----------
    text : str
        One line; spaces at its start indent all lines.
    columns : int
        The width.
    indent : str
        What the second and later lines begin with, in addition.
    gap : str
        The text between words; the gap at a break is dropped, apart from its punctuation.

    Examples
    --------
    >>> wrapped("  run 0: all 4 spectra are complete", 20)
    ['  run 0: all 4', '    spectra are', '    complete']
    """
    start = text[: len(text) - len(text.lstrip(" "))]
    words = text.strip(" ").split(gap)
    words = [word + gap.rstrip() for word in words[:-1]] + words[-1:]
    between = gap[len(gap.rstrip()) :]
    lines = [start + words[0]]
    for word in words[1:]:
        if len(lines[-1]) + len(between) + len(word) <= columns:
            lines[-1] += between + word
        else:
            lines.append(start + indent + word)
    return [line.rstrip() for line in lines]


def fitted(text: str, stream: TextIO | None = None) -> str:
    """Return the lines of ``text`` so that they fit the terminal to which ``stream`` goes.

    In a line such as ``  name   value``, a value that is continued stays in its column.
    """
    columns = width(stream)
    return "\n".join(part for line in printable(text).split("\n") for part in fit_line(line, columns))


def fit_line(line: str, columns: int) -> list[str]:
    """Return a line in lines of at most ``columns``; see :func:`fitted`."""
    if len(line) <= columns:
        return [line]
    column = re.match(r"( +)(\S+(?: \S+)*  +|(?= ))", line)
    indent = " " * len(column[2]) if column and len(column[0]) <= columns // 2 else "  "
    return wrapped(line, columns, indent=indent)
