"""Withdrawing what a killed driver has promised ahead of a status.

A driver that is killed between the digests of an analysis and its status leaves a fitted grid point with the digests of
a complete one. The next driver repeats the analysis, and writes durations, at least, that differ. If it is killed too,
before it writes its digests, the old ones would match nothing. So it first gives such a grid point the digests of its
status. A pending one has none: the next driver may stop before it fits it, and give its claim back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hesstore.store.checking import TOGETHER
from hesstore.store.digest import EntriesDigests, digest
from hesstore.store.schema import Status, promised_large, promised_small

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from hesstore.store.schema import Run

_LATER = (Status.COMPLETE, Status.FAILED)


def settled_digests(
    identity: Mapping[str, Any],
    run: Run,
    grid: NDArray[np.float64],
    rows: Mapping[str, NDArray[Any]],
    read: Callable[[str, int], NDArray[Any]],
) -> dict[str, NDArray[np.uint64]]:
    """Return the digests of a run in which each grid point has those of its status, not of a later one.

    Digests of a fitted grid point that match neither stay as they are, and so do those of more than :data:`TOGETHER`
    pending ones: they show damage.

    Parameters
    ----------
    identity : mapping
        The identity of the store.
    run : Run
        The run.
    grid : ndarray
        (L,) the values of the grid.
    rows : mapping of str to array
        Its small variables at all grid points; without a fitted one, the status and the digests are enough.
    read : callable
        Called with the name of a large variable and the index of a grid point; returns its values.

    Returns
    -------
    dict of str to ndarray
        (L,) each of the two digests that changes, in the order in which they must be written.
    """
    digests = EntriesDigests(run, grid.tolist(), rows)

    def of_small(index: int, status: Status) -> int:
        return digests.at(index, status, promised_small(identity, status))

    def of_large(index: int, status: Status) -> int:
        arrays = {name: read(name, index) for name in promised_large(identity, status)}
        return digest(run, float(grid[index]), arrays)

    large, entries = rows["digest"].copy(), rows["entries_digest"].copy()
    pending = (rows["status"] == Status.PENDING) & ((large != 0) | (entries != 0))
    if np.count_nonzero(pending) <= TOGETHER:
        large[pending] = entries[pending] = 0
    for index in np.flatnonzero(rows["status"] == Status.FITTED).tolist():
        if entries[index] in {of_small(index, status) for status in _LATER}:
            entries[index] = of_small(index, Status.FITTED)
        of_weights = of_large(index, Status.FITTED)
        if large[index] != of_weights and large[index] == of_large(index, Status.COMPLETE):
            large[index] = of_weights
    found = {"digest": large, "entries_digest": entries}
    return {name: values for name, values in found.items() if (values != rows[name]).any()}
