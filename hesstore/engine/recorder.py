"""Records that are written to a store in a thread of their own, in order, while the caller computes on."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from queue import Queue
from typing import TYPE_CHECKING, Any, Self

from hesstore.engine.devices import on_host

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hesstore.store.schema import Run, Status
    from hesstore.store.writing import SweepStore


@dataclass(frozen=True)
class Record:
    """What :meth:`SweepStore.record` takes, and a note of the caller's own.

    With ``covering``, the digest of large arrays that are in the store already, ``values`` are small entries alone.
    """

    run: Run
    index: int
    status: Status
    values: Mapping[str, Any]
    note: Any = None
    covering: int | None = None


class Recorder:
    """Writes records as a context manager: leaving it waits until all are on disk, unless one can't be.

    Parameters
    ----------
    store : SweepStore
        Where they go; nobody else writes to it meanwhile.
    room : int
        Records that may wait, in memory; :meth:`put` waits while there are more.

    Notes
    -----
    After a failed write no later one is tried, and the failure is raised by the next call.
    """

    def __init__(self, store: SweepStore, *, room: int) -> None:
        self._store = store
        self._waiting: Queue[Record | None] = Queue(room)
        self._written: Queue[Record] = Queue()
        self._failure: BaseException | None = None
        # A daemon: a process that is told to stop twice does not wait for a slow disk.
        self._thread = threading.Thread(target=self._write_all, name="hesstore-recorder", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def close(self) -> None:
        """Wait until all records are on disk."""
        self._stop()
        self._check()

    def _stop(self) -> None:
        if self._thread.is_alive():
            self._waiting.put(None)
            self._thread.join()

    def put(self, record: Record) -> None:
        """Have ``record`` written; its arrays must not change any more."""
        self._check()
        self._waiting.put(record)

    def written(self) -> list[Record]:
        """The records that have come to be on disk since the last call."""
        self._check()
        return [self._written.get() for _ in range(self._written.qsize())]

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _write_all(self) -> None:
        while (record := self._waiting.get()) is not None:
            if self._failure is not None:
                continue  # the caller may be waiting for room
            try:
                values = {name: on_host(value) for name, value in record.values.items()}
                if record.covering is None:
                    self._store.record(record.run, record.index, record.status, values)
                else:
                    self._store.put_entries(record.run, record.index, record.status, values, record.covering)
            except BaseException as failure:  # noqa: BLE001 - it is raised in the caller's thread
                self._failure = failure
            else:
                self._written.put(replace(record, values={}))
