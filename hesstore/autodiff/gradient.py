"""Loss and gradient as one program that is bound to a parameter vector and writes into a given gradient vector.

A training step on a small batch has little arithmetic. Much of its time goes into creating views of the parameters and
assembling the gradient from its parts. A bound program creates its views once, and its matrix products write directly
into the gradient.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from hesstore.autodiff.graph_split import split_graph
from hesstore.autodiff.simplify import drop_copies
from hesstore.autodiff.tracing import trace_graph

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

aten = torch.ops.aten

_WRITES_OUT = {aten.mm.default: aten.mm.out, aten.sum.dim_IntList: aten.sum.IntList_out}


@dataclass(frozen=True)
class GradientProgram:
    """f(θ, x, y) and its gradient, for all θ, x, y of the shapes that were traced.

    Attributes
    ----------
    views : GraphModule
        (θ, g) → the views of θ and of the gradient vector g that ``evaluate`` needs.
    evaluate : GraphModule
        (x, y, \\*views) → f; writes ∂f/∂θ to g.
    """

    views: fx.GraphModule
    evaluate: fx.GraphModule

    def bind(self, theta: Tensor, gradient: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the function (x, y) ↦ f at the current entries of ``theta``.

        Each call overwrites ``gradient`` with the gradient.
        """
        views = self.views(theta, gradient)

        def value_and_gradient(x: Tensor, y: Tensor) -> Tensor:
            value: Tensor = self.evaluate(x, y, *views)
            return value

        return value_and_gradient


def trace_gradient(
    f: Callable[[Tensor, Tensor, Tensor], Tensor], theta: Tensor, x: Tensor, y: Tensor, *, stacked: bool = False
) -> GradientProgram:
    """Trace the :class:`GradientProgram` of ``f``.

    If ``stacked``, of G copies of ``f``, each with its own θ, x and y along a first axis.
    """
    derivative = torch.func.grad_and_value(f)
    graph = trace_graph(torch.func.vmap(derivative) if stacked else derivative, theta, x, y)
    parameters, *_ = (node for node in graph.nodes if node.op == "placeholder")
    drop_copies(graph)
    graph.eliminate_dead_code()
    _write_gradient(graph, parameters)
    early = _views(graph)
    return GradientProgram(*split_graph(graph, {node for node in graph.nodes if node not in early}))


def _write_gradient(graph: fx.Graph, parameters: fx.Node) -> None:
    """Have the graph write the gradient to a new placeholder instead of returning it.

    A gradient that the graph concatenates from parts is written part by part.
    """
    output = next(node for node in graph.nodes if node.op == "output")
    gradient: fx.Node
    gradient, value = output.args[0]
    with graph.inserting_after(parameters):
        target = graph.placeholder("gradient")
    if gradient.target is aten.cat.default and len(gradient.args) == 1 and gradient.meta["val"].dim() == 1:
        parts: list[fx.Node] = gradient.args[0]  # type: ignore[assignment]  # the tensors that cat joins
        sizes = [part.meta["val"].numel() for part in parts]
        with graph.inserting_after(target):
            pieces = graph.call_function(aten.split_with_sizes.default, (target, sizes))
        for index, part in enumerate(parts):
            with graph.inserting_after(pieces):
                piece = graph.call_function(operator.getitem, (pieces, index))
            _write_part(graph, part, piece, output)
    else:
        with graph.inserting_before(output):
            graph.call_function(aten.copy_.default, (target, gradient))
    output.args = (value,)
    graph.eliminate_dead_code()


def _write_part(graph: fx.Graph, part: fx.Node, piece: fx.Node, output: fx.Node) -> None:
    """Have the value of ``part`` written to ``piece``: by its own operation if that can, otherwise by a copy."""
    source: Any = part
    while source.target is aten.view.default and len(source.users) == 1:
        source = source.args[0]
    if source.target in _WRITES_OUT and len(source.users) == 1:
        with graph.inserting_after(piece):
            shaped = graph.call_function(aten.view.default, (piece, list(source.meta["val"].shape)))
        source.kwargs = {**source.kwargs, "out": shaped}
        source.target = _WRITES_OUT[source.target]
    else:
        with graph.inserting_before(output):
            graph.call_function(aten.copy_.default, (piece, part))


def _views(graph: fx.Graph) -> set[fx.Node]:
    """The placeholders of θ and of the gradient, and the nodes that are views of them."""
    early = set([node for node in graph.nodes if node.op == "placeholder"][:2])
    for node in graph.nodes:
        is_view = node.target is operator.getitem or getattr(node.target, "is_view", False)
        if node.op == "call_function" and is_view and early.issuperset(node.all_input_nodes):
            early.add(node)
    return early
