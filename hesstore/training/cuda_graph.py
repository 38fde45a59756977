"""A training step that is launched as a whole: recorded once in a CUDA graph, then replayed with other inputs.

A graph is trusted only after one replay has had the same effect as the step itself. A capture can go wrong without an
error: what was recorded on another device or stream is missing from the graph, and its replay does nothing.
"""

from __future__ import annotations

import warnings
from collections import deque
from typing import TYPE_CHECKING

import torch

from hesstore.errors import DeviceWarning, first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    Step = Callable[[Tensor], None]

WARM_UPS = 3
"""Number of runs before the recording, in which libraries allocate memory and choose their kernels."""

TOLERANCE = 0.01
"""The largest difference between a replay and the step itself, relative to what the step changes.

Both usually have the same bits. Libraries may choose other kernels while a graph is recorded, and Adam turns a
gradient's rounding error into a full step where the gradient is nearly zero. An empty graph has a difference of 1.
"""


LAUNCHED_AHEAD = 2
"""The largest number of replays that are launched and not yet done.

The queue of a device has room for a limited number of kernels. While it is full, a launch blocks those of other
threads.
"""


class GraphedStep:
    """A step that replays a CUDA graph. A call waits until only a few earlier replays are not yet done.

    It keeps all that the graph reads and writes: the input, and the step with the constants that it was traced with.

    Parameters
    ----------
    step : callable
        The step that was recorded.
    static : Tensor
        The input that the graph reads.
    graph : CUDAGraph
        The recorded graph.
    """

    def __init__(self, step: Step, static: Tensor, graph: torch.cuda.CUDAGraph) -> None:
        self._step, self._static, self._graph = step, static, graph
        self._launched: deque[torch.cuda.Event] = deque()

    def __call__(self, argument: Tensor) -> None:
        """Replay the graph with another input of the same shape."""
        if len(self._launched) == LAUNCHED_AHEAD:
            self._launched.popleft().synchronize()
        self._static.copy_(argument)
        self._graph.replay()
        done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        done.record(torch.cuda.current_stream(argument.device))
        self._launched.append(done)


def graph_or_eager(step: Step, example: Tensor, trial: Tensor, state: Sequence[Tensor]) -> Step:
    """Return the step as a CUDA graph, or the step itself, with a warning, if its graph can't be used.

    A step of 30 small kernels takes 600 µs if the host launches each one, and 110 µs as a graph (measured on an H200).
    Everything that the step reads and writes, except its input, must keep its place in memory. The step runs several
    times here, so ``state`` changes.

    Parameters
    ----------
    step : callable
        The step. It takes one tensor and returns nothing.
    example : Tensor
        The input with which the step is recorded.
    trial : Tensor
        An input of the same shape and another effect, with which a replay is compared with the step itself.
    state : sequence of Tensor
        All tensors that the step changes.

    Warns
    -----
    DeviceWarning
        If the step can't be recorded, or if a replay has another effect than the step.
    """
    with torch.cuda.device(example.device):  # the device on which a graph is recorded is the current one
        static = example.clone()
        try:
            graphed = GraphedStep(step, static, _record(step, static))
        except _CaptureError as error:
            _warn(f"it can't be recorded as a CUDA graph ({error})")
            return step
        difference = _difference(step, graphed, trial, state)
    if difference > TOLERANCE:
        _warn(f"the replay of its CUDA graph differs from it by {difference:.2g} of what it changes")
        return step
    return graphed


class _CaptureError(Exception):
    """A step that runs can't be recorded."""


def _record(step: Step, static: Tensor) -> torch.cuda.CUDAGraph:
    """Warm up and record the step on a new stream of the device, which is the current one."""
    current = torch.cuda.current_stream(static.device)
    # Kernels of a graph have the priority of the stream on which it was recorded: here, above those of analyses.
    stream = torch.cuda.Stream(static.device, priority=-1)  # type: ignore[no-untyped-call]
    stream.wait_stream(current)
    with torch.cuda.stream(stream):
        for _ in range(WARM_UPS):
            step(static)
    current.wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.stream(current):  # makes it current again: after a failed capture, PyTorch does not
        try:
            # In the default mode, a call of another thread, such as the recorder's wait for a copy, ends the capture.
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                step(static)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise _CaptureError(first_line(error.__context__ or error)) from error
    return graph


def _difference(step: Step, graphed: Step, trial: Tensor, state: Sequence[Tensor]) -> float:
    """The largest relative difference between the changes of the state by the step and by its graph."""
    before = [tensor.clone() for tensor in state]
    step(trial)
    expected = [tensor.clone() for tensor in state]
    for tensor, value in zip(state, before, strict=True):
        tensor.copy_(value)
    graphed(trial)
    return max(_relative(*each) for each in zip(before, expected, state, strict=True))


def _relative(before: Tensor, expected: Tensor, found: Tensor) -> float:
    """‖found − expected‖ / ‖expected − before‖, and infinity if it is not a number."""
    if torch.equal(expected, found):
        return 0.0
    off, change = (
        float(torch.linalg.vector_norm(difference, dtype=torch.float64))
        for difference in (found - expected, expected - before)
    )
    return off / change if change and off < float("inf") else float("inf")


def _warn(what: str) -> None:
    message = f"training step: {what}: its kernels are launched one by one, which gives the same results more slowly"
    warnings.warn(DeviceWarning(message), stacklevel=3)
