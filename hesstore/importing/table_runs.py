"""The runs of tables whose names have a number of their own, such as ``lr=0.0015_1.csv``, but no run ID.

The published tables are numbered from 1, while the IDs in the names of the other published files begin at 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hesstore.errors import ImportFilesError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from hesstore.importing.file_names import OtherTableName


def assign_runs(names: Mapping[Path, OtherTableName], ids: Collection[int]) -> dict[Path, int]:
    """Return the run ID of each table.

    Parameters
    ----------
    names : mapping of Path to OtherTableName
        The parts of the name of each table.
    ids : collection of int
        The run IDs in the names of the other files.

    Returns
    -------
    dict of Path to int
        Without other files, the tables in the order of their numbers are the runs 0, 1, …. With other files, each
        table belongs to those with its number or, if no file has one of these numbers, to those with its place in the
        order. A single table belongs to the only run of the other files.

    Raises
    ------
    ImportFilesError
        If the tables belong to several series, or if both ways find other files, but not the same.
    """
    _check_series(names)
    numbers = sorted({name.number for name in names.values()}, key=lambda number: -1 if number is None else number)
    in_order: dict[int | None, int] = {number: place for place, number in enumerate(numbers)}
    by_number: dict[int | None, int] = {number: number for number in numbers if number is not None}
    if None in numbers:
        by_number.clear()
    complete = [way for way in (by_number, in_order) if ids and set(way.values()) == set(ids)]
    if len(numbers) == len(ids) == 1:
        chosen = {numbers[0]: next(iter(ids))}
    else:
        chosen = complete[0] if complete else _only_way(names, in_order, by_number, ids)
    return {path: chosen[name.number] for path, name in names.items()}


def _only_way(
    names: Mapping[Path, OtherTableName],
    in_order: dict[int | None, int],
    by_number: dict[int | None, int],
    ids: Collection[int],
) -> dict[int | None, int]:
    """Return the one of two ways to assign runs that finds other files; ``in_order`` if none does."""
    joined = [{number: run for number, run in way.items() if run in ids} for way in (in_order, by_number)]
    if joined[0] and joined[1] and joined[0] != joined[1]:
        path = next(path for path, name in names.items() if any(name.number in way for way in joined))
        number = names[path].number
        place, ending = in_order[number], "_split_accuracy.csv" if names[path].has_classes else ".csv"
        raise ImportFilesError(
            f"{path}: the run could be {number}, the number in the name, or {place}, its place among the tables: "
            f"rename the file to Model-{number}{ending} or Model-{place}{ending}, and the other tables likewise"
        )
    return by_number if joined[1] else in_order


def _check_series(names: Mapping[Path, OtherTableName]) -> None:
    """Raise :class:`ImportFilesError` unless all names are the same except for their numbers."""
    first = next(iter(names))
    for path, name in names.items():
        if name.series != names[first].series:
            raise ImportFilesError(
                f"{path}: belongs to another series than {first}: import the tables of each series alone, because the "
                "runs of a store have the same settings"
            )
