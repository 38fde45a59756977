from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.torch import save_file

from hesstore.errors import ImportFilesError
from hesstore.exporting.number_text import number_text
from hesstore.importing import readers
from hesstore.importing.text_lines import count_decimals

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
    assert vectors(file("1,2,3\n-0.5, 1e-45 ,nan\n"))[0] == [1, 2, 3]
    found = readers.read_gradients(file(GOOD), SHAPES)
    assert {name: values.tolist() for name, values in found.items()} == {
        "fc1.weight": [1, 2, 3, 4, 5, 6],
        "fc1.bias": [7, 8],
    }
    assert readers.shapes_from_sizes({"a.weight": 6, "a.bias": 3, "b": 4, "c.weight": 5}) == {
        "a.weight": (3, 2),
        "a.bias": (3,),
        "b": (4,),
        "c.weight": (5,),
    }
    table = file(",L2_strength,Test_Accuracy,Class_0_Accuracy,Class_1_Accuracy\n0,0.1,50,100,nan\n")
    rows, classes = readers.read_accuracies(table)
    assert classes == 2
    assert rows[0.1].test_accuracy == 50
    assert rows[0.1].classes[0] == 100
    assert np.isnan([rows[0.1].classes[1], rows[0.1].train_loss]).all()


HEADER = "L2_strength,Train_Loss,Train_Reg_Loss,Test_Loss,Test_Accuracy\n"


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        (readers.read_eigenvalues, "", "the file is empty"),
        (readers.read_eigenvalues, "1\n2", "line 2: has no line break at its end, so the file may have been cut off"),
        (readers.read_eigenvalues, "1\ntwo\n3\n", "line 2: 'two' is not a number"),
        (readers.read_eigenvalues, "1\n\n3\n", "line 2: '' is not a number"),
        (vectors, "1,2,3\n1,2\n", "line 2: expected 3 values, found 2"),
        (vectors, "1,2,3\n1,x,3\n", "line 2: value 2: 'x' is not a number"),
        (vectors, "1,2,3\n1,,3\n", "line 2: value 2: '' is not a number"),
        (vectors, "1,2,3\n1,2,", "line 2"),
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
        (readers.read_accuracies, HEADER + "0,1,2,3\n", "line 2: expected 5 values, found 4"),
        (readers.read_accuracies, HEADER + "0,1,2,3,101\n", "line 2: 101 is not an accuracy in percent"),
        (readers.read_accuracies, HEADER + "0,1,2,3,4\n0,1,2,3,4\n", "line 3: second row for λ = 0"),
        (
            readers.read_accuracies,
            HEADER + "-1,1,2,3,4\n",
            "line 2: L2_strength is -1, but must be finite and at least 0",
        ),
        (readers.read_accuracies, "L2_strength,Loss\n0,1\n", "line 1: unknown column 'Loss'"),
        (readers.read_accuracies, "Test_Loss\n1\n", "line 1: missing column L2_strength"),
        (
            readers.read_accuracies,
            "L2_strength,Class_1_Accuracy\n0,1\n",
            "expected columns for the classes 0, 1, …, found [1]",
        ),
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


@given(hnp.arrays(np.float32, st.integers(1, 30), elements=st.floats(width=32)))
def test_floats_read_back_bit_for_bit(tmp_path_factory: pytest.TempPathFactory, values: np.ndarray) -> None:
    path = tmp_path_factory.getbasetemp() / "floats.csv"
    path.write_bytes(bytes(number_text(values, b",")) + b"\n")
    (back,) = readers.read_eigenvectors(path)
    there = ~np.isnan(values)
    assert np.array_equal(back.view(np.uint32)[there], values.view(np.uint32)[there])
    assert np.isnan(back[~there]).all()


def test_state_dicts_in_several_forms(tmp_path: Path) -> None:
    state = {"fc1.weight": torch.arange(6.0).reshape(2, 3), "fc1.bias": torch.ones(2, dtype=torch.float64)}
    path = tmp_path / "w.pth"
    for saved in (
        state,
        {"state_dict": state, "epoch": 3},
        {"model_state_dict": {f"module.{name}": tensor for name, tensor in state.items()}},
        dict(reversed(state.items())),
    ):
        torch.save(saved, path)
        found = readers.read_weights(path, SHAPES)
        assert list(found) == list(SHAPES)
        assert found["fc1.weight"].tolist() == [[0, 1, 2], [3, 4, 5]]
        assert found["fc1.bias"].dtype == np.float32
    save_file(state, tmp_path / "w.safetensors")
    assert readers.read_weights(tmp_path / "w.safetensors", SHAPES)["fc1.bias"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ({"fc1.weight": torch.ones(2, 3)}, "missing key 'fc1.bias'"),
        (
            {"fc1.weight": torch.ones(2, 3), "fc1.bias": torch.ones(2), "bn.mean": torch.ones(1)},
            "unknown key 'bn.mean'",
        ),
        (
            {"fc1.weight": torch.ones(3, 2), "fc1.bias": torch.ones(2)},
            r"fc1.weight: expected the shape \(2, 3\), found \(3, 2\)",
        ),
        ({"fc1.weight": torch.ones(2, 3), "fc1.bias": torch.ones(2).long()}, "fc1.bias is torch.int64"),
        ({"fc1.weight": torch.full((2, 3), torch.nan), "fc1.bias": torch.ones(2)}, "6 values that are NaN"),
        (torch.ones(3), "expected a state_dict, found Tensor"),
        (torch.nn.Linear(2, 2), "weights_only=True"),
        (None, "cannot be loaded"),
    ],
)
def test_bad_weights(tmp_path: Path, saved: object, message: str) -> None:
    path = tmp_path / "w.pth"
    if saved is None:
        path.write_bytes(b"PK\x03\x04 cut off")
    else:
        torch.save(saved, path)
    with pytest.raises(ImportFilesError, match=message) as caught:
        readers.read_weights(path, SHAPES)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_bad_safetensors(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"nothing")
    with pytest.raises(ImportFilesError, match="not a valid safetensors file"):
        readers.read_weights(tmp_path / "w.safetensors")


def test_decimals(file: Callable[[str], Path]) -> None:
    assert count_decimals(file("0.123456789,-1.000000000,12.000000001,0.000000000\n")) == 9
    assert count_decimals(file("0.1234567,-1.0,12.000000001\n")) is None
    assert count_decimals(file("dL/dfc1.weight: 0.25, 0.75, 1.25, 3.75\n")) == 2
    assert count_decimals(file("1.5\n")) is None
