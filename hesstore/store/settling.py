"""Withdrawing what a killed driver has promised ahead of a status.

A driver that is killed between the digests of an analysis and its status leaves a fitted grid point with the digests of
a complete one. The next driver repeats the analysis, and writes durations, at least, that differ. If it is killed too,
before it writes its digests, the old ones would match nothing. So it first gives such a grid point the digests of its
status.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hesstore.store.digest import EntriesDigests, digest
from hesstore.store.schema import Status, promised_large, promised_small, variables

if TYPE_CHECKING:
    from hesstore.store.schema import Run
    from hesstore.store.writing import SweepStore

_LATER = (Status.COMPLETE, Status.FAILED)


def settle(store: SweepStore, run: Run) -> None:
    """Give each fitted grid point of a run the digests of its status, if it has those of a later one.

    Digests that match neither are left as they are: they show damage. The caller holds the claim on the run.
    """
    fitted = np.flatnonzero(store.status(run) == Status.FITTED).tolist()
    if not fitted:
        return
    rows = {each.name: store.entries(each.name, run) for each in variables(store.identity) if not each.is_large}
    digests = EntriesDigests(run, store.grid.tolist(), rows)

    def at(index: int, status: Status) -> int:
        return digests.at(index, status, promised_small(store.identity, status))

    entries, large = rows["entries_digest"].copy(), rows["digest"].copy()
    for index in fitted:
        if entries[index] in {at(index, status) for status in _LATER}:
            entries[index] = at(index, Status.FITTED)
        of_weights = _digest_of_large(store, run, index, Status.FITTED)
        if large[index] != of_weights and large[index] == _digest_of_large(store, run, index, Status.COMPLETE):
            large[index] = of_weights
    for name, before, after in (("digest", rows["digest"], large), ("entries_digest", rows["entries_digest"], entries)):
        if (before != after).any():
            store.put_all(name, run, after)


def _digest_of_large(store: SweepStore, run: Run, index: int, status: Status) -> int:
    arrays = {name: store.read(name, run, index) for name in promised_large(store.identity, status)}
    return digest(run, float(store.grid[index]), arrays)
