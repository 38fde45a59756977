"""The live block of a sweep: a few lines that are drawn again and again and always fit the terminal.

Rich's own live display remembers how many lines it has drawn. A terminal that has since become narrower wraps these
lines into more rows, so that Rich erases too few of them and leaves remnants. This block computes the rows from the
current width.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self, TextIO

from rich.console import Console
from rich.text import Text

from hesstore_cli.terminal.widths import printable, wrapped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

GAP = "  "
WIDEST_BAR = 40
NARROWEST_BAR = 8


@dataclass
class BlockContent:
    """The content of a block. Texts in a sequence are pieces that a line break never splits.

    Attributes
    ----------
    done, failed, total : int
        Grid points that are finished, those of them that failed, and all; a ``total`` of 0 is not known yet.
    doing : sequence of str
        The current grid point, and its phase.
    last : sequence of str
        The results of the last complete grid point.
    left : str
        The time left.
    notes : sequence of str
        Further lines at the end.
    """

    done: int = 0
    failed: int = 0
    total: int = 0
    doing: Sequence[str] = ()
    last: Sequence[str] = ()
    left: str = ""
    notes: Sequence[str] = field(default_factory=list)


class LiveBlock:
    """A context manager with a thread that draws the current content again and again.

    Parameters
    ----------
    content : callable
        Returns the current content.
    stream : text stream
        The terminal.
    keep : bool
        Whether the last block stays on the screen.
    """

    EVERY = 0.5
    """Seconds between two drawings."""

    def __init__(self, content: Callable[[], BlockContent], stream: TextIO, *, keep: bool = False) -> None:
        self._content, self._stream, self._keep = content, stream, keep
        self._console = Console(file=io.StringIO(), force_terminal=True)  # only renders
        self._drawn: list[int] = []  # the length of each line
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._draw_repeatedly, name="hesstore-block", daemon=True)

    def __enter__(self) -> Self:
        self._send("\x1b[?25l")  # hide the cursor
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self.draw()
        self._send(("\n" if self._keep else self._erasure()) + "\x1b[?25h")

    def folded(self, text: str) -> str:
        """Return ``text`` in lines that fit the terminal, broken between words."""
        width, _ = self._size()
        return "\n".join(wrapped(printable(text), width))

    def write(self, text: str) -> None:
        """Write a line above the block."""
        with self._lock:
            self._send(f"{self._erasure()}{text}\n")
            self._drawn = []
        self.draw()

    def draw(self) -> None:
        """Draw the current content over the previous one."""
        with self._lock:
            width, height = self._size()
            block = block_lines(self._content(), width)[: max(height - 1, 1)]
            with self._console.capture() as drawn:
                self._console.print(Text("\n").join(block), end="", soft_wrap=True)
            self._send(self._erasure() + drawn.get())
            self._drawn = [line.cell_len for line in block]

    def _draw_repeatedly(self) -> None:
        while not self._done.wait(self.EVERY):
            self.draw()

    def _send(self, text: str) -> None:
        with contextlib.suppress(OSError):  # the work continues without its terminal
            self._stream.write(text)
            self._stream.flush()

    def _erasure(self) -> str:
        """Return the control codes that move the cursor to the start of the block and erase its rows."""
        width, _ = self._size()
        rows = sum(max(1, -(-length // width)) for length in self._drawn)
        return "\r\x1b[2K" + "\x1b[1A\x1b[2K" * (rows - 1)

    def _size(self) -> tuple[int, int]:
        """Return the columns and rows of the terminal now."""
        with contextlib.suppress(OSError):
            columns, rows = os.get_terminal_size(self._stream.fileno())
            if columns and rows:
                return columns, rows
        return shutil.get_terminal_size()  # some terminals do not report their size


def block_lines(content: BlockContent, width: int) -> list[Text]:
    """Return the lines of a block in ``width`` columns."""
    lines = [*_first_lines(content, width)]
    lines += (Text(line) for line in flow(content.doing, width))
    lines += (Text(line, style="dim") for line in flow(last_pieces(content), width))
    for note in content.notes:
        lines += (Text(line, style="yellow") for line in flow(note.split(" "), width, gap=" "))
    return lines


def last_pieces(content: BlockContent) -> list[str]:
    """Return the results of the last complete grid point, marked as such."""
    return [f"last: {content.last[0]}", *content.last[1:]] if content.last else []


def flow(pieces: Iterable[str], width: int, *, gap: str = GAP) -> list[str]:
    """Return lines of at most ``width`` columns that hold the pieces in order; a longer piece is cut."""
    lines: list[str] = []
    for piece in map(printable, pieces):
        cut = piece if len(piece) <= width else f"{piece[: width - 1]}…"
        if lines and len(lines[-1]) + len(gap) + len(cut) <= width:
            lines[-1] += gap + cut
        else:
            lines.append(cut)
    return lines


def _first_lines(content: BlockContent, width: int) -> Iterator[Text]:
    """Yield the bar with the count, and the failures and the time left on the same line if there is room."""
    if not content.total:
        return
    count = _count(content, width)
    failed = f"{content.failed} failed" if content.failed else ""
    pieces = [count, *filter(None, [failed, content.left])]
    if len(GAP.join(["", *pieces])) + NARROWEST_BAR > width:
        pieces = [count]
    room = min(WIDEST_BAR, width - len(GAP.join(["", *pieces])))
    line = _bar(content, room) if room >= NARROWEST_BAR else Text()
    for piece in pieces:
        line.append((GAP if line else "") + piece, style="red" if piece == failed and failed else "")
    line.truncate(width, overflow="ellipsis")
    yield line
    for rest in flow([piece for piece in (failed, content.left) if piece and piece not in pieces], width):
        yield Text(rest)


def _count(content: BlockContent, width: int) -> str:
    """Return ``3/16 grid points``, or ``3/16`` on a narrow terminal."""
    count = f"{content.done}/{content.total}"
    text = f"{count} grid points"
    return text if len(GAP + text) + NARROWEST_BAR <= width else count


def _bar(content: BlockContent, width: int) -> Text:
    """Return the bar, whose two parts differ in their characters as well as in colour."""
    full = round(width * content.done / content.total)
    return Text.assemble(("━" * full, "green"), ("─" * (width - full), "dim"))
