from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hesstore.errors import ImportFilesError
from hesstore.exporting.number_text import number_text
from hesstore.importing import readers

SHAPES = {"fc1.weight": (2, 3), "fc1.bias": (2,)}
GOOD = "dL/dfc1.weight: 1, 2, 3, 4, 5, 6\ndL/dfc1.bias: 7, 8\n"


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        (tmp_path / "x.csv").write_text(text)
        return tmp_path / "x.csv"

    return write


def vectors(path: Path) -> list[list[float]]:
    return [vector.tolist() for vector in readers.read_eigenvectors(path, 3)]


def test_good_files(file: Callable[[str], Path]) -> None:
    assert readers.read_eigenvalues(file("1e-3\n-2.5\nnan\r\n")).tolist()[:2] == [0.001, -2.5]
    assert vectors(file("0.6,0,-0.8\n-1, 1e-45 ,.0\nnan,nan,nan\n"))[1] == [-1, np.float32(1e-45), 0]
    found = readers.read_gradients(file(GOOD), SHAPES)
    assert {name: values.tolist() for name, values in found.items()} == {
        "fc1.weight": [1, 2, 3, 4, 5, 6],
        "fc1.bias": [7, 8],
    }


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        (readers.read_eigenvalues, "", "the file is empty"),
        (readers.read_eigenvalues, "1\n2", "line 2: has no line break at its end, so the file may have been cut off"),
        (readers.read_eigenvalues, "1\ntwo\n3\n", "line 2: 'two' is not a number"),
        (readers.read_eigenvalues, "1\n\n3_0\n", "line 3: '3_0' is not a number"),
        (readers.read_eigenvalues, "1,2,3\n", "line 1: '1,2,3' is not a number: the values are separated by commas"),
        (readers.read_eigenvalues, "1\ninf\n", "line 2: 'inf' is not a number: results are finite"),
        (readers.read_eigenvalues, "nan\nnan\n", "all eigenvalues are NaN"),
        (vectors, "3,4,0\n", "line 1: the norm is 5, but eigenvectors have norm 1"),
        (vectors, "1,0,0\n0,nan,1\n", "line 2: value 2: is NaN"),
        (vectors, "1,0,inf\n", "line 1: value 3: 'inf' is not a number: results are finite"),
        (vectors, "1 0,0,1\n", "line 1: value 1: '1 0' is not a number: the values are separated by blanks"),
        (vectors, "1;0;0\n", "expected 3 values, found 1: the values are separated by semicolons"),
        (
            lambda path: readers.read_gradients(path, SHAPES),
            GOOD.replace("1, 2, 3, 4", "1 2, 3 4"),
            "line 1: value 1: '1 2' is not a number: the values are separated by blanks",
        ),
        (readers.read_gradients, "dL/da: 1, nan\n", "line 1: value 2: is NaN"),
        (vectors, "0,0,1\n1,0\n", "line 2: expected 3 values, found 2"),
        (vectors, "0,0,1\n1,x,3\n", "line 2: value 2: 'x' is not a number"),
        (vectors, "0,0,1\n1,,3\n", "line 2: value 2: '' is not a number"),
        (vectors, "0,0,1\n1,2,", "line 2"),
        (
            lambda path: readers.read_gradients(path, SHAPES),
            GOOD.replace("dL/dfc1.bias", "dL/dfc1.b"),
            "line 2: expected fc1.bias, found the parameter 'fc1.b'",
        ),
        (
            lambda path: readers.read_gradients(path, SHAPES),
            GOOD.replace(", 6", ""),
            "line 1: expected 6 values of fc1.weight, found 5",
        ),
        (
            lambda path: readers.read_gradients(path, SHAPES),
            GOOD.splitlines(keepends=True)[0],
            "the file ends after 1 lines: expected fc1.bias next",
        ),
        (lambda path: readers.read_gradients(path, SHAPES), GOOD + "dL/dfc2.bias: 1\n", "expected the end of the file"),
        (readers.read_gradients, GOOD + "dL/dfc1.bias: 1\n", "line 3: second line for the parameter 'fc1.bias'"),
        (readers.read_gradients, "1, 2, 3\n", "line 1: expected dL/dNAME: at the beginning"),
        (readers.read_gradients, "dL/da: 1, b\n", "line 1: value 2: 'b' is not a number"),
    ],
)
def test_bad_files_name_file_line_and_expectation(
    file: Callable[[str], Path], read: Callable[[Path], Any], text: str, message: str
) -> None:
    path = file(text)
    with pytest.raises(ImportFilesError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_compressed_files(tmp_path: Path, ending: str) -> None:
    text = "".join(f"{number}\n" for number in range(50_000)).encode()
    compressed = (
        gzip.compress(text) if ending == ".gz" else zstandard.ZstdCompressor(write_checksum=True).compress(text)
    )
    path = tmp_path / f"x.csv{ending}"
    path.write_bytes(compressed)
    assert readers.read_eigenvalues(path).tolist() == list(range(50_000))
    for damaged in (
        compressed[: len(compressed) // 2],
        compressed[:5],
        b"no archive at all\n",
        compressed[:40] + b"\0\0\0\0" + compressed[44:],
    ):
        path.write_bytes(damaged)
        with pytest.raises(ImportFilesError, match=r"decompressed|number|cut off"):
            readers.read_eigenvalues(path)


@given(hnp.arrays(np.float32, st.integers(1, 30), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_floats_read_back_bit_for_bit(tmp_path_factory: pytest.TempPathFactory, values: np.ndarray) -> None:
    path = tmp_path_factory.getbasetemp() / "floats.csv"
    path.write_bytes(b"dL/dx: " + bytes(number_text(values, b", ")) + b"\n")
    assert np.array_equal(readers.read_gradients(path)["x"].view(np.uint32), values.view(np.uint32))
