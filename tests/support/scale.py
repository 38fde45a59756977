"""What one λ asks of an object store: requests and bytes, counted. ``python -m tests.support.scale`` prints them.

docs/scale.md is reckoned from these counts.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype, cpu
from zarr.storage import MemoryStore, WrapperStore

from hesstore.store import Run, Status, StoreSpec, SweepStore
from hesstore.store.places.place import HeldRun, Place
from hesstore.store.schema import VARIABLES, promised_large, promised_small, variables
from hesstore.store.variable import Variable

GETS, PUTS = 3, 53
"""Requests for opening a store, and for recording a grid point."""


@dataclass
class Count:
    """Requests, in order, as (kind, key, bytes)."""

    requests: list[tuple[str, str, int]] = field(default_factory=list)

    def of(self, kind: str, *, large: bool | None = None) -> tuple[int, int]:
        """Number and bytes of the requests of a kind, for large or small arrays, or all."""
        names = {variable.name for variable in VARIABLES if large is None or variable.is_large == large}
        sizes = [size for what, key, size in self.requests if what == kind and key.partition("/")[0] in names]
        return len(sizes), sum(sizes)


class CountingStore(WrapperStore[MemoryStore]):
    """Counts what would be a request each; without synchronous calls, as an object store has none."""

    def __init__(self, store: MemoryStore, count: Count) -> None:
        super().__init__(store)
        self.count = count

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        found = await super().get(key, prototype, byte_range)
        self.count.requests.append(("get", key, 0 if found is None else len(found)))
        return found

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        return [await self.get(key, prototype, part) for key, part in key_ranges]

    async def set(self, key: str, value: Buffer) -> None:
        self.count.requests.append(("put", key, len(value)))
        await super().set(key, value)


class Held:
    """A claim that nobody reads."""

    def leave(self) -> None: ...


class CountedPlace(Place):
    """A store in memory."""

    location = address = "memory"

    def __init__(self) -> None:
        self.objects: dict[str, Buffer] = {}
        self.count = Count()

    def is_new(self) -> bool:
        return not self.objects

    def check_exists(self) -> None: ...

    def check_creatable(self) -> None: ...

    def check_writable(self) -> None: ...

    def create(self, template: Mapping[str, bytes]) -> None:
        self.objects.update({key: cpu.Buffer.from_bytes(contents) for key, contents in template.items()})

    def replacing(self) -> AbstractContextManager[Place]:
        raise NotImplementedError  # nothing that is counted does

    def adopt(self, source: Place, files: Mapping[str, str]) -> None:
        raise NotImplementedError

    def zarr_store(self, *, read_only: bool) -> Store:  # noqa: ARG002 - nobody else is here
        return CountingStore(MemoryStore(self.objects), self.count)

    def claim(self, run_id: int, workers: int = 1) -> AbstractContextManager[HeldRun]:  # noqa: ARG002
        return contextlib.nullcontext(Held())

    def check_claim(self, run_id: int) -> None: ...

    def names(self) -> list[str]:
        return list(self.objects)

    def fetch(self, key: str) -> bytes:
        return self.objects[key].to_bytes()

    def put(self, key: str, data: bytes) -> None:
        raise NotImplementedError  # nothing that is counted does

    def delete(self, key: str) -> None:
        del self.objects[key]

    def remove(self) -> None:
        self.objects.clear()

    def missing(self, keys: Iterable[str]) -> list[str]:
        return [key for key in keys if not self.objects.get(key)]

    def size(self) -> int:
        return sum(map(len, self.objects.values()))


IDENTITY = {"k": 1, "lowest": 1, "response": 0.1, "probes": 4, "density": True}
"""The settings that ask for optional results of the analysis: all of them."""


def spec(length: int, parameters: int, k: int = 30, classes: int = 10) -> StoreSpec:
    return StoreSpec(
        grid=tuple(np.arange(length) / length),
        runs=(Run(0, 0, "up"),),
        k=k,
        num_classes=classes,
        parameters=[("x.x", (parameters,))],
        identity=IDENTITY,
        attrs={"config": "{}", "environment": "{}"},
    )


_STATUSES = (Status.FITTED, Status.COMPLETE)
FITTED, _ALL = ((*promised_large(IDENTITY, at), *promised_small(IDENTITY, at)) for at in _STATUSES)
ANALYSED = tuple(name for name in _ALL if name not in FITTED)


def _array(store: SweepStore, name: str) -> zarr.Array[Any]:
    array = store.group[name]
    assert isinstance(array, zarr.Array)
    return array


def values(store: SweepStore, names: Iterable[str], rng: np.random.Generator) -> dict[str, Any]:
    """Random numbers: real ones shrink a little more."""
    by_name = {variable.name: variable for variable in VARIABLES}
    return {name: _random(by_name[name], _array(store, name).shape[2:], rng) for name in names}


def _random(variable: Variable, shape: tuple[int, ...], rng: np.random.Generator) -> Any:
    if variable.dtype == "string":
        return "converged"
    if variable.dtype == "i1":
        return (rng.random(shape) < 0.9).astype(np.int8)
    if variable.dtype == "i4":
        return rng.integers(0, 1000, shape).astype(np.int32)
    return rng.normal(size=shape).astype(variable.dtype)


def fill(store: SweepStore) -> None:
    """Give every small array of the run the contents that it has when all is done."""
    rng = np.random.default_rng(0)
    for variable in variables(IDENTITY):
        if not variable.is_large:
            array = _array(store, variable.name)
            if variable.dtype == "u8":
                array[...] = rng.integers(0, 2**63, array.shape).astype(np.uint64)
            elif variable.name == "status":
                array[...] = np.int8(Status.COMPLETE)
            elif variable.name != "failure":
                array[...] = _random(variable, array.shape, rng)


def count_records(length: int, parameters: int, *, filled: bool) -> tuple[Count, float]:
    """The requests and seconds of both records of a grid point, not the first, in a run of ``length`` λ."""
    place = CountedPlace()
    store = SweepStore.create(place, spec(length, parameters))
    if filled:
        fill(store)
    rng = np.random.default_rng(1)
    records = [
        (Status.FITTED, values(store, FITTED, rng)),
        (Status.COMPLETE, values(store, ANALYSED, rng)),
    ]
    (run,) = store.runs
    with store.claim(run):
        for index in (0, 1):  # the small variables are read once, with the first grid point
            place.count.requests.clear()
            began = time.perf_counter()
            for status, known in records:
                store.record(run, index, status, known)
    return place.count, time.perf_counter() - began


def opening() -> Count:
    """Requests that each process makes once to open a store for writing (on S3, one more checks that it exists)."""
    place = CountedPlace()
    SweepStore.create(place, spec(451, 8))
    place.count.requests.clear()
    SweepStore.open(place)
    return place.count


def main(out: Callable[[str], object]) -> None:
    """Print the counts behind docs/scale.md."""
    out(f"opening a store: {len(opening().requests)} requests")
    count, _ = count_records(2, 118_282, filled=False)
    out(f"large variables of one grid point, P = 118,282, k = 30: {_described(count, large=True)}")
    for length in (451, 10_000, 100_000):
        count, seconds = count_records(length, 8, filled=True)
        described = _described(count, large=False)
        run_length = f"a run of {length:,} λ whose other grid points are complete"
        out(f"small variables of one grid point, in {run_length}: {described}; {seconds:.2f} s")


def _described(count: Count, *, large: bool) -> str:
    gets, puts = count.of("get", large=large), count.of("put", large=large)
    return f"{gets[0]} GET of {gets[1]:,} bytes, {puts[0]} PUT of {puts[1]:,} bytes"


if __name__ == "__main__":
    main(lambda line: sys.stdout.write(f"{line}\n"))
