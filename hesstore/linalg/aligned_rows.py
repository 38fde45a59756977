"""Memory in which each of several long vectors starts at an aligned address.

The rows of a (G, P) tensor of float32 start at multiples of 4 P bytes. A thread of a GPU can read 16 bytes at a time
only from an address that is a multiple of 16. For P = 118,282, every second row starts at another one.

Source: NVIDIA, *CUDA C++ Programming Guide*, Device Memory Accesses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

ALIGNMENT = 64
"""Rows start at multiples of this number of entries."""


def row_length(size: int) -> int:
    """The number of entries from the start of a row of ``size`` entries to that of the next one."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def in_aligned_rows(vectors: Tensor) -> Tensor:
    """A copy of ``vectors`` (G, P) in aligned rows. A single one is aligned anyway, and returned as it is."""
    copies, size = vectors.shape
    if copies == 1:
        return vectors
    rows = vectors.new_zeros(copies, row_length(size))[:, :size]
    rows.copy_(vectors)
    return rows
