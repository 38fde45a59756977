"""Tables of text, with aligned columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, align: str = "") -> list[str]:
    """Return a table as lines, the headings first; two spaces separate the columns.

    Parameters
    ----------
    headings : sequence of str
        One heading per column.
    rows : sequence of sequence of str
        The cells, by row.
    align : str
        ``<`` or ``>`` for each column; by default all are aligned to the left.

    Examples
    --------
    >>> print(*table(("name", "size"), [("a", "10"), ("bc", "2")], align="<>"), sep="\\n")
    name  size
    a       10
    bc       2
    """
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    sides = align or "<" * len(widths)
    return [
        "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=True)).rstrip()
        for row in (headings, *rows)
    ]
