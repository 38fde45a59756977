"""What is read from each file as text: the account of an import, and the places of checkpoints on their axis."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from hesstore.config.l2_grid import axis_symbol
from hesstore_cli.terminal.tables import table
from hesstore_cli.terminal.widths import UNLIMITED

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hesstore.importing.account import Account, FileUse
    from hesstore.importing.checkpoints import PlacedCheckpoint

_SHOWN = 6  # files of one kind and run, in an account that is not complete


def account_lines(account: Account, *, complete: bool, width: int = UNLIMITED) -> list[str]:
    """Return the account, with one line per file.

    Unless it is to be ``complete``, of many files with one kind and run only the first and the last ones are listed.
    """
    rows: list[tuple[str, str, str, str]] = []
    for _, group in itertools.groupby(account.files, key=lambda use: (use.kind, use.run)):
        rows += _rows(list(group), complete=complete)
    return [
        *table(("file", "kind", "run", "λ"), rows, width=width),
        *(f"converted: {line}" for line in account.conversions),
    ]


def checkpoint_lines(
    axis: str, placed: Sequence[PlacedCheckpoint], *, complete: bool, width: int = UNLIMITED
) -> list[str]:
    """Return a table of the checkpoints; unless it is to be ``complete``, of many only the first and the last ones."""
    rows = [(str(each.path), str(each.run), f"{each.value:.10g}") for each in placed]
    if not complete and len(rows) > _SHOWN:
        half = _SHOWN // 2
        rows = [*rows[:half], (f"… {len(rows) - 2 * half} more", "…", "…"), *rows[-half:]]
    return table(("checkpoint", "seed", axis_symbol(axis)), rows, width=width)


def _rows(uses: Sequence[FileUse], *, complete: bool) -> Iterator[tuple[str, str, str, str]]:
    half = len(uses) if complete or len(uses) <= _SHOWN else _SHOWN // 2
    for use in uses[:half]:
        yield _row(use)
    if half < len(uses):
        yield (f"… {len(uses) - 2 * half} more", uses[0].kind, str(uses[0].run), "…")
        for use in uses[-half:]:
            yield _row(use)


def _row(use: FileUse) -> tuple[str, str, str, str]:
    return use.file, use.kind, str(use.run), "in its rows" if use.l2 is None else f"{use.l2:.10g}"
