from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
import re
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from hesstore.errors import ImportFilesError
from hesstore.importing import text_lines
from hesstore.importing.text_lines import count_decimals, read_lines


def lines_of(path: Path) -> list[tuple[int, str]]:
    return [(number, line.decode()) for number, line in read_lines(path)]


@given(
    texts=st.lists(st.text("ab1,. μ\t", max_size=5), min_size=1, max_size=6),
    ends=st.lists(st.sampled_from(["\n", "\r\n", "\r"]), min_size=6, max_size=6),
    mark=st.booleans(),
    pack=st.sampled_from([bytes, gzip.compress, zstandard.ZstdCompressor().compress]),
)
def test_all_usual_forms_of_a_text_are_read_alike(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], ends: list[str], *, mark: bool, pack: type[bytes]
) -> None:
    """A blank line between a carriage return and a line feed can't be written: together they are one line break."""
    content = "".join(text + ends[0] for text, _ in zip(texts, ends, strict=False))
    path = tmp_path_factory.getbasetemp() / "text.any"
    path.write_bytes(pack((codecs.BOM_UTF8 if mark else b"") + content.encode()))
    expected = [(number, text.strip(" \t")) for number, text in enumerate(texts, start=1) if text.strip(" \t")]
    if expected:
        assert lines_of(path) == expected
    else:
        with pytest.raises(ImportFilesError, match="the file is empty"):
            lines_of(path)


@given(
    st.binary(max_size=40)
    | st.text(max_size=20).map(str.encode)
    | st.text("12,.\r\n \t\0", max_size=20).map(str.encode)
)
def test_any_other_file_is_an_error_that_names_it(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """The reference is Python's decoder, and a split at the three line breaks."""
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(content)
    try:
        lines = re.split(r"\r\n|\r|\n", content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        lines = []
    expected = [(number, line.strip(" \t")) for number, line in enumerate(lines, start=1) if line.strip(" \t")]
    is_cut_off = bool(lines and lines[-1].strip(" \t"))
    if expected and not is_cut_off and b"\0" not in content:
        assert lines_of(path) == expected
    else:
        with pytest.raises(ImportFilesError) as raised:
            lines_of(path)
        assert re.match(rf"{re.escape(str(path))}: (line [0-9]+: |the file is empty|is )", str(raised.value))


def test_line_breaks_of_several_systems_in_one_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"1\r2\r\n3\n\r4\r")
    assert lines_of(tmp_path / "x") == [(1, "1"), (2, "2"), (3, "3"), (5, "4")]
    (tmp_path / "x").write_bytes(b"1\r2")
    with pytest.raises(ImportFilesError, match="line 2: has no line break at its end"):
        lines_of(tmp_path / "x")
    (tmp_path / "x").write_bytes(b"1\n2\n  ")
    assert lines_of(tmp_path / "x") == [(1, "1"), (2, "2")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1\n2\n".encode("utf-16"), "line 1: the text is encoded as UTF-16: save the file as UTF-8"),
        ("1\n2\n".encode("utf-32"), "line 1: the text is encoded as UTF-32"),
        ("1\n2\n".encode("utf-16-le"), "line 1: has NUL bytes"),
        ("1\n2µ\n".encode("latin-1"), "line 2: byte 2 is not UTF-8"),
        (b"\n\r\n  \n", "the file is empty"),
        (bz2.compress(b"1\n"), "is compressed with bzip2: save it as text in UTF-8, plain or compressed with gzip"),
        (lzma.compress(b"1\n"), "is compressed with xz"),
        (gzip.compress(gzip.compress(b"1\n", mtime=0), mtime=0), "is compressed twice"),
        (b"PK\x03\x04\n", "is a zip archive"),
    ],
    ids=["utf-16", "utf-32", "nul", "latin-1", "blank", "bzip2", "xz", "gzip-twice", "zip"],
)
def test_other_encodings_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    with pytest.raises(ImportFilesError, match=message) as caught:
        lines_of(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_line_without_end_takes_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_lines, "_LONGEST", 1 << 20)
    (tmp_path / "x.csv").write_bytes(gzip.compress(b"1" * (1 << 22)))
    with pytest.raises(ImportFilesError, match=r"has a line of more than 1 MiB: is it a text file\?"):
        lines_of(tmp_path / "x.csv")


def test_decimals(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    for text, decimals in (
        ("0.123456789,-1.000000000,12.000000001,0.000000000\n", 9),
        ("0.1234567,-1.0,12.000000001\n", None),
        ("dL/dfc1.weight: 0.25, 0.75, 1.25, 3.75\n", 2),
        ("1.5\n", None),
    ):
        path.write_text(text)
        assert count_decimals(path) == decimals
