"""Reads the tables of losses and accuracies along λ, one table per run."""

from __future__ import annotations

import csv
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hesstore.config.l2_grid import round_l2
from hesstore.errors import ImportFilesError
from hesstore.importing.number_grammar import BLANKS, parse_number
from hesstore.importing.text_lines import read_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

COLUMNS = ("L2_strength", "Train_Loss", "Train_Reg_Loss", "Test_Loss", "Test_Accuracy")
ROUNDING = 1e-6
"""The difference up to which a loss with the penalty may lie below the one without it, because of rounding."""
_CLASS = re.compile(r"Class_([0-9]+)_Accuracy")
_DISTANCE = re.compile(r"r[0-9]+(?:-r[0-9X]+)?")


@dataclass(frozen=True)
class AccuracyRow:
    """A row of ``Model-ID_split_accuracy.csv``; NaN where the table has no value. Accuracies are in percent."""

    train_loss: float
    train_reg_loss: float
    test_loss: float
    test_accuracy: float
    classes: tuple[float, ...]
    weights_norm: float
    distance: float

    @property
    def added(self) -> float:
        """The term that ``train_reg_loss`` adds to ``train_loss``: the number that gives exactly their sum, if any."""
        near = self.train_reg_loss - self.train_loss
        for candidate in (near, math.nextafter(near, math.inf), math.nextafter(near, -math.inf)):
            if self.train_loss + candidate == self.train_reg_loss:
                return candidate
        return near


@dataclass(frozen=True)
class AccuracyTable:
    """The table of one run.

    Attributes
    ----------
    rows : dict of float to AccuracyRow
        The rows by λ.
    num_classes : int
        The number of classes that have a column.
    distance : str
        The column with distances to a reference; empty if there is none.
    unused : tuple of str
        The columns that are read but not stored: distances to further references.
    """

    rows: dict[float, AccuracyRow]
    num_classes: int
    distance: str
    unused: tuple[str, ...]


def read_accuracies(path: Path, *, percent_is_certain: bool = False) -> AccuracyTable:
    """The table of losses and accuracies of one run.

    Empty cells are missing values. An index column without a name is skipped, as pandas writes it. The column ``r0``
    is the norm of the weights; ``r4``, ``r0-r1`` and ``r0-rX`` are distances to a reference.

    Parameters
    ----------
    path : Path
        The file.
    percent_is_certain : bool
        Whether accuracies up to 1 are in percent. Otherwise, such a table is refused: its accuracies look like
        fractions.

    Raises
    ------
    ImportFilesError
        If the table is malformed.
    """
    lines = read_lines(path)
    number, first = next(lines)
    names = _cells(first, path, number)
    columns = _Columns.of(names, path, number)
    rows: dict[float, AccuracyRow] = {}
    for number, line in lines:
        cells = _cells(line, path, number)
        if len(cells) != len(names):
            raise ImportFilesError(f"{path}: line {number}: expected {len(names)} values, found {len(cells)}")
        row = columns.read(cells, path, number)
        l2 = columns.read_l2(cells, path, number)
        if l2 in rows:
            raise ImportFilesError(f"{path}: line {number}: second row for λ = {l2:g}")
        _check_percent(row, path, number)
        rows[l2] = row
    if not rows:
        raise ImportFilesError(f"{path}: has no rows below its header: restore the file, or leave it out")
    if not percent_is_certain:
        _refuse_fractions(rows.values(), path)
    return AccuracyTable(rows, len(columns.classes), columns.distance, columns.unused)


def is_accuracy_table(path: Path) -> bool:
    """Whether the first line of a text file is the header of such a table."""
    try:
        number, first = next(read_lines(path))
        return COLUMNS[0] in _cells(first, path, number)
    except (ImportFilesError, OSError):
        return False


def _cells(line: bytes, path: Path, number: int) -> list[str]:
    try:
        (cells,) = csv.reader([line.decode()], skipinitialspace=True, strict=True)
    except csv.Error as error:
        raise ImportFilesError(
            f"{path}: line {number}: cannot be split at commas ({error}): check its quotes"
        ) from None
    return [cell.strip(BLANKS) for cell in cells]


