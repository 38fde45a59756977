"""CUDA graphs of the stand-in devices: a capture records operations, and a replay executes them on the same memory."""

from __future__ import annotations

import gc
import threading
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.multiprocessing.reductions import StorageWeakRef

from tests.support.stand_in_device.machine import CaptureError, FreedMemoryError, Machine
from tests.support.stand_in_device.streams import Stream, StreamContext
from tests.support.stand_in_device.tensors import flatten, replace_tensors, written


def _key(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


class _Place:
    """A tensor in a recorded operation: where it is in memory, which it does not keep alive."""

    def __init__(self, tensor: Tensor) -> None:
        self._storage = StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]
        self._dtype, self._view = tensor.dtype, (tensor.storage_offset(), tensor.shape, tensor.stride())

    def tensor(self) -> Tensor:
        """The tensor.

        Raises
        ------
        FreedMemoryError
            If its memory was freed.
        """
        storage: torch.UntypedStorage | None = torch.UntypedStorage._new_with_weak_ptr(self._storage.cdata)
        if storage is None:
            shape = tuple(self._view[1])
            raise FreedMemoryError(f"a replay uses a tensor {shape} whose memory was freed after the capture")
        return torch.empty(0, dtype=self._dtype).set_(storage, *self._view)


@dataclass(frozen=True)
class _Operation:
    """An operation with the places of its arguments and of the tensors that it makes."""

    func: OpOverload
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    made: Sequence[tuple[int, _Place]]

    def execute(self) -> tuple[list[Tensor], list[Tensor]]:
        """Execute the operation; return the tensors that it reads and writes."""
        args = tuple(_found(each) for each in self.args)
        kwargs = {name: _found(each) for name, each in self.kwargs.items()}
        out = list(flatten([self.func(*args, **kwargs)]))
        made = [(out[index], place.tensor()) for index, place in self.made]
        for values, target in made:
            target.copy_(values)
        inputs = [*flatten(args), *flatten(kwargs.values())]
        return inputs, [*written(self.func, args, kwargs), *(target for _, target in made)]


def _found(value: Any) -> Any:
    """The value with the places in it replaced by their tensors."""
    if isinstance(value, _Place):
        return value.tensor()
    if type(value) in {list, tuple}:
        return type(value)([_found(each) for each in value])
    return value


