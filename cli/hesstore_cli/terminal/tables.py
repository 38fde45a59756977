"""Tables of text, with aligned columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hesstore_cli.terminal.widths import UNLIMITED, printable

if TYPE_CHECKING:
    from collections.abc import Sequence


def table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], *, align: str = "", width: int = UNLIMITED
) -> list[str]:
    """Return a table as lines, the headings first; two spaces separate the columns.

    A table that is wider than ``width`` becomes a list: each row begins with its first cell, and the other cells follow
    with their headings, in as many lines as they need.

    Parameters
    ----------
    headings : sequence of str
        One heading per column.
    rows : sequence of sequence of str
        The cells, by row.
    align : str
        ``<`` or ``>`` for each column; by default all are aligned to the left.
    width : int
        The greatest number of characters of a line.

    Examples
    --------
    >>> print(*table(("name", "size"), [("a", "10"), ("bc", "2")], align="<>"), sep="\\n")
    name  size
    a       10
    bc       2
    >>> print(*table(("name", "size"), [("a", "10"), ("bc", "2")], width=8), sep="\\n")
    name a
      size 10
    name bc
      size 2
    """
    rows = [[printable(cell).replace("\n", "\\n") for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    if sum(widths) + 2 * len(widths) - 2 > width:
        return [line for row in rows for line in _listed(headings, row, width)]
    sides = align or "<" * len(widths)
    return [
        "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=True)).rstrip()
        for row in (headings, *rows)
    ]


def _listed(headings: Sequence[str], row: Sequence[str], width: int) -> list[str]:
    """Return a row as lines of cells with their headings."""
    pieces = [f"{heading} {cell}".strip() for heading, cell in zip(headings, row, strict=True) if cell]
    lines = pieces[:1]
    for piece in pieces[1:]:
        if len(lines) > 1 and len(lines[-1]) + 2 + len(piece) <= width:
            lines[-1] += f"  {piece}"
        else:
            lines.append(f"  {piece}")
    return lines
