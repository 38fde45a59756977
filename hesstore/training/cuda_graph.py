"""A step that is launched as a whole: recorded once in a CUDA graph, then replayed on other inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

WARM_UPS = 3
"""Runs before the recording, in which libraries allocate and choose what they need."""


def capture(step: Callable[[Tensor], None], example: Tensor) -> Callable[[Tensor], None]:
    """``step`` for inputs like ``example``, as a CUDA graph.

    A step of 30 small kernels takes 30 launches, some 4 µs each, on a device that needs 1 µs for each; a replay
    takes one. All that the step reads and writes but its input must stay where it is. It runs
    :data:`WARM_UPS` times here, with ``example``.
    """
    static = example.clone()
    stream = torch.cuda.Stream(example.device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(example.device))
    with torch.cuda.stream(stream):
        for _ in range(WARM_UPS):
            step(static)
    torch.cuda.current_stream(example.device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step(static)

    def replay(argument: Tensor) -> None:
        static.copy_(argument)
        graph.replay()

    return replay
