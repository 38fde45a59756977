"""The origin of an imported store: the files from which its values come."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ORIGIN = "origin"
"""The root attribute; a store that a sweep made does not have it."""

VARIABLE_OF = {
    "eigenvalues": "eigenvalues",
    "eigenvectors": "eigenvectors",
    "gradients": "gradient",
    "weights": "weights",
}
"""The variable that is read from each kind of file, except from tables of losses and accuracies."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The files from which a store was imported.

    Attributes
    ----------
    files : str
        ``classic``; empty for a store that a sweep made.
    source : str
        The digest of the files' names and sizes.
    recompute : bool
        Whether all results are computed from the weights, for grid points that have some.
    missing : mapping of str to mapping of str to list of float
        For each kind of file and each run ID, the values of λ without such a file.
    read : sequence of (str, str, int, float or None)
        Name, kind, run ID and λ of each file; a table has no λ.
    conversions : sequence of str
        How values were converted, each in one line.
    """

    files: str = ""
    source: str = ""
    recompute: bool = False
    missing: Mapping[str, Mapping[str, list[float]]] = field(default_factory=dict)
    read: Sequence[Sequence[str | int | float | None]] = ()
    conversions: Sequence[str] = ()

    @property
    def is_import(self) -> bool:
        """Whether the store was imported."""
        return bool(self.files)

    @cached_property
    def _absent(self) -> dict[str, frozenset[tuple[int, float]]]:
        return {
            kind: frozenset((int(run), l2) for run, strengths in runs.items() for l2 in strengths)
            for kind, runs in self.missing.items()
        }

    def absent(self, kind: str) -> frozenset[tuple[int, float]]:
        """Return the run ID and λ of each grid point without a file of a kind."""
        return self._absent.get(kind, frozenset())

    def is_as_imported(self, run: int, l2: float) -> bool:
        """Whether the values of a grid point are those of the files, with their gaps and rounding."""
        return self.is_import and (not self.recompute or (run, l2) in self.absent("weights"))

    def lacks(self, variable: str, run: int, l2: float) -> bool:
        """Whether no imported file had the values of a large variable at a grid point, which then has no chunk file."""
        kind = next((kind for kind, name in VARIABLE_OF.items() if name == variable), None)
        return self.is_as_imported(run, l2) and (kind is None or (run, l2) in self.absent(kind))

    def to_json(self) -> str:
        """Return the value of the root attribute."""
        return json.dumps(
            {
                "files": self.files,
                "source": self.source,
                "recompute": self.recompute,
                "missing": {kind: dict(runs) for kind, runs in self.missing.items()},
                "read": [list(file) for file in self.read],
                "conversions": list(self.conversions),
            }
        )


def origin_of(attributes: Mapping[Any, Any]) -> Origin:
    """Return the origin of a store, from its root attributes."""
    return Origin(**json.loads(attributes[ORIGIN])) if ORIGIN in attributes else Origin()
