"""Numbers as the shortest text that reads back to the same float."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BATCH = 8192  # values that polars hands to a thread at once; its default, 1024, is slower for one column


def joined(values: NDArray[np.floating], separator: bytes) -> memoryview:
    """The values of a vector, in its own precision, with ``separator`` between them.

    polars writes a column, one value a line, faster than anything else writes a row; so ``separator`` ends its lines.
    """
    buffer = io.BytesIO()
    pl.DataFrame({"": values}).write_csv(
        buffer, include_header=False, line_terminator=separator.decode(), batch_size=_BATCH
    )
    return buffer.getbuffer()[: -len(separator)]
