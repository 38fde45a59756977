from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hesstore.errors import ImportFilesError
from hesstore.importing.file_names import OtherTableName, parse_other_table_name
from hesstore.importing.table_runs import assign_runs

NUMBERS = st.sets(st.none() | st.integers(0, 6), min_size=1, max_size=4)


def assigned(numbers: set[int | None] | list[int], ids: set[int]) -> dict[int | None, int]:
    names = {Path(f"x_{number}.csv"): OtherTableName(number, has_classes=False, series="x") for number in numbers}
    return {names[path].number: run for path, run in assign_runs(names, ids).items()}


@pytest.mark.parametrize(
    ("numbers", "ids", "expected"),
    [
        ([1], set(), [0]),
        ([1, 2, 3], set(), [0, 1, 2]),
        ([1], {0}, [0]),  # the published spectra of the first table
        ([1, 2, 3], {0}, [0, 1, 2]),
        ([1, 2, 3], {0, 1, 2}, [0, 1, 2]),
        ([2], {5}, [5]),
        ([2, 5], {2, 5}, [2, 5]),
        ([1, 2], {1, 2}, [1, 2]),
        ([0, 1], {0, 1, 2}, [0, 1]),
        ([4, 5], {4, 8}, [4, 5]),
        ([4, 5], {8, 9}, [0, 1]),
    ],
)
def test_the_runs_that_a_person_expects(numbers: list[int], ids: set[int], expected: list[int]) -> None:
    assert assigned(numbers, ids) == dict(zip(numbers, expected, strict=True))


@pytest.mark.parametrize(("numbers", "ids"), [([1, 2], {1}), ([1, 2], {0, 1, 2}), ([1, 2, 3], {1, 2}), ([1], {0, 1})])
def test_runs_that_can_be_understood_in_two_ways(numbers: list[int], ids: set[int]) -> None:
    with pytest.raises(ImportFilesError, match=r"x_1.csv: the run could be 1, .* or 0, .*: rename the file to Model-1"):
        assigned(numbers, ids)


@given(NUMBERS, st.sets(st.integers(0, 6), max_size=5))
def test_no_two_tables_get_one_run(numbers: set[int | None], ids: set[int]) -> None:
    """Runs have the order of the numbers, and a table finds other files if one of the two ways does."""
    try:
        found = assigned(numbers, ids)
    except ImportFilesError:
        assert numbers & ids
        return
    ordered = [found[number] for number in sorted(numbers, key=lambda each: -1 if each is None else each)]
    assert ordered == sorted(set(ordered))
    if ids & set(range(len(numbers))):
        assert ids & set(ordered)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lr=0.0015_1.csv", (1, False, "lr=0.0015")),
        ("lr=0.0015_1_split_accuracies.csv", (1, True, "lr=0.0015")),
        ("lr=0.0015_1_split_accuracy.csv.gz", (1, True, "lr=0.0015")),
        ("lr=0.0015_with_ReLU.csv", (None, False, "lr=0.0015_with_ReLU")),
        ("lr=0.0015_path_finder_T4.csv", (None, False, "lr=0.0015_path_finder_T4")),
        ("connect_0_to_1.csv", (None, False, "connect_0_to_1")),
        ("a_seed4.csv", (4, False, "a_")),
        ("run0.csv", (0, False, "")),
    ],
)
def test_the_parts_of_a_name(name: str, expected: tuple[int | None, bool, str]) -> None:
    assert parse_other_table_name(Path(name)) == expected


def test_tables_of_several_series() -> None:
    names = {Path(name): parse_other_table_name(Path(name)) for name in ("lr=0.0015_1.csv", "lr=0.015_2.csv")}
    with pytest.raises(ImportFilesError, match=r"lr=0\.015_2\.csv: belongs to another series than lr=0\.0015_1\.csv"):
        assign_runs(names, set())
