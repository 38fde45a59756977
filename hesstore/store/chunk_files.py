"""The files that hold a variable, and a description of what is wrong with one that cannot be decoded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hesstore.store.variable import CHUNK_POINTS

if TYPE_CHECKING:
    from pathlib import Path

    from hesstore.store.variable import Variable


def chunk_file(variable: Variable, run: int, index: int) -> str:
    """Return the path, within the store, of the file that holds a variable at a grid point."""
    block = index if variable.is_large else index // CHUNK_POINTS
    return "/".join([variable.name, "c", str(run), str(block), *("0" for _ in variable.dims[2:])])


def chunk_files(variable: Variable, run: int, count: int) -> list[str]:
    """Return the paths of all files that hold a variable of a run on a grid of ``count`` points."""
    step = 1 if variable.is_large else CHUNK_POINTS
    return [chunk_file(variable, run, index) for index in range(0, count, step)]


def block_at(index: int, count: int) -> slice:
    """Return the grid points that share the chunks of small variables with the one at ``index``, out of ``count``."""
    start = index - index % CHUNK_POINTS
    return slice(start, min(start + CHUNK_POINTS, count))


def blocks(count: int) -> list[slice]:
    """Return the grid points of each chunk of a small variable on a grid of ``count`` points."""
    return [block_at(start, count) for start in range(0, count, CHUNK_POINTS)]


def damage(file: Path, error: Exception) -> str:
    """Describe what is wrong with a chunk file that cannot be decoded."""
    try:
        if not file.stat().st_size:
            return "is empty"
    except OSError:
        pass
    return f"is damaged ({' '.join(str(error).split()) or type(error).__name__})"
