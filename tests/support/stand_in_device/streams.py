"""Streams and events of the stand-in devices, and asynchronous copies that have not arrived."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from tests.support.stand_in_device.machine import HostCopyError, Machine

if TYPE_CHECKING:
    from tests.support.stand_in_device.graphs import Capture


def _merge(into: dict[int, int], other: Mapping[int, int]) -> None:
    for stream, time in other.items():
        into[stream] = max(into.get(stream, 0), time)


@dataclass
class PendingCopy:
    """An asynchronous copy between pinned memory and a device.

    Attributes
    ----------
    host, values : Tensor
        The host tensor, and the values that are copied.
    to_host : bool
        Whether the host tensor is the destination. Until the copy arrives, its values are wrong; if it is the source,
        it must not change until then.
    """

    host: Tensor
    values: Tensor
    to_host: bool
    arrived: bool = False

    def __post_init__(self) -> None:
        if self.to_host:
            self.host.fill_(torch.nan if self.host.is_floating_point() else 1)

    def arrive(self) -> None:
        """Finish the copy."""
        if self.arrived:
            return
        self.arrived = True
        if self.to_host:
            self.host.copy_(self.values)
        elif not _same(self.host, self.values):
            raise HostCopyError("pinned memory changed before its asynchronous copy to a device was done")


def _same(a: Tensor, b: Tensor) -> bool:
    return torch.equal(a.contiguous().view(torch.uint8), b.contiguous().view(torch.uint8)) if a.dim() else bool(a == b)


class Stream:
    """A queue of launches on one device, in place of ``torch.cuda.Stream``."""

    def __init__(
        self, device: torch.device | str | int | None = None, priority: int = 0, *, machine: Machine | None = None
    ) -> None:
        machine = machine or Machine.current()
        self.id = len(machine.streams)
        machine.streams.append(self)
        self.device = machine.indexed(device)
        self.seen: dict[int, int] = {self.id: 0}  # the launches of each stream that come before the next one on this
        self.pending: list[PendingCopy] = []
        self.capture: Capture | None = None

    def tick(self, known: Mapping[int, int]) -> int:
        """Take a launch into account and return its time. It comes after the launches that are ``known`` to be done."""
        _merge(self.seen, known)
        self.seen[self.id] += 1
        return self.seen[self.id]

    def settle(self, known: dict[int, int]) -> None:
        """Let all copies on this stream arrive; the host then knows its launches to be done."""
        pending, self.pending = self.pending, []
        for copy in pending:
            copy.arrive()
        _merge(known, self.seen)

    def wait_stream(self, stream: Stream) -> None:
        """Have the next launches wait for those of another stream."""
        _merge(self.seen, stream.seen)

    def wait_event(self, event: Event) -> None:
        """Have the next launches wait for an event."""
        _merge(self.seen, event.seen)

    def record_event(self, event: Event | None = None) -> Event:
        """Record an event on this stream."""
        event = event or Event()
        event.record(self)
        return event

    def synchronize(self) -> None:
        """Have the host wait for this stream."""
        machine = Machine.current()
        machine.refuse_in_capture("waiting for a stream")
        self.settle(machine.known)

    def query(self) -> bool:
        """Whether all copies have arrived."""
        return not self.pending

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@dataclass
class Event:
    """A mark in a stream, in place of ``torch.cuda.Event``."""

    enable_timing: bool = False
    blocking: bool = False
    interprocess: bool = False
    seen: dict[int, int] = field(default_factory=dict)
    copies: list[PendingCopy] = field(default_factory=list)

    def record(self, stream: Stream | None = None) -> None:
        """Mark the present end of a stream."""
        stream = stream or Machine.current().current_stream()
        self.seen, self.copies = dict(stream.seen), list(stream.pending)

    def wait(self, stream: Stream | None = None) -> None:
        """Have the next launches of a stream wait for this event."""
        (stream or Machine.current().current_stream()).wait_event(self)

    def synchronize(self) -> None:
        """Have the host wait for this event. An event that was not recorded has nothing to wait for."""
        machine = Machine.current()
        machine.refuse_in_capture("waiting for an event")
        for copy in self.copies:
            copy.arrive()
        _merge(machine.known, self.seen)

    def query(self) -> bool:
        """Whether everything before the event is done."""
        return all(copy.arrived for copy in self.copies)

    def elapsed_time(self, end: Event) -> float:
        """A time in milliseconds; the stand-in measures none."""
        return 0.0


class StreamContext:
    """A context in which a stream, and its device, are the current ones, in place of ``torch.cuda.stream``."""

    def __init__(self, stream: Stream | None) -> None:
        self.stream = stream

    def __enter__(self) -> None:
        if self.stream is not None:
            machine = Machine.current()
            self._before = machine.current_stream(self.stream.device)
            self._device = machine.set_device(self.stream.device)
            machine.set_stream(self.stream)

    def __exit__(self, *_: object) -> None:
        if self.stream is not None:
            machine = Machine.current()
            machine.set_stream(self._before)
            machine.set_device(self._device)


class DeviceContext:
    """A context in which a device is the current one, in place of ``torch.cuda.device``."""

    def __init__(self, device: torch.device | str | int | None) -> None:
        self.device = device

    def __enter__(self) -> None:
        self._before = Machine.current().set_device(Machine.current().indexed(self.device))

    def __exit__(self, *_: object) -> None:
        Machine.current().set_device(self._before)
