from __future__ import annotations

import math
import re
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hesstore.importing.number_grammar import parse_number, parse_row

SIGNS = st.sampled_from(["", "+", "-"])
DIGITS = st.text("0123456789", min_size=1, max_size=12)
TEXTS = st.text("0123456789+-.eE_ ,;\tnaif١½", max_size=12)


@st.composite
def written_numbers(draw: st.DrawFn) -> tuple[str, Decimal]:
    """A number as a person writes it, and its value, which is computed from its parts."""
    sign, whole, decimals = draw(SIGNS), draw(DIGITS), draw(st.one_of(st.just(""), DIGITS))
    exponent = draw(st.one_of(st.none(), st.integers(-20, 20)))
    form = draw(st.sampled_from(["whole", "point", "no whole"]))
    if form == "whole":
        decimals, text = "", whole
    elif form == "point":
        text = f"{whole}.{decimals}"
    else:
        decimals = decimals or "5"
        whole, text = "0", f".{decimals}"
    value = Decimal(int(whole + decimals)).scaleb(-len(decimals))
    if exponent is not None:
        text += (
            draw(st.sampled_from("eE")) + draw(st.sampled_from(["", "+"] if exponent >= 0 else [""])) + str(exponent)
        )
        value = value.scaleb(exponent)
    blanks = draw(st.sampled_from(["", " ", "\t"]))
    return f"{blanks}{sign}{text}{blanks}", -value if sign == "-" else value


@given(written_numbers())
def test_a_number_has_the_value_of_its_digits(written: tuple[str, Decimal]) -> None:
    text, value = written
    assert parse_number(text) == float(value)
    assert parse_row(text.encode())[0] == np.float32(float(value))


@given(TEXTS)
@example("1_5")
@example("١")
@example("1 0")
@example("1,5")
@example("0x1p-2")
def test_all_other_texts_are_errors(text: str) -> None:
    """What is accepted is one run of digits with at most one point and one exponent, which Decimal reads alike."""
    try:
        value = parse_number(text)
    except ValueError as error:
        assert repr(text.strip(" \t")) in str(error)  # noqa: PT017 - most texts are errors, but not all
        return
    if math.isnan(value):
        assert text.strip(" \t").lower() == "nan"
    else:
        assert re.fullmatch(r"[ \t]*[0-9.eE+-]+[ \t]*", text)
        assert value == float(Decimal(text.strip(" \t")))


@given(st.lists(TEXTS, min_size=1, max_size=4).map(",".join))
@example("1 0,0 1")
@example("1, 0,0")
@example("1,,2")
@example("1e39,0")
@example("")
def test_a_row_is_read_as_its_cells_are(row: str) -> None:
    cells: list[float] | None
    try:
        cells = [parse_number(cell) for cell in row.split(",")]
    except ValueError:
        cells = None
    if cells is None or any(abs(value) > float(np.finfo(np.float32).max) for value in cells):
        with pytest.raises(ValueError, match=r"value [0-9]+: "):
            parse_row(row.encode())
    else:
        assert np.array_equal(parse_row(row.encode()), np.array(cells, np.float32), equal_nan=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1_5", "'1_5' is not a number"),
        ("1 0", "'1 0' is not a number: the values are separated by blanks"),
        ("1; 2", "the values are separated by semicolons"),
        ("1\t2", "the values are separated by tabs"),
        ("1,2", "the values are separated by commas"),
        ("-inf", "results are finite"),
        ("", "there is nothing between two separators"),
        ("1e999", "too large for a floating-point number"),
        ("1" * 99, r"^'1{37}…' is"),
    ],
)
def test_messages(text: str, message: str) -> None:
    if text == "1" * 99:
        text += "x"
    with pytest.raises(ValueError, match=message):
        parse_number(text)