class Capture:
    """The recording of one graph on one stream."""

    def __init__(self, stream: Stream, mode: str) -> None:
        self.stream, self.mode, self.thread = stream, mode, threading.get_ident()
        self.operations: list[_Operation] = []
        self.invalid = ""
        self._constants: list[Tensor] = []
        self._pool: dict[int, torch.UntypedStorage] = {}  # memory that the graph owns
        self._before: dict[int, tuple[Tensor, Tensor]] = {}  # other memory that it writes, and its contents

    def forbids_calls_of(self, thread: int) -> bool:
        """Whether a call that waits or allocates would break this capture."""
        return self.mode == "global" or (self.mode == "thread_local" and self.thread == thread)

    def keep(self, tensors: Iterable[Tensor]) -> None:
        """Take the memory of new tensors into the graph's pool."""
        for tensor in tensors:
            self._pool[_key(tensor)] = tensor.untyped_storage()

    def constant(self, number: Tensor) -> Tensor:
        """The value of a single number on the host, which becomes part of the graph."""
        self._constants.append(number.clone())
        return self._constants[-1]

    def record(self, func: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Record an operation, and return tensors for its results."""
        for tensor in written(func, args, kwargs):
            if _key(tensor) not in self._pool and _key(tensor) not in self._before:
                whole = torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())
                self._before[_key(tensor)] = whole, whole.clone()
        inputs = {_key(each) for each in [*flatten(args), *flatten(kwargs.values())]}
        places = tuple(replace_tensors(each, _Place) for each in args)
        named_places = {name: replace_tensors(each, _Place) for name, each in kwargs.items()}
        out = func(*args, **kwargs)
        made = [(index, each) for index, each in enumerate(flatten([out])) if _key(each) not in inputs]
        self.keep(each for _, each in made)
        self.operations.append(_Operation(func, places, named_places, [(i, _Place(each)) for i, each in made]))
        return out

    def finish(self) -> None:
        """Undo what recording has computed: a capture executes nothing."""
        for memory, contents in self._before.values():
            memory.copy_(contents)
        self._before.clear()
        for storage in self._pool.values():
            torch.empty(0, dtype=torch.uint8).set_(storage).fill_(0xFF)


class CUDAGraph:
    """A captured graph, in place of ``torch.cuda.CUDAGraph``."""

    def __init__(self, keep_graph: bool = False) -> None:
        self._capture: Capture | None = None
        self._replayed = False

    @property
    def kernels(self) -> list[str]:
        """The operations that a replay executes."""
        return [str(operation.func) for operation in self._captured().operations]

    def capture_begin(self, pool: object = None, capture_error_mode: str = "global", **_: object) -> None:
        """Begin to record the current stream."""
        machine = Machine.current()
        stream = machine.current_stream()
        if stream is machine.default_stream(stream.device):
            raise CaptureError("CUDA graphs must be captured on a stream other than the default one")
        self._capture = stream.capture = Capture(stream, capture_error_mode)
        machine.captures.append(stream.capture)

    def capture_end(self, *, failed: bool = False) -> None:
        """End the recording, which has ``failed`` if an operation raised.

        Raises
        ------
        CaptureError
            If a call that is not permitted during a capture has made it invalid.

        Warns
        -----
        UserWarning
            If nothing was recorded.
        """
        capture, machine = self._captured(), Machine.current()
        machine.captures.remove(capture)
        capture.stream.capture = None
        capture.finish()
        if capture.invalid:
            self._capture = None
            raise CaptureError(f"the capture was invalidated by {capture.invalid}")
        if not capture.operations and not failed:
            warnings.warn(
                "The CUDA Graph is empty. This usually means that the graph was attempted to be captured on wrong "
                "device or stream.",
                UserWarning,
                stacklevel=2,
            )

    def instantiate(self) -> None:
        """Do nothing: a recorded graph can be replayed."""

    def replay(self) -> None:
        """Execute the recorded operations on the current stream of their device."""
        machine, operations = Machine.current(), self._captured().operations
        if not self._replayed:
            gc.collect()  # frees what only cycles keep
            self._replayed = True
        stream = machine.current_stream(self._captured().stream.device)
        machine.stray(stream, "a replay")
        machine.counts.launches += 1
        reads: list[Tensor] = []
        writes: list[Tensor] = []
        for operation in operations:
            inputs, outputs = operation.execute()
            reads += inputs
            writes += outputs
            machine.counts.kernels[str(operation.func)] += 1
        machine.launch(stream, reads, writes)

    def reset(self) -> None:
        """Free the graph and its memory."""
        self._capture = None

    def pool(self) -> tuple[int, int]:
        """The name of the graph's memory."""
        return (0, id(self))

    def _captured(self) -> Capture:
        if self._capture is None:
            raise CaptureError("the CUDA graph was not captured")
        return self._capture


class GraphContext:
    """A context in which a graph is captured, in place of ``torch.cuda.graph``.

    Without a stream, all captures of a process share one stream, on the device that was current at the first capture.
    """

    default_capture_stream: ClassVar[Stream | None] = None

    def __init__(
        self,
        cuda_graph: CUDAGraph,
        pool: object = None,
        stream: Stream | None = None,
        capture_error_mode: str = "global",
        **_: object,
    ) -> None:
        if stream is None:
            if GraphContext.default_capture_stream is None:
                GraphContext.default_capture_stream = Stream()
            stream = GraphContext.default_capture_stream
        self.capture_stream = stream
        self._graph, self._mode, self._context = cuda_graph, capture_error_mode, StreamContext(stream)

    def __enter__(self) -> None:
        synchronize()
        self._context.__enter__()
        self._graph.capture_begin(capture_error_mode=self._mode)

    def __exit__(self, *error: object) -> None:
        self._graph.capture_end(failed=any(error))  # if this raises, PyTorch leaves the capture's stream as it is, too
        self._context.__exit__(*error)


def synchronize(device: torch.device | str | int | None = None) -> None:
    """Have the host wait for all streams of a device, in place of ``torch.cuda.synchronize``."""
    machine = Machine.current()
    machine.refuse_in_capture("waiting for a device")
    for stream in machine.streams:
        if stream.device == machine.indexed(device):
            stream.settle(machine.known)
