"""λ from names of files, which may be rounded, where a table gives all digits."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hesstore.errors import ImportFilesError
from hesstore.importing.file_index import FileIndex
from hesstore.importing.sources import Sources

GRIDS = st.sets(st.integers(0, 2000).map(lambda count: round(count * 2e-6, 10)), min_size=1, max_size=12)


def l2_in(text: str, known: set[float]) -> float:
    """λ of a file whose name has the text, if these λ are known."""
    path = Path(f"gradients-0-{text}.csv")
    index = FileIndex(Sources(files={"gradients": {(0, text): path}}))
    index.__dict__["_known_l2"] = frozenset(known)
    ((_, l2),) = index.paths["gradients"]
    return l2


@given(GRIDS, st.data(), st.integers(0, 8), st.sampled_from("fe"))
@example({0.000254, 0.0005}, None, 1, "e")
def test_a_rounded_name_means_the_only_l2_that_is_written_so(
    known: set[float], data: st.DataObject | None, digits: int, notation: str
) -> None:
    """The reference computes with fractions: λ lies within half a unit of the last digit."""
    l2 = data.draw(st.sampled_from(sorted(known))) if data else min(known)
    text = f"{l2:.{digits}{notation}}"
    mantissa, _, exponent = text.partition("e")
    unit = Fraction(10) ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
    distances = {each: abs(Fraction(each) - Fraction(text)) / unit for each in known}
    within = [each for each in known if distances[each] <= Fraction(1, 2)]
    if float(text) in known:
        assert l2_in(text, known) == float(text)
    elif len(within) == 1:
        assert l2_in(text, known) == l2
    elif Fraction(1, 2) not in distances.values():
        with pytest.raises(ImportFilesError, match="which could be any of") as raised:
            l2_in(text, known)
        assert text in str(raised.value)


def test_a_number_that_no_known_l2_rounds_to_is_l2_itself() -> None:
    assert l2_in("0.003", {0.0, 0.002, 0.004}) == 0.003
    assert l2_in("1E-3", set()) == 0.001


@pytest.mark.parametrize(("text", "message"), [("1e-20", "too small: λ is rounded"), ("1e999", "is not finite")])
def test_numbers_that_no_grid_can_have(text: str, message: str) -> None:
    with pytest.raises(ImportFilesError, match=message) as raised:
        l2_in(text, {0.0})
    assert str(raised.value).startswith(f"gradients-0-{text}.csv: λ = {text} ")
