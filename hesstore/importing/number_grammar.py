"""The grammar of numbers in text files: decimal numbers as everybody writes them, and nothing else.

``float()`` also accepts ``1_5``, Arabic digits and ``Infinity``, and other parsers accept a comma or a blank within a
number. Here, a text that a reader could take for another number, or for several, is an error.
"""

from __future__ import annotations

import io
import math
import re
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLANKS = " \t"
"""The characters that may surround a number."""

NUMBER = r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_NUMBER = re.compile(NUMBER)
_MISSING = frozenset({"nan", "NaN", "NAN"})
_CELL_CHARACTERS = b"0123456789+-.eE,"
_LARGEST = float(np.finfo(np.float32).max)
_SHOWN = 40


def parse_number(text: str) -> float:
    """Parse one finite number, with blanks around it or not; ``nan`` in any common spelling is NaN.

    Raises
    ------
    ValueError
        If the text is anything else. The message names the text, and says what is wrong with it.
    """
    plain = text.strip(BLANKS)
    if plain in _MISSING:
        return math.nan
    if not _NUMBER.fullmatch(plain):
        raise ValueError(f"{short(plain)} is not a number{_reason(plain)}")
    value = float(plain)
    if math.isinf(value):
        raise ValueError(f"{short(plain)} is too large for a floating-point number")
    return value


def parse_row(row: bytes) -> NDArray[np.float32]:
    """Parse a long row of numbers with commas between them; see :func:`parse_number`.

    Raises
    ------
    ValueError
        If a value is not a number, or too large for float32. The message names its position, counted from 1.
    """
    plain = row.replace(b", ", b",").strip(b" \t")
    values = None if plain.translate(None, _CELL_CHARACTERS) else _fast_values(plain)
    return _checked_values(row) if values is None else values


def short(text: str) -> str:
    """Return the text in quotation marks, cut to 40 characters."""
    return repr(text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}…")


def _fast_values(plain: bytes) -> NDArray[np.float32] | None:
    """The values of a row without blanks, or None if one of them is not a finite number."""
    try:
        values = pl.read_csv(
            io.BytesIO(plain.replace(b",", b"\n")),
            has_header=False,
            new_columns=["value"],
            schema_overrides={"value": pl.Float32},
        )["value"]
    except pl.exceptions.PolarsError:
        return None
    array = values.to_numpy()
    complete = not values.null_count() and len(values) == plain.count(b",") + 1
    return array if complete and np.isfinite(array).all() else None


def _checked_values(row: bytes) -> NDArray[np.float32]:
    """The values of a row, one by one, so that an error can name the first one that is wrong."""
    values = []
    for place, cell in enumerate(row.decode(errors="replace").split(","), start=1):
        try:
            value = parse_number(cell)
        except ValueError as error:
            raise ValueError(f"value {place}: {error}") from None
        if abs(value) > _LARGEST:
            raise ValueError(f"value {place}: {short(cell.strip(BLANKS))} is too large for float32")
        values.append(value)
    return np.array(values, np.float32)


def _reason(plain: str) -> str:
    """The most probable reason, as the end of a message."""
    if not plain:
        return ": there is nothing between two separators"
    for separator, name in ((";", "semicolons"), ("\t", "tabs"), (" ", "blanks"), (",", "commas"), ("|", "bars")):
        parts = plain.split(separator)
        if len(parts) > 1 and all(_NUMBER.fullmatch(part.strip(BLANKS)) for part in parts if part.strip(BLANKS)):
            return f": the values are separated by {name}, not as expected here"
    if plain.lower().lstrip("+-") in {"inf", "infinity"}:
        return ": results are finite"
    return ""
