"""A pseudo-terminal of a given size, and the screen that results from the text written to it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

CONTROL = re.compile(r"\x1b\[(\??\d*(?:;\d+)*)([A-Za-z])")


class Terminal:
    """A screen of ``width`` columns and any number of rows, which wraps its lines if it becomes narrower."""

    def __init__(self, width: int, controller: int, stream: TextIO) -> None:
        self.stream, self._controller = stream, controller
        self.raw = ""
        self._rows = [""]
        self._row = 0
        self.resize(width)

    def resize(self, width: int) -> None:
        """Change the width of the terminal."""
        self._take()
        fcntl.ioctl(self._controller, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
        self.width = width
        parts = [self._wrapped(row) for row in self._rows]
        self._row = sum(map(len, parts[: self._row + 1])) - 1  # the cursor is at the end of its row
        self._rows = [part for row in parts for part in row]

    def _wrapped(self, row: str) -> list[str]:
        return [row[start : start + self.width] for start in range(0, max(len(row), 1), self.width)]

    def _take(self) -> None:
        """Read the text written so far."""
        self.stream.flush()
        os.set_blocking(self._controller, False)
        new = b""
        while True:
            try:
                new += os.read(self._controller, 65536)
            except (BlockingIOError, OSError):
                break
        text = new.decode()
        self.raw += text
        while text:
            if found := CONTROL.match(text):
                self._obey(found[1], found[2])
                text = text[found.end() :]
            else:
                self._put(text[0])
                text = text[1:]

    def _obey(self, number: str, letter: str) -> None:
        if letter == "A":
            self._row -= int(number or 1)
            assert self._row >= 0, "above the top"
        elif letter == "K":
            assert number == "2"
            self._rows[self._row] = ""
        else:
            assert letter in "mhl", letter

    def _put(self, char: str) -> None:
        if char == "\n":
            self._row += 1
            if self._row == len(self._rows):
                self._rows.append("")
        elif char != "\r":  # text is always written at the end of a line
            if len(self._rows[self._row]) == self.width:
                self._put("\n")
            self._rows[self._row] += char

    @property
    def screen(self) -> list[str]:
        """The lines on the screen, without empty ones at the end."""
        self._take()
        return "\n".join(self._rows).rstrip().splitlines()


@contextmanager
def terminal(width: int) -> Iterator[Terminal]:
    """A terminal; programs see its ``stream`` as one."""
    controller, device = pty.openpty()
    stream = os.fdopen(device, "w", encoding="utf-8")
    try:
        yield Terminal(width, controller, stream)
    finally:
        stream.close()
        os.close(controller)
