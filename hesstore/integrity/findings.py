"""What a check of a store has found."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from hesstore.store.schema import Status


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes
    ----------
    what : str
        What it is.
    run, index, l2 : int, int, float or None
        The λ that is bad because of it, if it is about one.
    file : str or None
        The file that is damaged, by its path in the store.
    repairable : bool
        Whether a repair does something about it.
    """

    what: str
    run: int | None = None
    index: int | None = None
    l2: float | None = None
    file: str | None = None
    repairable: bool = True

    def __str__(self) -> str:
        if self.l2 is not None:
            return f"run {self.run}  λ = {self.l2:.10g}  {self.what}"
        return f"{self.file}: {self.what}" if self.file else self.what


@dataclass
class Report:
    """What :func:`verify` found.

    Attributes
    ----------
    path : Path
        The store.
    problems : list of Problem
        All that is wrong; nothing, if all is well.
    remarks : list of str
        What deserves to be known but is not wrong.
    leftovers : list of Path
        Temporary files that killed writers left, in the store and beside it.
    counts : dict of Status to int
        λ of each status, those of damaged status chunks left out.
    files : int
        Files in the store.
    """

    path: Path
    problems: list[Problem] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    leftovers: list[Path] = field(default_factory=list)
    counts: Counter[Status] = field(default_factory=Counter)
    files: int = 0

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    @property
    def repairable(self) -> bool:
        """Whether a repair does something about what is wrong, if not about all of it."""
        return any(problem.repairable for problem in self.problems)

    @property
    def bad(self) -> set[tuple[int, int]]:
        """(run, index of λ) of every λ that can't be trusted."""
        return {
            (problem.run, problem.index)
            for problem in self.problems
            if problem.run is not None and problem.index is not None
        }

    @property
    def damaged_files(self) -> list[str]:
        """Damaged or missing files, by their paths in the store."""
        return list(dict.fromkeys(problem.file for problem in self.problems if problem.file))
