from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hesstore.errors import ImportFilesError
from hesstore.importing.accuracy_tables import AccuracyRow, is_accuracy_table, read_accuracies

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
    assert (table.distance, table.unused) == ("", ())
    for column in ("r4", "r0-r1", "r0-rX"):
        table = read_accuracies(file(f"{name}{column}\n0,0.0,0.01,0.01,0.1,97.7,144.0\n"))
        assert (table.distance, table.rows[0.0].distance, table.unused) == (column, 144.0, ())
        assert np.isnan(table.rows[0.0].weights_norm)
    table = read_accuracies(file(f"{name}r0,r4,r5\n0,0.0,0.01,0.01,0.1,97.7,7.0,8.0,9.0\n"))
    assert (table.distance, table.unused) == ("r4", ("r5",))
    assert (table.rows[0.0].weights_norm, table.rows[0.0].distance) == (7.0, 8.0)


CELLS = {name: st.floats(0, 1e6) for name in ("Train_Loss", "Train_Reg_Loss", "Test_Loss", "r0", "r4", "r0-r1")}
CELLS |= {name: st.floats(0, 100) for name in ("Test_Accuracy", "Class_0_Accuracy", "Class_1_Accuracy")}


@given(
    names=st.permutations(sorted(CELLS)).flatmap(lambda names: st.integers(0, 9).map(lambda count: names[:count])),
    rows=st.lists(st.fixed_dictionaries({name: st.none() | values for name, values in CELLS.items()}), min_size=1),
    with_index=st.booleans(),
)
def test_any_columns_in_any_order_with_any_empty_cells(
    tmp_path_factory: pytest.TempPathFactory,
    names: list[str],
    rows: list[dict[str, float | None]],
    *,
    with_index: bool,
) -> None:
    """What pandas reads in the table is what is read."""
    names = [name for name in names if name != "Class_1_Accuracy" or "Class_0_Accuracy" in names]
    frame = pd.DataFrame([{name: row[name] for name in names} for row in rows], columns=names, dtype=float)
    if {"Train_Loss", "Train_Reg_Loss"} <= {*names}:  # the penalty is at least 0
        frame["Train_Reg_Loss"] = frame["Train_Reg_Loss"].clip(lower=frame["Train_Loss"].fillna(0))
    frame.insert(0, "L2_strength", [position * 0.0002 for position in range(len(rows))])
    path = tmp_path_factory.getbasetemp() / "any.csv"
    frame.to_csv(path, index=with_index)
    table = read_accuracies(path, percent_is_certain=True)
    frame = pd.read_csv(path)
    fields = {"Train_Loss": "train_loss", "Train_Reg_Loss": "train_reg_loss", "Test_Loss": "test_loss"}
    fields |= {"Test_Accuracy": "test_accuracy", "r0": "weights_norm", table.distance: "distance"}
    for column, field in fields.items():
        values = [getattr(row, field) for row in table.rows.values()]
        assert np.array_equal(values, frame.get(column, np.full(len(rows), np.nan)), equal_nan=True), column
    assert list(table.rows) == [round(value, 10) for value in frame["L2_strength"]]
    assert [name for name in names if name in {"r4", "r0-r1"}] == [*filter(None, (table.distance, *table.unused))]
    assert table.num_classes == sum(name.startswith("Class") for name in names)


@given(st.floats(0, 1e300), st.floats(0, 1e300))
def test_the_added_term_is_exact_if_a_number_is(part: float, added: float) -> None:
    row = AccuracyRow(part, part + added, 0.0, 0.0, (), 0.0, 0.0)
    assert part + row.added == part + added


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
        ("L2_strength,r0-r1,r5\n0,1,-1\n", "line 2: r5 is -1, but a norm is at least 0"),
    ],
)
def test_bad_tables_name_file_line_and_expectation(file: Callable[[str], Path], text: str, message: str) -> None:
    path = file(text)
    with pytest.raises(ImportFilesError) as caught:
        read_accuracies(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
