from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hesstore.errors import ImportFilesError
from hesstore.importing.file_names import parse_name, run_in_name

NUMBERS = st.one_of(
    st.sampled_from(["0", "0.0", ".5", "0.001", "1e-3", "5E-4", "1e-05", "2.5e-07"]),
    st.decimals(0, 1, places=5).map(str),
)
LABELS = st.sampled_from(["l2_", "L2=", "wd", "wd-", "weight_decay=", "lambda", "lam_", "λ=", "reg_"])
WORDS = st.sampled_from(["mnist5k", "trial21", "val20.31", "acc98.1", "lr=0.01", "epoch=50", "best", "mlp2", "v2"])
ENDINGS = st.sampled_from([".pth", ".pt", ".ckpt", ".pth.tar", ".safetensors"])


@given(st.lists(WORDS, max_size=2), LABELS, NUMBERS, st.lists(WORDS, max_size=2), st.integers(0, 99), ENDINGS)
def test_a_labelled_number_is_l2(
    before: list[str], label: str, number: str, after: list[str], run: int, ending: str
) -> None:
    name = "_".join([*before, f"{label}{number}", *after, f"seed{run}"]) + ending
    found = parse_name(Path(name))
    assert (found.run, Decimal(found.value)) == (run, Decimal(number))
    assert run_in_name(Path(name)) == run


@given(st.lists(WORDS, max_size=2), NUMBERS, st.sampled_from(["_", "-", " "]), ENDINGS)
def test_a_number_that_stands_alone_is_l2(words: list[str], number: str, separator: str, ending: str) -> None:
    assert Decimal(parse_name(Path("_".join([*words, f"net{separator}{number}"]) + ending)).value) == Decimal(number)


@given(LABELS, st.integers(0, 20), st.sampled_from("_- "), st.text("0123456789", min_size=1, max_size=5), ENDINGS)
def test_a_separator_may_stand_for_a_decimal_point(
    label: str, whole: int, separator: str, decimals: str, ending: str
) -> None:
    """A label that the number follows without a separator may be a part of a word; then both numbers stand alone."""
    name = f"net_{label}{whole}{separator}{decimals}{ending}"
    try:
        found = parse_name(Path(name))
    except ImportFilesError as error:
        assert "could be" in str(error)  # noqa: PT017 - nearly all of these names are errors
    else:
        assert label in {"wd", "lambda"}
        assert float(found.value) == whole == int(decimals)


@given(st.text("l2wdrun013.e-_= ^,em", max_size=14))
@example("1_0.5")
@example("l20_0.001")
def test_any_other_name_is_an_error(stem: str) -> None:
    """What is accepted is written in the name between its ends, a separator or a label, as one number."""
    try:
        found = parse_name(Path(f"x_{stem}.pth"))
    except ImportFilesError as error:
        assert f"x_{stem}.pth: " in str(error)  # noqa: PT017 - most texts are errors, but not all
        return
    number = re.escape(found.value)
    assert re.search(rf"(^|[-_= ]|l2|wd|(?<![a-z])\.){number}($|[-_= ]|,(?![0-9])|\.(?![0-9]))", f"x_{stem}")
    assert float(found.value) == float(Decimal(found.value)) >= 0


@pytest.mark.parametrize(
    ("name", "run", "l2"),
    [
        ("trial21_0.002.pth", 0, "0.002"),
        ("mlp_wd.0005.pth", 0, ".0005"),
        ("wd0.001_val20.31.pth", 0, "0.001"),
        ("mnist5k-epoch50-wd=5e-4-acc98.1.pth", 0, "5e-4"),
        ("lambda0.01_seed3.safetensors", 3, "0.01"),
        ("run3_1e-05.pth", 3, "1e-05"),
        ("L2-0.pth", 0, "0"),
        ("model_weights-3-0.00000.pth", 3, "0.00000"),
        ("model_weights-3-0.00020-[3_to_4].pth", 3, "0.00020"),
        ("wd_0.001_wd_1e-3.pt", 0, "0.001"),
    ],
)
def test_names_as_people_write_them(name: str, run: int, l2: str) -> None:
    assert parse_name(Path(name)) == (run, l2)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("l2_1em4.pth", "'1em4' after 'l2' in the name is not a number as 0.001 or 1e-3"),
        ("wd=10^-3.pth", "'10^-3' after 'wd' in the name is not a number"),
        ("wd=0,001.pth", "'0,001' after 'wd'"),
        ("wd=-3.pth", "'-3' after 'wd'"),
        ("wd5e-4acc98.pth", "'5e-4acc98' after 'wd'"),
        ("wd0.1_l2_0.2.pth", "several numbers that could be λ: 0.1, 0.2: write l2_ before the right one"),
        ("resnet-18_0.001.pth", "several numbers that could be λ: 18, 0.001"),
        ("l20_0.001.pth", "several numbers that could be λ: 0, 0.001"),
        ("run1_seed2_0.1.pth", "several numbers that could be the run: 1, 2"),
        ("seed3.5_0.1.pth", "'3.5' after 'seed' in the name is not a whole number"),
        ("l2_0_001.pth", "'0_001' after 'l2' in the name could be 0 or 0.001: rename the file, as in l2_0.001.pth"),
        ("wd-1-5_seed2.pth", "'1-5' after 'wd' in the name could be 1 or 1.5"),
        ("lr=0.0015_1.pth", "1 in the name could be λ or the number of a file: write l2_ before λ"),
        ("net_3.pth", "3 in the name could be λ or the number of a file"),
        ("l1_0.01.pth", "the name has no number that could be λ"),
        ("lr=0.01.pth", "the name has no number that could be λ"),
        ("lr_0.01.pth", "the name has no number that could be λ"),
        ("model.0.001.pth", "the name has no number that could be λ"),
        (
            "best.pth.tar",
            "the name has no number that could be λ: rename the file, as in l2_0.001.pth, or",
        ),
    ],
)
def test_names_that_can_be_understood_in_two_ways(name: str, message: str) -> None:
    with pytest.raises(ImportFilesError) as caught:
        parse_name(Path(name))
    assert message in str(caught.value)
