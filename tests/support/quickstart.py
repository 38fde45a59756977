"""The quickstart's store, which tests share because it takes minutes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Quickstart:
    """The store that the README's first command made, for reading, and what the command printed."""

    store: Path
    stderr: str
