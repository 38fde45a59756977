"""Tables of results as aligned text, and progress on stderr."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

import click

Value: TypeAlias = str | int | float | bool | None
Row: TypeAlias = dict[str, Value]
Facts: TypeAlias = dict[str, str | int]


@dataclass(frozen=True)
class Table:
    """Rows with the same columns; a column's name ends in its unit.

    Parameters
    ----------
    title : str
        What was measured, where.
    rows : list of dict
        Column → value; None where there is nothing to tell.
    notes : list of str
        What a reader must know to read the numbers right.
    """

    title: str
    rows: list[Row]
    notes: list[str] = field(default_factory=list)

    def text(self) -> str:
        """Title, header, rows, notes: a line each; text to the left, numbers to the right."""
        columns = list(self.rows[0])
        cells = [columns, *([shown(row[column]) for column in columns] for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        left = [all(isinstance(row[column], (str, bool)) for row in self.rows) for column in columns]
        lines = [_aligned(line, widths, left) for line in cells]
        notes = [f"  · {note}" for note in self.notes]
        return "\n".join([self.title, "-" * len(lines[0]), *lines, *notes])


def _aligned(cells: list[str], widths: list[int], left: list[bool]) -> str:
    padded = (
        cell.ljust(width) if to_left else cell.rjust(width)
        for cell, width, to_left in zip(cells, widths, left, strict=True)
    )
    return "  ".join(padded)


def with_ratio(rows: list[Row], column: str) -> list[Row]:
    """Rows with ``column`` over that of the first row, hesstore's, beside it; None where either has no time."""
    ours = rows[0][column]
    compared: list[Row] = []
    for row in rows:
        place = list(row).index(column) + 1
        cells: list[tuple[str, Value]] = list(row.items())
        cells.insert(place, ("× hesstore", _ratio(row[column], ours)))
        compared.append(dict(cells))
    return compared


def _ratio(time: Value, ours: Value) -> float | None:
    return time / ours if isinstance(time, float) and isinstance(ours, float) else None


def shown(value: Value) -> str:
    """A value as a cell: three significant digits, thousands apart, – for nothing."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.3g}"
    return value


def machine_line(facts: Facts) -> str:
    """The machine in one line."""
    return " · ".join(f"{name} {value}" for name, value in facts.items())


def progress(text: str) -> None:
    """Tell on stderr what is being done."""
    click.echo(text, err=True)
