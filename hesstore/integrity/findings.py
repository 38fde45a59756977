"""The findings of a verification: a list of problems, and what else deserves attention."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hesstore.config.l2_grid import AXIS, value_text

if TYPE_CHECKING:
    from pathlib import Path

    from hesstore.store.schema import Point, Status


@dataclass(frozen=True)
class Problem:
    """A problem of a store.

    Attributes
    ----------
    what : str
        A description of the problem.
    run, index, value : int, int, float or None
        The grid point that is bad because of it, if it concerns one, and the value of the grid there.
    file : str or None
        The damaged file, by its path within the store.
    repairable : bool
        Whether a repair can do something about it.
    """

    what: str
    run: int | None = None
    index: int | None = None
    value: float | None = None
    file: str | None = None
    repairable: bool = True
    axis: str = AXIS

    @classmethod
    def at(cls, point: Point, what: str, file: str | None = None) -> Problem:
        """A problem of a grid point."""
        return cls(what, point.run.id, point.index, point.value, file, axis=point.axis)

    def __str__(self) -> str:
        if self.value is not None:
            return f"run {self.run}  {value_text(self.axis, self.value)}  {self.what}"
        return f"{self.file}: {self.what}" if self.file else self.what


@dataclass
class Findings:
    """The result of :func:`hesstore.integrity.verify.verify`.

    Attributes
    ----------
    path : Path
        The store.
    problems : list of Problem
        Everything that is wrong.
    remarks : list of str
        Facts that are not wrong, but deserve attention.
    leftovers : list of Path
        Temporary files that killed processes left in the store and next to it.
    counts : dict of Status to int
        The number of grid points of each status, without those whose status is damaged.
    files : int
        The number of files in the store.
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
        """Whether a repair can do something about at least one problem."""
        return any(problem.repairable for problem in self.problems)

    @property
    def bad(self) -> set[tuple[int, int]]:
        """The (run ID, index) of every bad grid point."""
        return {
            (problem.run, problem.index)
            for problem in self.problems
            if problem.run is not None and problem.index is not None
        }

    @property
    def damaged_files(self) -> list[str]:
        """The damaged or missing files, by their paths within the store."""
        return list(dict.fromkeys(problem.file for problem in self.problems if problem.file))
