"""The account of an import: the run, λ and kind of every file, and how its values were converted."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from hesstore.importing.text_lines import count_decimals

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from hesstore.importing.accuracy_tables import AccuracyRow
    from hesstore.importing.import_plan import ImportPlan

_ORDERS = {"LM": "descending |μ|", "LA": "descending μ", "SA": "ascending μ"}


class FileUse(NamedTuple):
    """A file and what it was read as.

    Attributes
    ----------
    file : str
        The name of the file, without its folder.
    kind : str
        One of :data:`hesstore.importing.sources.KINDS`.
    run : int
        The ID of the run.
    l2 : float or None
        λ; None for a table, which has a row for each λ.
    """

    file: str
    kind: str
    run: int
    l2: float | None


class Account(NamedTuple):
    """What an import reads, and how it converts it.

    Attributes
    ----------
    files : tuple of FileUse
        Every file, by kind, run and λ.
    conversions : tuple of str
        Every conversion, each in one line.
    """

    files: tuple[FileUse, ...]
    conversions: tuple[str, ...]


def account_of(plan: ImportPlan) -> Account:
    """Return the account of an import."""
    tables = [FileUse(path.name, "accuracy", run, None) for run, path in sorted(plan.index.sources.tables.items())]
    others = [
        FileUse(path.name, kind, run, l2)
        for kind, paths in plan.index.paths.items()
        for (run, l2), path in sorted(paths.items())
    ]
    return Account((*tables, *others), tuple(_conversions(plan)))


def _conversions(plan: ImportPlan) -> Iterator[str]:
    yield from _of_names(plan)
    yield from _of_tables(plan)
    if plan.index.paths["eigenvalues"]:
        yield f"eigenvalues: sorted by {_ORDERS[plan.config.which]}"
    if plan.index.paths["eigenvectors"]:
        yield "eigenvectors: in the order of their eigenvalues, with the sign that makes the largest entry positive"
    if paths := plan.index.paths["weights"]:
        name = next(iter(paths.values())).name
        if not plan.network:
            shown = ", ".join(f"{key} {shape}" for key, shape in list(plan.shapes.items())[:8])
            more = ", …" if len(plan.shapes) > 8 else ""
            which = "all other tensors" if plan.buffers else "all tensors"
            yield (
                f"weights: {which} are parameters, {plan.size} values: {shown}{more}; "
                "only --recompute compares them with a network"
            )
        for note in plan.notes_on_weights:
            yield f"weights: {name}: {note}"
    yield from _of_roundings(plan)


def _of_names(plan: ImportPlan) -> Iterator[str]:
    written = {path: float(text) for files in plan.index.sources.files.values() for (_, text), path in files.items()}
    completed = [
        (path.name, l2) for paths in plan.index.paths.values() for (_, l2), path in paths.items() if written[path] != l2
    ]
    if completed:
        name, l2 = completed[0]
        yield f"λ: {len(completed)} names round it, such as {name}, which is λ = {l2:.10g}"


def _of_tables(plan: ImportPlan) -> Iterator[str]:
    index = plan.index
    for run, number in sorted(index.sources.numbers.items()):
        seed = f", with seed {plan.runs[run].seed}" if number is not None else ""
        yield f"{index.sources.tables[run].name}: is the table of run {run}{seed}"
    if index.tables:
        yield "accuracies: percent became fractions"
    for run, term in plan.added_terms.items():
        name, factor = index.sources.tables[run].name, plan.config.penalty_scale / term.scale
        times = "" if factor == 1 else f"{factor:g} times "
        yield f"{name}: the penalty is {times}Train_Reg_Loss − Train_Loss, {term.reason}"
        yield from (f"{name}: {note}" for note in term.notes)
    for run, table in index.tables.items():
        name = index.sources.tables[run].name
        if table.distance:
            yield f"{name}: the column {table.distance} became distance"
        for column in table.unused:
            yield f"{name}: the column {column} was not stored: a store has the distances to one reference"
    yield from _of_replaced_tables(plan)


def _of_replaced_tables(plan: ImportPlan) -> Iterator[str]:
    for run, other in plan.index.replaced.items():
        used, table = plan.index.sources.tables[run].name, plan.index.tables[run]
        name = plan.index.sources.replaced[run].name
        common = other.rows.keys() & table.rows.keys()
        differing = sum(not _agree(other.rows[l2], table.rows[l2]) for l2 in common)
        line = f"{name}: was not used, because {used} has the class accuracies of run {run}"
        if differing:
            line += f"; the losses and accuracies of the two differ at {differing} of {len(common)} λ"
        if more := len(other.rows.keys() - common):
            line += f"; {more} λ are only in {name}"
        yield f"{line}: import {name} alone to keep it" if differing or more else line


def _agree(one: AccuracyRow, other: AccuracyRow) -> bool:
    """Whether two rows have the same losses and test accuracy, as far as both have them."""
    names = ("train_loss", "test_loss", "test_accuracy")
    pairs = [(getattr(one, name), getattr(other, name)) for name in names]
    return all(first == second or math.isnan(first) or math.isnan(second) for first, second in pairs)


def _of_roundings(plan: ImportPlan) -> Iterator[str]:
    texts: dict[str, Mapping[Any, Path]] = {"accuracy": plan.index.sources.tables, **plan.index.sources.files}
    for kind in ("accuracy", "eigenvalues", "eigenvectors", "gradients"):
        digits = count_decimals(next(iter(texts[kind].values()))) if texts[kind] else None
        if digits is not None:
            yield f"{kind}: the files round to {digits} decimals: values are off by up to {0.5 * 10**-digits:.0e}"
