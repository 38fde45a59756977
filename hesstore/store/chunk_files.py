"""The file that holds a variable at a grid point, and what is wrong with one that cannot be decoded."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from hesstore.store.schema import Variable


def chunk_file(variable: Variable, run: int, index: int) -> str:
    """The file that holds a variable at one λ, by its path in the store."""
    place = [run, index if variable.is_large else 0] + [0] * (len(variable.dims) - 2)
    return "/".join([variable.name, "c", *map(str, place)])


def damage(file: Path, error: Exception) -> str:
    """What is wrong with a chunk file that can't be decoded."""
    try:
        if not file.stat().st_size:
            return "is empty"
    except OSError:
        pass
    return f"is damaged ({' '.join(str(error).split()) or type(error).__name__})"
