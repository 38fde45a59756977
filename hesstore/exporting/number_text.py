"""Numbers as the shortest text that reads back as the same float."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BATCH = 8192  # values that polars gives to a thread; the default of 1024 is slower for a single column


def number_text(values: NDArray[np.floating], separator: bytes) -> memoryview:
    """The values of a vector in its own precision, with ``separator`` between them.

    No other writer of rows is as fast as polars, which writes columns; so the vector is written as a column, with
    ``separator`` as the line break.
    """
    buffer = io.BytesIO()
    pl.DataFrame({"": values}).write_csv(
        buffer, include_header=False, line_terminator=separator.decode(), batch_size=_BATCH
    )
    return buffer.getbuffer()[: -len(separator)]
