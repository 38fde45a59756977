"""Removing a store."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from hesstore.errors import CorruptStoreError
from hesstore.store.root_group import open_group
from hesstore.store.writing import SweepStore

if TYPE_CHECKING:
    from hesstore.store.places.place import Place


def check_removable(place: Place) -> None:
    """Raise :class:`StoreError` unless there is a store of hesstore, which may be damaged, that can be written."""
    place.check_writable()
    try:
        open_group(place, writable=True)
    except CorruptStoreError:
        return


def remove_store(place: Place) -> None:
    """Delete the store, whose runs no other process may hold.

    Raises
    ------
    StoreBusyError
        If a live process holds a run of the store.
    StoreError
        If it is not a store of hesstore, or cannot be written.
    """
    check_removable(place)
    with ExitStack() as claims:
        try:
            store = SweepStore.open(place)
        except CorruptStoreError:  # no driver can work on it
            pass
        else:
            for run in store.runs:
                claims.enter_context(place.claim(run.id))
        place.remove()
