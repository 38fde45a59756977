"""Timing contestants by turns, so that what slows the machine for a while slows all of them."""

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
    """Something to time: its name, one run of it, and the most rounds it takes part in (0: all)."""

    name: str
    run: Callable[[], T]
    most: int = 0


@dataclass(frozen=True)
class Timing(Generic[T]):
    """The times of one entry, in seconds, and what each timed run gave."""

    name: str
    seconds: tuple[float, ...]
    results: tuple[T, ...]

    @property
    def result(self) -> T:
        """What the last run gave."""
        return self.results[-1]

    @property
    def median(self) -> float:
        """Median time, seconds."""
        return statistics.median(self.seconds)


def interleave(entries: list[Entry[T]], repeats: int, *, device: torch.device, warm_up: bool = True) -> list[Timing[T]]:
    """Each entry once in each round; ``warm_up`` runs every one once beforehand, untimed."""
    for entry in entries if warm_up else ():
        progress(f"  {entry.name}: warm-up")
        entry.run()
    runs: dict[str, list[tuple[float, T]]] = {entry.name: [] for entry in entries}
    for turn in range(repeats):
        for entry in entries:
            if not entry.most or turn < entry.most:
                progress(f"  {entry.name}: round {turn + 1}")
                runs[entry.name].append(timed(entry.run, device))
    return [Timing(name, *zip(*taken, strict=True)) for name, taken in runs.items()]


def timed(run: Callable[[], T], device: torch.device) -> tuple[float, T]:
    """Seconds of one run, until its device is idle, and its result."""
    synchronise(device)
    began = time.perf_counter()
    result = run()
    synchronise(device)
    return time.perf_counter() - began, result


def synchronise(device: torch.device) -> None:
    """Wait for what the device still has to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
