"""The live block of a sweep: a few lines that fit the terminal as it is now."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.measure import Measurement
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from rich.console import Console, ConsoleOptions, RenderResult

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


class Block:
    """Renders what ``view`` returns at that moment."""

    def __init__(self, view: Callable[[], View]) -> None:
        self._view = view

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """A line each, none wider than the terminal."""
        yield Text("\n").join(lines(self._view(), options.max_width))

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """Any width will do."""
        return Measurement(1, options.max_width)


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
    line.truncate(width)
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
