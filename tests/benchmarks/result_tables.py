"""Tables of results, as aligned text on stdout, and progress messages on stderr."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

import click

Value: TypeAlias = str | int | float | bool | None
Row: TypeAlias = dict[str, Value]
Facts: TypeAlias = dict[str, str | int]


@dataclass(frozen=True)
class Table:
    """A table of rows that have the same columns. A column's name ends in its unit.

    Parameters
    ----------
    title : str
        What was measured, and for which sizes.
    rows : list of dict
        The values by column; None where a value is missing.
    notes : list of str
        Explanations that the numbers need.
    """

    title: str
    rows: list[Row]
    notes: list[str] = field(default_factory=list)

    def text(self) -> str:
        """Return title, header, rows and notes, one per line; text is left-aligned, numbers are right-aligned."""
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
    """Return the rows with a further column: ``column`` divided by its value in the first row, that of hesstore.

    The ratio is None where either time is missing.
    """
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
    """Return a value as text: three significant digits, thousands separators, and – for a missing value."""
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
    """Return the description of the machine as one line."""
    return " · ".join(f"{name} {value}" for name, value in facts.items())


def progress(text: str) -> None:
    """Print a progress message to stderr."""
    click.echo(text, err=True)