@dataclass(frozen=True)
class _Columns:
    """The position of each known column in a line."""

    by_name: dict[str, int]
    classes: tuple[int, ...]
    distances: tuple[str, ...]

    @property
    def distance(self) -> str:
        """The column of distances that is stored: the first one; empty if there is none."""
        return self.distances[0] if self.distances else ""

    @property
    def unused(self) -> tuple[str, ...]:
        """The other columns of distances."""
        return self.distances[1:]

    @classmethod
    def of(cls, names: Sequence[str], path: Path, number: int) -> _Columns:
        def error(what: str) -> ImportFilesError:
            expected = f"{', '.join(COLUMNS)}, Class_0_Accuracy, …"
            return ImportFilesError(f"{path}: line {number}: {what}: expected {expected}")

        if len(names) == 1 and re.search(r"[;\t|]| [A-Z]", names[0]):
            raise error(f"the columns in {names[0][:40]!r} are not separated by commas")
        by_name, labels, distances = dict[str, int](), dict[int, int](), list[str]()
        for position, name in enumerate(names):
            if match := _CLASS.fullmatch(name):
                if int(match[1]) in labels:
                    raise error(f"two columns for class {int(match[1])}")
                labels[int(match[1])] = position
            elif name in by_name:
                raise error(f"two columns {name!r}")
            elif name in COLUMNS or _DISTANCE.fullmatch(name) or (name == "" and position == 0):
                by_name[name] = position
                distances += [name] if name not in {*COLUMNS, "", "r0"} else []
            else:
                raise error(f"unknown column {name!r}")
        if COLUMNS[0] not in by_name:
            raise error(f"missing column {COLUMNS[0]}")
        if sorted(labels) != list(range(len(labels))):
            raise ImportFilesError(
                f"{path}: line {number}: expected columns for the classes 0, 1, …, found {list(labels)}"
            )
        return cls(by_name, tuple(labels[label] for label in range(len(labels))), tuple(distances))

    def read(self, cells: Sequence[str], path: Path, number: int) -> AccuracyRow:
        """Return the values of a row; those of columns that are not stored are checked too."""
        values = {name: _number(cells[position], path, number, name) for name, position in self.by_name.items() if name}
        train, regularised, test, accuracy = (values.get(name, math.nan) for name in COLUMNS[1:])
        classes = tuple(
            _number(cells[position], path, number, f"Class_{label}_Accuracy")
            for label, position in enumerate(self.classes)
        )
        for name in ("r0", *self.distances):
            if values.get(name, 0.0) < 0:
                raise ImportFilesError(f"{path}: line {number}: {name} is {values[name]:g}, but a norm is at least 0")
        _check_losses(values, path, number)
        norm, distance = values.get("r0", math.nan), values.get(self.distance, math.nan)
        return AccuracyRow(train, regularised, test, accuracy, classes, norm, distance)

    def read_l2(self, cells: Sequence[str], path: Path, number: int) -> float:
        """Return λ of a row, rounded as in every grid."""
        l2 = _number(cells[self.by_name[COLUMNS[0]]], path, number, COLUMNS[0])
        if math.isnan(l2) or l2 < 0:
            raise ImportFilesError(f"{path}: line {number}: {COLUMNS[0]} is {l2:g}, but must be finite and at least 0")
        try:
            return round_l2(l2)
        except ValueError as error:
            raise ImportFilesError(f"{path}: line {number}: {COLUMNS[0]}: {error}") from None


def _number(cell: str, path: Path, number: int, column: str) -> float:
    if not cell:
        return math.nan
    try:
        return parse_number(cell)
    except ValueError as error:
        raise ImportFilesError(f"{path}: line {number}: {column}: {error}") from None


def _check_losses(values: Mapping[str, float], path: Path, number: int) -> None:
    """Raise :class:`ImportFilesError` if a loss is negative, or if the penalty would be."""
    for name in COLUMNS[1:4]:
        if values.get(name, 0.0) < 0:
            raise ImportFilesError(f"{path}: line {number}: {name} is {values[name]:g}, but a loss is at least 0")
    train, regularised = (values.get(name, math.nan) for name in COLUMNS[1:3])
    if regularised < train - ROUNDING * max(1.0, train):
        raise ImportFilesError(
            f"{path}: line {number}: Train_Reg_Loss is {regularised:g}, below Train_Loss, {train:g}: the penalty in it "
            "is at least 0: are the columns in the right order?"
        )


def _check_percent(row: AccuracyRow, path: Path, number: int) -> None:
    for value in (row.test_accuracy, *row.classes):
        if not (math.isnan(value) or 0 <= value <= 100):
            raise ImportFilesError(f"{path}: line {number}: {value:g} is not an accuracy in percent, from 0 to 100")


def _refuse_fractions(rows: Iterable[AccuracyRow], path: Path) -> None:
    """Refuse accuracies that are all at most 1: in percent, even guessing is better."""
    columns = {
        "Test_Accuracy": np.array([row.test_accuracy for row in rows]),
        "the class accuracies": np.array([row.classes for row in rows]),
    }
    for name, values in columns.items():
        largest = float(np.nanmax(values, initial=0.0))
        if 0 < largest <= 1:
            raise ImportFilesError(
                f"{path}: {name}: the largest value is {largest:g}, so they look like fractions: "
                "multiply them by 100, because accuracies are expected in percent"
            )
