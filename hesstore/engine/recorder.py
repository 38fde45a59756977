"""A thread that writes outcomes to a store, those of a run in order, while the caller continues to compute."""

from __future__ import annotations

import itertools
import threading
from dataclasses import replace
from queue import Queue
from typing import TYPE_CHECKING, Self

from hesstore.engine.devices import on_host
from hesstore.store.checking import TOGETHER
from hesstore.store.writing import Entries

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hesstore.engine.outcome import Outcome
    from hesstore.store.schema import Run
    from hesstore.store.writing import SweepStore


class Recorder:
    """A context manager that writes outcomes; on exit it waits until all are on disk, unless a write fails.

    Parameters
    ----------
    store : SweepStore
        The store to write to. Nothing else may write to it meanwhile.
    room : int
        The number of outcomes that may wait in memory; :meth:`put` blocks while more are waiting.

    Notes
    -----
    After a failed write no later outcome is written. The next call of any method raises the failure.
    """

    def __init__(self, store: SweepStore, *, room: int) -> None:
        self._store = store
        self._waiting: Queue[Outcome | None] = Queue(room)
        self._written: Queue[Outcome] = Queue()
        self._failure: BaseException | None = None
        self._is_over = False
        # A daemon thread: a process that is interrupted twice must not wait for a slow disk.
        self._thread = threading.Thread(target=self._write_all, name="hesstore-recorder", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def close(self) -> None:
        """Wait until all outcomes are on disk."""
        self._stop()
        self._raise_failure()

    def _stop(self) -> None:
        if self._thread.is_alive():
            self._waiting.put(None)
            self._thread.join()

    def put(self, outcome: Outcome) -> None:
        """Queue ``outcome`` for writing. Its arrays must not change afterwards."""
        self._raise_failure()
        self._waiting.put(outcome)

    def take_written(self) -> list[Outcome]:
        """Return the outcomes that were written since the last call, without their values."""
        self._raise_failure()
        return [self._written.get() for _ in range(self._written.qsize())]

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _write_all(self) -> None:
        while outcomes := self._next():
            if self._failure is not None:
                continue  # Empty the queue: the caller may be waiting for room in it.
            try:
                by_run = sorted(outcomes, key=lambda outcome: outcome.point.run.id)  # in order within each run
                for run, of_run in itertools.groupby(by_run, key=lambda outcome: outcome.point.run):
                    written = list(of_run)
                    self._write(run, written)
                    for outcome in written:
                        self._written.put(replace(outcome, values={}))
            except BaseException as failure:  # noqa: BLE001 - raised again in the caller's thread
                self._failure = failure

    def _next(self) -> list[Outcome]:
        """Wait for the next outcome; return it and those behind it. Empty at the end."""
        found: list[Outcome] = []
        while not self._is_over and len(found) < TOGETHER and not (found and self._waiting.empty()):
            outcome = self._waiting.get()
            if outcome is None:
                self._is_over = True
            else:
                found.append(outcome)
        return found

    def _write(self, run: Run, outcomes: Sequence[Outcome]) -> None:
        """Write outcomes of one run: the small variables of all of them together."""
        entries = []
        for outcome in outcomes:
            index, status = outcome.point.index, outcome.status
            values = {name: on_host(value) for name, value in outcome.values.items()}
            if outcome.arrays_digest is None:
                entries.append(self._store.put_large(run, index, status, values))
            else:
                self._store.check_arrays(run, index, status, values, outcome.arrays_digest)
                entries.append(Entries(index, status, values, outcome.arrays_digest))
        self._store.put_together(run, entries)
