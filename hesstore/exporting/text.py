"""Numbers as the shortest text that reads back to the same float."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def joined(values: NDArray[np.floating], separator: bytes) -> bytes:
    """The values of a vector, in its own precision, with ``separator`` between them.

    polars writes a column, one value a line, faster than anything else writes a row; the newlines then become
    separators.
    """
    buffer = io.BytesIO()
    pl.DataFrame({"": values}).write_csv(buffer, include_header=False)
    return buffer.getvalue().rstrip(b"\n").replace(b"\n", separator)
