"""The state of the stand-in devices: streams, the current device of each thread, counts, and what is being captured."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

import hesstore

if TYPE_CHECKING:
    from tests.support.stand_in_device.graphs import Capture
    from tests.support.stand_in_device.streams import Stream

PACKAGE = Path(hesstore.__file__).parent


class StandInError(RuntimeError):
    """An operation that a GPU would refuse or get wrong."""


class MixedDevicesError(StandInError):
    """Tensors on several devices in one operation."""


class HostCopyError(StandInError):
    """A copy between host and device that reads or writes memory too early."""


class CaptureError(StandInError):
    """An operation that is not allowed while a CUDA graph is captured, or that the graph does not contain."""


class FreedMemoryError(StandInError):
    """A replay of a CUDA graph that uses memory which was freed since the capture."""


class RaceError(StandInError):
    """Two operations on the same memory, on streams that do not wait for each other."""


@dataclass
class Counts:
    """The work since the last :meth:`clear`.

    Attributes
    ----------
    kernels : Counter
        Number of kernels that the devices have executed, by operation. Views and allocations are none.
    launches : int
        Number of launches by the host: a kernel outside a graph, or a whole graph.
    syncs : Counter
        Number of times that the host waited for a device, by the place in the code and the reason.
    """

    kernels: Counter[str] = field(default_factory=Counter)
    launches: int = 0
    syncs: Counter[str] = field(default_factory=Counter)

    def clear(self) -> None:
        """Start to count from zero."""
        self.kernels.clear()
        self.syncs.clear()
        self.launches = 0


@dataclass
class _Accesses:
    """The last write of a storage and the reads since, as (stream, time) pairs."""

    write: tuple[int, int]
    reads: dict[int, int] = field(default_factory=dict)


class _Local(threading.local):
    """The current device of a thread and its current stream on each device."""

    def __init__(self) -> None:
        self.device = 0
        self.streams: dict[int, Stream] = {}


class Machine:
    """All stand-in devices of a process.

    Parameters
    ----------
    devices : int
        Number of devices.
    strict : bool
        Whether a kernel raises that runs outside the graph which is being captured. A GPU executes it immediately, and
        the graph silently lacks it.

    Attributes
    ----------
    counts : Counts
        The work so far.
    before_kernel : list of callable
        Functions that are called with the operation before each kernel; they may raise, such as for lack of memory.
    """

    active: ClassVar[Machine | None] = None

    def __init__(self, devices: int, *, strict: bool) -> None:
        from tests.support.stand_in_device.streams import Stream  # noqa: PLC0415 - streams need this module

        self.devices, self.strict = devices, strict
        self.counts = Counts()
        self.before_kernel: list[Callable[[torch._ops.OpOverload], None]] = []
        self.captures: list[Capture] = []
        self.known: dict[int, int] = {}  # the launches of each stream that the host knows to be done
        self.lock = threading.RLock()
        self._local = _Local()
        self._accesses: dict[int, _Accesses] = {}
        self._pinned: dict[int, torch.UntypedStorage] = {}
        self.streams: list[Stream] = []
        self._default_streams = [Stream(torch.device("cuda", index), machine=self) for index in range(devices)]

    @classmethod
    def current(cls) -> Machine:
        """The machine that is installed."""
        if cls.active is None:
            raise StandInError("no stand-in device is installed")
        return cls.active

    # -- devices and streams ------------------------------------------------------------------------------

    def indexed(self, device: torch.device | str | int | None) -> torch.device:
        """The device with its number; without a number, the current one."""
        if isinstance(device, int):
            device = torch.device("cuda", device)
        device = torch.device("cuda" if device is None else device)
        index = self._local.device if device.index is None else device.index
        if not 0 <= index < self.devices:
            raise StandInError(f"cuda:{index} does not exist: the last stand-in device is cuda:{self.devices - 1}")
        return torch.device("cuda", index)

    @property
    def current_device(self) -> int:
        """The number of this thread's current device."""
        return self._local.device

    def set_device(self, device: torch.device | str | int) -> int:
        """Make a device the current one of this thread, and return the number of the one before."""
        before, self._local.device = self._local.device, self.indexed(device).index
        return before

    def current_stream(self, device: torch.device | str | int | None = None) -> Stream:
        """This thread's current stream on a device."""
        index = self.indexed(device).index
        return self._local.streams.get(index) or self._default_streams[index]

    def default_stream(self, device: torch.device | str | int | None = None) -> Stream:
        """The default stream of a device."""
        return self._default_streams[self.indexed(device).index]

    def set_stream(self, stream: Stream) -> None:
        """Make a stream the current one of its device."""
        self._local.streams[stream.device.index] = stream

    # -- pinned memory ------------------------------------------------------------------------------------

    def pin(self, tensor: Tensor) -> Tensor:
        """Mark the memory of a host tensor as pinned."""
        self.refuse_in_capture("allocating pinned memory")
        storage = tensor.untyped_storage()
        self._pinned[storage._cdata] = storage  # kept, so that no other memory takes its address
        return tensor

    def is_pinned(self, tensor: Tensor) -> bool:
        """Whether the memory of a host tensor is pinned."""
        return tensor.untyped_storage()._cdata in self._pinned

    # -- order --------------------------------------------------------------------------------------------

    def launch(self, stream: Stream, reads: Iterable[Tensor], writes: Iterable[Tensor]) -> int:
        """Take a launch into account and return its time on the stream.

        Raises
        ------
        RaceError
            If the launch is not ordered after others that use the same memory.
        """
        with self.lock:
            now = stream.tick(self.known)
            for tensor in reads:
                accesses = self._accesses.get(tensor.untyped_storage()._cdata)
                if accesses is not None:
                    self._require(stream, *accesses.write)
                    accesses.reads[stream.id] = now
            for tensor in writes:
                key = tensor.untyped_storage()._cdata
                accesses = self._accesses.get(key)
                if accesses is not None:
                    for access in (accesses.write, *accesses.reads.items()):
                        self._require(stream, *access)
                self._accesses[key] = _Accesses((stream.id, now))
        return now

    def note_new(self, stream: Stream, time: int, tensor: Tensor) -> None:
        """Note that a launch has made a tensor. Its memory may have the address of other memory that was freed."""
        self._accesses[tensor.untyped_storage()._cdata] = _Accesses((stream.id, time))

    def _require(self, stream: Stream, other: int, time: int) -> None:
        if stream.seen.get(other, 0) < time:
            raise RaceError(f"stream {stream.id} uses memory of stream {other} without waiting for it")

    # -- waiting for a device -----------------------------------------------------------------------------

    def sync(self, reason: str, device: torch.device) -> None:
        """Have the host wait for this thread's current stream on a device."""
        self.refuse_in_capture(reason)
        self.counts.syncs[f"{_place()} {reason}"] += 1
        self.current_stream(device).settle(self.known)

    def refuse_in_capture(self, call: str) -> None:
        """Raise if a capture forbids a call that waits, allocates or copies, and make that capture invalid."""
        for capture in self.captures:
            if capture.forbids_calls_of(threading.get_ident()):
                capture.invalid = capture.invalid or call
                raise CaptureError(f"{call} is not permitted while a CUDA graph is captured ({capture.mode} mode)")

    def stray(self, stream: Stream, operation: object) -> None:
        """Raise, if the machine is strict, for a kernel on ``stream`` while this thread captures another stream."""
        mine = [capture for capture in self.captures if capture.thread == threading.get_ident()]
        if mine and self.strict:
            raise CaptureError(
                f"{operation} runs on stream {stream.id} of {stream.device} while a graph is captured on stream "
                f"{mine[0].stream.id} of {mine[0].stream.device}: the graph would lack it"
            )

    def close(self) -> None:
        """Let all copies arrive, which checks them."""
        for stream in self.streams:
            stream.settle(self.known)


def _place() -> str:
    """The innermost line of hesstore that runs now, such as ``linalg/lanczos.py:12``."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = Path(frame.f_code.co_filename)
        if file.is_relative_to(PACKAGE):
            return f"{file.relative_to(PACKAGE)}:{frame.f_lineno}"
        frame = frame.f_back
    return "elsewhere"
