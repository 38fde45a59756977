from __future__ import annotations

import threading
from typing import Any, cast

import numpy as np
import pytest
import torch

from hesstore.engine.devices import HostCopy
from hesstore.engine.outcome import Outcome
from hesstore.engine.recorder import Recorder
from hesstore.store.schema import Point, Run, Status
from hesstore.store.writing import SweepStore

RUN = Run(0, 0, "up")


class SlowStore:
    """A store whose writes wait until the test allows them."""

    def __init__(self, *, failing: int | None = None) -> None:
        self.taken: list[tuple[int, dict[str, Any]]] = []
        self.may_take = threading.Semaphore(0)
        self.failing = failing

    def put_together(self, _run: Run, entries: list[object]) -> None: ...

    def put_large(self, _run: Run, index: int, _status: Status, values: dict[str, Any]) -> None:
        assert self.may_take.acquire(timeout=30)
        if index == self.failing:
            raise OSError("full")
        self.taken.append((index, values))


def recorder_of(store: SlowStore, room: int) -> Recorder:
    return Recorder(cast("SweepStore", store), room=room)


def outcome(index: int, **values: Any) -> Outcome:
    return Outcome(Point(RUN, index, 0.0), Status.FITTED, values, {"loss": index})


def test_outcomes_are_written_in_order_while_the_caller_continues() -> None:
    store = SlowStore()
    with recorder_of(store, 5) as recorder:
        for index in range(4):
            recorder.put(outcome(index, epochs=index))
        assert recorder.take_written() == []
        assert store.taken == []
        store.may_take.release(4)
        recorder.close()
        written = recorder.take_written()
        assert [each.facts for each in written] == [{"loss": index} for index in range(4)]
        assert all(each.values == {} for each in written)
        assert recorder.take_written() == []
    assert store.taken == [(index, {"epochs": index}) for index in range(4)]


def test_leaving_waits_even_when_something_else_went_wrong() -> None:
    store = SlowStore()

    def interrupted() -> None:
        with recorder_of(store, 5) as recorder:
            recorder.put(outcome(0))
            store.may_take.release()
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()
    assert len(store.taken) == 1


def test_a_full_queue_makes_the_caller_wait() -> None:
    store = SlowStore()
    with recorder_of(store, 1) as recorder:
        done = threading.Event()

        def fill() -> None:
            for index in range(3):  # one is being written, one waits, and there is no room for the third
                recorder.put(outcome(index))
            done.set()

        thread = threading.Thread(target=fill)
        thread.start()
        assert not done.wait(0.2)
        store.may_take.release(3)
        assert done.wait(30)
        thread.join()
    assert len(store.taken) == 3


def test_nothing_is_written_after_a_failure_and_the_caller_gets_it() -> None:
    store = SlowStore(failing=1)
    store.may_take.release(9)
    recorder = recorder_of(store, 1)

    def write() -> None:
        with recorder:
            for index in range(9):
                recorder.put(outcome(index))
            recorder.close()

    with pytest.raises(OSError, match="full"):
        write()
    assert [index for index, _ in store.taken] == [0]
    with pytest.raises(OSError, match="full"):
        recorder.take_written()


def test_tensors_arrive_as_they_were_when_they_left(device: torch.device) -> None:
    store = SlowStore()
    values = torch.arange(1000.0, device=device)
    with recorder_of(store, 2) as recorder:
        recorder.put(outcome(0, weights=HostCopy(values * 2)))
        store.may_take.release()
        recorder.close()
    ((_, written),) = store.taken
    assert np.array_equal(written["weights"], np.arange(1000.0, dtype=np.float32) * 2)
