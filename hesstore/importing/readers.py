"""Readers of text files with eigenvalues, eigenvectors and gradients.

An error names the file, the line, and what was expected there.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from hesstore.errors import ImportFilesError
from hesstore.importing.number_grammar import parse_number, parse_row, short
from hesstore.importing.text_lines import read_lines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from hesstore.problem.state_dicts import Shapes

UNIT = 0.01
"""The limit on the deviation of an eigenvector's norm from 1; rounding to 5 decimals causes less."""


def read_eigenvalues(path: Path) -> NDArray[np.float64]:
    """(k,) the eigenvalues, one per line; NaN where a solver found fewer than it was asked for."""
    values = []
    for number, line in read_lines(path):
        try:
            values.append(parse_number(line.decode()))
        except ValueError as error:
            raise ImportFilesError(f"{path}: line {number}: {error}") from None
    eigenvalues = np.array(values)
    if np.isnan(eigenvalues).all():
        raise ImportFilesError(f"{path}: all eigenvalues are NaN: remove the file")
    return eigenvalues


def read_eigenvectors(path: Path, parameters: int | None = None) -> Iterator[NDArray[np.float32]]:
    """The eigenvectors, one per line, each (P,); P is ``parameters``, or else the length of the first line.

    A vector has norm 1, or it is NaN where a solver found fewer than it was asked for.
    """
    for number, line in read_lines(path):
        count = line.count(b",") + 1
        if parameters is not None and count != parameters:
            hint = _separator_hint(line)
            raise ImportFilesError(f"{path}: line {number}: expected {parameters} values, found {count}{hint}")
        parameters = count
        vector = _row(line, path, number)
        missing = np.isnan(vector)
        norm = float(np.linalg.norm(vector.astype(np.float64)))
        if missing.any() and not missing.all():
            raise ImportFilesError(
                f"{path}: line {number}: value {int(missing.argmax()) + 1}: is NaN: restore the file"
            )
        if not missing.any() and abs(norm - 1) > UNIT:
            raise ImportFilesError(
                f"{path}: line {number}: the norm is {norm:.6g}, but eigenvectors have norm 1: divide by the norm"
            )
        yield vector


def read_gradients(path: Path, shapes: Shapes | None = None) -> dict[str, NDArray[np.float32]]:
    """The values of each parameter, flat, by name; if ``shapes`` is given, names and sizes must agree with it."""
    found: dict[str, NDArray[np.float32]] = {}
    expected = list(shapes or ())
    for number, line in read_lines(path):
        head, colon, rest = line.partition(b":")
        name = head.decode().strip().removeprefix("dL/d")
        if not colon or not head.strip().startswith(b"dL/d"):
            raise ImportFilesError(
                f"{path}: line {number}: expected dL/dNAME: at the beginning, found {short(line.decode())}"
            )
        if shapes is not None and (len(found) >= len(expected) or name != expected[len(found)]):
            wanted = expected[len(found)] if len(found) < len(expected) else "the end of the file"
            raise ImportFilesError(f"{path}: line {number}: expected {wanted}, found the parameter {name!r}")
        if name in found:
            raise ImportFilesError(f"{path}: line {number}: second line for the parameter {name!r}")
        found[name] = _finite_row(rest, path, number)
        if shapes is not None and len(found[name]) != math.prod(shapes[name]):
            hint = _separator_hint(rest)
            raise ImportFilesError(
                f"{path}: line {number}: expected {math.prod(shapes[name])} values of {name}, "
                f"found {len(found[name])}{hint}"
            )
    if len(found) < len(expected):
        raise ImportFilesError(f"{path}: the file ends after {len(found)} lines: expected {expected[len(found)]} next")
    return found


def _row(line: bytes, path: Path, number: int) -> NDArray[np.float32]:
    try:
        return parse_row(line)
    except ValueError as error:
        raise ImportFilesError(f"{path}: line {number}: {error}") from None


def _finite_row(line: bytes, path: Path, number: int) -> NDArray[np.float32]:
    values = _row(line, path, number)
    missing = np.isnan(values)
    if missing.any():
        raise ImportFilesError(f"{path}: line {number}: value {int(missing.argmax()) + 1}: is NaN: restore the file")
    return values


def _separator_hint(line: bytes) -> str:
    """The separator of the values if it is not a comma, as the end of a message."""
    names = {b";": "semicolons", b"\t": "tabs", b" ": "blanks"}
    found = next((name for mark, name in names.items() if mark in line.strip() and b"," not in line), None)
    return f": the values are separated by {found}, but commas are expected" if found else ""
