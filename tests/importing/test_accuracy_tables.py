from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hesstore.errors import ImportFilesError
from hesstore.importing.accuracy_tables import is_accuracy_table, read_accuracies

HEADER = "L2_strength,Train_Loss,Train_Reg_Loss,Test_Loss,Test_Accuracy\n"


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        (tmp_path / "x.csv").write_text(text)
        return tmp_path / "x.csv"

    return write


def test_a_table(file: Callable[[str], Path]) -> None:
    path = file(",L2_strength,Test_Accuracy,Class_00_Accuracy,Class_01_Accuracy\n0,0.1,50,100,nan\n")
    table = read_accuracies(path)
    row = table.rows[0.1]
    assert (table.num_classes, row.test_accuracy, row.classes[0]) == (2, 50, 100)
    assert np.isnan([row.classes[1], row.train_loss]).all()
    assert is_accuracy_table(path)
    assert not is_accuracy_table(file("Test_Loss\n1\n"))
    assert not is_accuracy_table(file("\0"))
    assert not is_accuracy_table(file('"L2_strength\n'))


def test_tables_as_the_authors_publish_them(file: Callable[[str], Path]) -> None:
    """An index column, norms or distances as the last column, and empty cells."""
    name = ",L2_strength,Train_Loss,Train_Reg_Loss,Test_Loss,Test_Accuracy,"
    table = read_accuracies(file(f"{name}r0\n0,0.0,0.01,0.01,0.1,97.7,89.5\n1,0.0902,2.3,2.31,2.3,10.28,\n"))
    assert table.rows[0.0].weights_norm == 89.5
    assert np.isnan(table.rows[0.0902].weights_norm)
    assert table.rows[0.0902].train_reg_loss == 2.31
    assert table.unused == ()
    for column in ("r4", "r0-r1", "r0-rX"):
        table = read_accuracies(file(f"{name}{column}\n0,0.0,0.01,0.01,0.1,97.7,144.0\n"))
        assert table.unused == (column,)
        assert np.isnan(table.rows[0.0].weights_norm)


@pytest.mark.parametrize("columns", ["Test_Accuracy", "Class_0_Accuracy,Class_1_Accuracy"])
def test_fractions_are_not_percentages(file: Callable[[str], Path], columns: str) -> None:
    values = ",".join("0.97" for _ in columns.split(","))
    path = file(f"L2_strength,{columns}\n0,{values}\n0.1,{values.replace('0.97', '0')}\n")
    with pytest.raises(ImportFilesError, match=r"the largest value is 0\.97, so they look like fractions: multiply"):
        read_accuracies(path)
    assert 0.0 in read_accuracies(path, percent_is_certain=True).rows
    assert 0.0 in read_accuracies(file(f"L2_strength,{columns}\n0,{values.replace('0.97', '0')}\n")).rows


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER + "0,1,2,3\n", "line 2: expected 5 values, found 4"),
        (HEADER + "0,1,2,3,101\n", "line 2: 101 is not an accuracy in percent"),
        (HEADER + "0,1,2,3,4\n0,1,2,3,4\n", "line 3: second row for λ = 0"),
        (
            HEADER + "-1,1,2,3,4\n",
            "line 2: L2_strength is -1, but must be finite and at least 0",
        ),
        ("L2_strength,Loss\n0,1\n", "line 1: unknown column 'Loss'"),
        ("Test_Loss\n1\n", "line 1: missing column L2_strength"),
        (
            "L2_strength,Class_1_Accuracy\n0,1\n",
            "expected columns for the classes 0, 1, …, found [1]",
        ),
        (HEADER + "0_1,1,2,3,4\n", "line 2: L2_strength: '0_1' is not a number"),
        (HEADER + "nan,1,2,3,4\n", "line 2: L2_strength is nan, but must be finite"),
        (HEADER + ",1,2,3,4\n", "line 2: L2_strength is nan, but must be finite"),
        (HEADER + "0,1,2,inf,4\n", "line 2: Test_Loss: 'inf' is not a number: results are finite"),
        (HEADER, "has no rows below its header"),
        (HEADER + '0,1,2,3,"4\n', "line 2: cannot be split at commas (unexpected end of data): check its quotes"),
        (HEADER + f"0,1,2,3,{'4' * 200_000}\n", "line 2: cannot be split at commas (field larger than field limit"),
        ("L2_strength,Test_Loss,Test_Loss\n0,1,2\n", "line 1: two columns 'Test_Loss'"),
        ("L2_strength,Class_0_Accuracy,Class_00_Accuracy\n0,1,2\n", "line 1: two columns for class 0"),
        ("L2_strength;Test_Loss\n0;1\n", "line 1: the columns in 'L2_strength;Test_Loss' are not separated by commas"),
        ("L2_strength\tTest_Loss\n0\t1\n", "are not separated by commas"),
        ("L2_strength,r0\n0,-1\n", "line 2: r0 is -1, but a norm is at least 0"),
    ],
)
def test_bad_tables_name_file_line_and_expectation(file: Callable[[str], Path], text: str, message: str) -> None:
    path = file(text)
    with pytest.raises(ImportFilesError) as caught:
        read_accuracies(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
