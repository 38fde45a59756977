"""Autograd's backward pass in Python: PyTorch's own needs a driver as soon as a tensor claims to be on a GPU."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node, get_gradient_edge

Edge = tuple[Node, int]


class Engine:
    """The backward pass: in Python for tensors on a device, and PyTorch's own for all others."""

    def __init__(self, pytorch: Any) -> None:
        self._pytorch = pytorch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pytorch, name)

    def run_backward(
        self,
        outputs: Sequence[Tensor],
        gradients: Sequence[Tensor | None],
        keep_graph: bool,
        create_graph: bool,
        inputs: Sequence[Tensor] = (),
        allow_unreachable: bool = False,
        accumulate_grad: bool = False,
    ) -> tuple[Tensor | None, ...]:
        """The sums of the gradients of ``outputs`` with respect to each of ``inputs``; None if they are independent."""
        if not any(output.is_cuda for output in outputs):
            result: tuple[Tensor | None, ...] = self._pytorch.run_backward(
                outputs, gradients, keep_graph, create_graph, inputs, allow_unreachable, accumulate_grad
            )
            return result
        if accumulate_grad:
            raise NotImplementedError("the stand-in device supports torch.autograd.grad, not Tensor.backward")
        with torch.set_grad_enabled(create_graph):
            roots = [_edge(output) for output in outputs]
            values = [
                torch.ones_like(output) if gradient is None else gradient
                for output, gradient in zip(outputs, gradients, strict=True)
            ]
            return _propagate(roots, values, [_edge(each) for each in inputs])


def _edge(tensor: Tensor) -> Edge:
    edge = get_gradient_edge(tensor)
    return edge[0], edge[1]


def _propagate(roots: Sequence[Edge], values: Sequence[Tensor], wanted: Sequence[Edge]) -> tuple[Tensor | None, ...]:
    """The gradients that arrive at the edges ``wanted``, from ``values`` at ``roots``."""
    waiting = _count_incoming(dict.fromkeys(node for node, _ in roots))
    gradients: dict[Node, dict[int, Tensor]] = defaultdict(dict)
    found: dict[Edge, Tensor] = {}
    for edge, value in zip(roots, values, strict=True):
        _add(gradients, edge, value)
    ready = [node for node in dict.fromkeys(node for node, _ in roots) if not waiting[node]]
    while ready:
        node = ready.pop()
        arrived = gradients.pop(node, {})
        found |= {edge: arrived[edge[1]] for edge in wanted if edge[0] == node and edge[1] in arrived}
        passed = _apply(node, arrived)
        for (following, place), gradient in zip(node.next_functions, passed, strict=True):
            if following is None:
                continue
            if gradient is not None:
                _add(gradients, (following, place), gradient)
            waiting[following] -= 1
            if not waiting[following]:
                ready.append(following)
    return tuple(found.get(edge) for edge in wanted)


def _count_incoming(roots: dict[Node, None]) -> dict[Node, int]:
    """The number of edges that lead to each node."""
    incoming: dict[Node, int] = defaultdict(int)
    seen, stack = set(roots), list(roots)
    while stack:
        for following, _ in stack.pop().next_functions:
            if following is not None:
                incoming[following] += 1
                if following not in seen:
                    seen.add(following)
                    stack.append(following)
    return incoming


def _apply(node: Node, arrived: dict[int, Tensor]) -> tuple[Tensor | None, ...]:
    if not arrived or node.name() == "torch::autograd::AccumulateGrad":
        return (None,) * len(node.next_functions)
    out: Any = node(*(arrived.get(place) for place in range(len(node._input_metadata))))  # type: ignore[operator]
    return out if isinstance(out, tuple) else (out,)


def _add(gradients: dict[Node, dict[int, Tensor]], edge: Edge, value: Tensor) -> None:
    """Add a gradient, in the shape and type of the tensor whose gradient it is."""
    node, place = edge
    expected = node._input_metadata[place]
    if value.shape != tuple(expected.shape):
        value = value.sum_to_size(tuple(expected.shape))
    if value.dtype != expected.dtype:
        value = value.to(expected.dtype)
    arrived = gradients[node]
    arrived[place] = arrived[place] + value if place in arrived else value
