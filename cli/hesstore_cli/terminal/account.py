"""The account of an import as text: the run, λ and kind of each file, and the conversions."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from hesstore_cli.terminal.tables import table
from hesstore_cli.terminal.widths import UNLIMITED

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hesstore.importing.account import Account, FileUse

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
