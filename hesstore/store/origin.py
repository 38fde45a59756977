"""Where a store's numbers come from, if not from a sweep: files that were imported."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

ORIGIN = "origin"
"""The root attribute; a store that a sweep made has none."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What an imported store was made from.

    Attributes
    ----------
    files : str
        ``classic`` or ``checkpoints``; empty for a store that a sweep made.
    source : str
        Digest of the files' names and sizes.
    recompute : bool
        Whether λ with weights have everything computed from them.
    missing : mapping of str to mapping of str to list of float
        For each kind of file and each run ID, the λ that have none.
    """

    files: str = ""
    source: str = ""
    recompute: bool = False
    missing: Mapping[str, Mapping[str, list[float]]] = field(default_factory=dict)

    @property
    def is_import(self) -> bool:
        """Whether the store was imported."""
        return bool(self.files)

    def absent(self, kind: str) -> set[tuple[int, float]]:
        """Run ID and λ of those without a file of a kind."""
        return {(int(run), l2) for run, strengths in self.missing.get(kind, {}).items() for l2 in strengths}

    def is_as_imported(self, run: int, l2: float) -> bool:
        """Whether the numbers of a λ are those of the files, with what gaps and rounding they have."""
        return self.is_import and (not self.recompute or (run, l2) in self.absent("weights"))

    def to_json(self) -> str:
        """For the root attribute."""
        return json.dumps(
            {
                "files": self.files,
                "source": self.source,
                "recompute": self.recompute,
                "missing": {kind: dict(runs) for kind, runs in self.missing.items()},
            }
        )


def origin_of(attributes: Mapping[Any, Any]) -> Origin:
    """The origin of a store, from its root attributes."""
    return Origin(**json.loads(attributes[ORIGIN])) if ORIGIN in attributes else Origin()
