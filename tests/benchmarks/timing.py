"""Interleaved timing: all implementations take turns, so that a slow phase of the machine affects all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from tests.benchmarks.result_tables import progress

T = TypeVar("T")


@dataclass(frozen=True)
class Entry(Generic[T]):
    """A function to time, its name, and the largest number of rounds that it takes part in (0 means all)."""

    name: str
    run: Callable[[], T]
    max_rounds: int = 0


@dataclass(frozen=True)
class Timing(Generic[T]):
    """The times of one entry in seconds, and the result of each timed call."""

    name: str
    seconds: tuple[float, ...]
    results: tuple[T, ...]

    @property
    def result(self) -> T:
        """The result of the last call."""
        return self.results[-1]

    @property
    def median(self) -> float:
        """The median time in seconds."""
        return statistics.median(self.seconds)


def interleave(entries: list[Entry[T]], repeats: int, *, device: torch.device, warm_up: bool = True) -> list[Timing[T]]:
    """Time each entry once per round; with ``warm_up``, call each of them once before, without timing it."""
    for entry in entries if warm_up else ():
        progress(f"  {entry.name}: warm-up")
        entry.run()
    runs: dict[str, list[tuple[float, T]]] = {entry.name: [] for entry in entries}
    for turn in range(repeats):
        for entry in entries:
            if not entry.max_rounds or turn < entry.max_rounds:
                progress(f"  {entry.name}: round {turn + 1}")
                runs[entry.name].append(timed(entry.run, device))
    return [Timing(name, *zip(*taken, strict=True)) for name, taken in runs.items()]


def timed(run: Callable[[], T], device: torch.device) -> tuple[float, T]:
    """Return the seconds of one call, up to the moment when the device is idle, and its result."""
    synchronise(device)
    began = time.perf_counter()
    result = run()
    synchronise(device)
    return time.perf_counter() - began, result


def synchronise(device: torch.device) -> None:
    """Wait until the device has finished all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
