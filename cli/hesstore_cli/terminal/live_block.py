"""The live block of a sweep: a few lines that fit the terminal as it is now."""

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

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

GAP = "  "
WIDEST_BAR = 40
NARROWEST_BAR = 8


@dataclass
class View:
    """What the block says.

    Attributes
    ----------
    done, failed, total : int
        λ that are finished, those of them that failed, and all; a ``total`` of 0 is not known yet.
    doing : sequence of str
        Which λ is in hand, and what is done to it: pieces that stay whole.
    last : sequence of str
        What the last complete λ is told by.
    left : str
        How long it may still take.
    notes : sequence of str
        Lines below.
    """

    done: int = 0
    failed: int = 0
    total: int = 0
    doing: Sequence[str] = ()
    last: Sequence[str] = ()
    left: str = ""
    notes: Sequence[str] = field(default_factory=list)


class LiveBlock:
    """Draws what ``view`` returns again and again, by a thread, as a context manager.

    Rich's own live display counts the lines that it has to erase as they were drawn: a terminal that was made narrower
    since has wrapped them.

    Parameters
    ----------
    view : callable
        What is to be said at this moment.
    stream : text stream
        The terminal.
    keep : bool
        Whether the last block stays.
    """

    EVERY = 0.5

    def __init__(self, view: Callable[[], View], stream: TextIO, *, keep: bool = False) -> None:
        self._view, self._stream, self._keep = view, stream, keep
        self._console = Console(file=io.StringIO(), force_terminal=True)  # renders alone
        self._drawn: list[int] = []  # the length of each line
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._draw_on, name="hesstore-block", daemon=True)

    def __enter__(self) -> Self:
        self._write("\x1b[?25l")  # no cursor
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self.draw()
        self._write(("\n" if self._keep else self._erasure()) + "\x1b[?25h")

    def folded(self, text: str) -> str:
        """``text`` in lines that fit beside each other, broken between words."""
        width, _ = self._size()
        return "\n  ".join(flow(text.split(" "), max(width - 2, 1), gap=" "))

    def say(self, text: str) -> None:
        """A line above the block."""
        with self._lock:
            self._write(f"{self._erasure()}{text}\n")
            self._drawn = []
        self.draw()

    def draw(self) -> None:
        """Draw it as it is now."""
        with self._lock:
            width, height = self._size()
            block = lines(self._view(), width)[: max(height - 1, 1)]
            with self._console.capture() as drawn:
                self._console.print(Text("\n").join(block), end="", soft_wrap=True)
            self._write(self._erasure() + drawn.get())
            self._drawn = [line.cell_len for line in block]

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError):  # a terminal that is gone is no reason to stop work
            self._stream.write(text)
            self._stream.flush()

    def _erasure(self) -> str:
        """What takes the cursor to the block's beginning and erases its rows."""
        width, _ = self._size()
        rows = sum(max(1, -(-length // width)) for length in self._drawn)
        return "\r\x1b[2K" + "\x1b[1A\x1b[2K" * (rows - 1)

    def _size(self) -> tuple[int, int]:
        """Columns and rows now."""
        with contextlib.suppress(OSError):
            columns, rows = os.get_terminal_size(self._stream.fileno())
            if columns and rows:
                return columns, rows
        return shutil.get_terminal_size()  # some terminals do not know

    def _draw_on(self) -> None:
        while not self._done.wait(self.EVERY):
            self.draw()


def lines(view: View, width: int) -> list[Text]:
    """The block's lines in ``width`` columns."""
    found = [*_first(view, width)]
    found += (Text(line) for line in flow(view.doing, width))
    found += (Text(line, style="dim") for line in flow(["last", *view.last] if view.last else (), width))
    for note in view.notes:
        found += (Text(line, style="yellow") for line in flow(note.split(" "), width, gap=" "))
    return found


def _first(view: View, width: int) -> Iterator[Text]:
    """The bar, the count, and the time left if there is room for it beside them."""
    if not view.total:
        return
    count = f"{view.done}/{view.total} λ"
    failed = f"{view.failed} failed" if view.failed else ""
    beside = [count, *filter(None, [failed, view.left])]
    if len(GAP.join(["", *beside])) + NARROWEST_BAR > width:
        beside = [count]
    room = min(WIDEST_BAR, width - len(GAP.join(["", *beside])))
    line = _bar(view, room) if room >= NARROWEST_BAR else Text()
    for piece in beside:
        line.append((GAP if line else "") + piece, style="red" if piece == failed and failed else "")
    line.truncate(width, overflow="ellipsis")
    yield line
    for rest in flow([piece for piece in (failed, view.left) if piece and piece not in beside], width):
        yield Text(rest)


def _bar(view: View, width: int) -> Text:
    """Glyphs differ, not colours alone."""
    full = round(width * view.done / view.total)
    return Text.assemble(("━" * full, "green"), ("─" * (width - full), "dim"))


def flow(pieces: Iterable[str], width: int, *, gap: str = GAP) -> list[str]:
    """Pieces set side by side in lines of ``width`` columns; one that is longer is cut."""
    found: list[str] = []
    for piece in pieces:
        cut = piece if len(piece) <= width else f"{piece[: width - 1]}…"
        if found and len(found[-1]) + len(gap) + len(cut) <= width:
            found[-1] += gap + cut
        else:
            found.append(cut)
    return found
