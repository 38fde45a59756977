"""Loss and gradient as one program that is bound to a parameter vector and writes the gradient where it is wanted.

A training step on small batches is short of arithmetic and long on everything else: views of the parameters made anew,
the gradient's parts put together. Bound once, the program has its views at hand, and matrix products write straight
into the gradient.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from hesstore.autodiff.graph_split import cut
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
        (θ, g) → the views of θ, and of the vector g for the gradient, that ``slope`` needs.
    slope : GraphModule
        (x, y, \\*views) → f, with ∂f/∂θ written to g.
    """

    views: fx.GraphModule
    slope: fx.GraphModule

    def bind(self, theta: Tensor, gradient: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """(x, y) ↦ f at what ``theta`` then holds; the call leaves the gradient in ``gradient``."""
        views = self.views(theta, gradient)

        def slope(x: Tensor, y: Tensor) -> Tensor:
            value: Tensor = self.slope(x, y, *views)
            return value

        return slope


def trace_gradient(
    f: Callable[[Tensor, Tensor, Tensor], Tensor], theta: Tensor, x: Tensor, y: Tensor, *, stacked: bool = False
) -> GradientProgram:
    """The :class:`GradientProgram` of ``f``; of G copies, each with its own θ, x and y on a first axis, if stacked."""
    both = torch.func.grad_and_value(f)
    graph = trace_graph(torch.func.vmap(both) if stacked else both, theta, x, y)
    parameters, *_ = (node for node in graph.nodes if node.op == "placeholder")
    drop_copies(graph)
    graph.eliminate_dead_code()
    _write_gradient(graph, parameters)
    early = _views(graph)
    return GradientProgram(*cut(graph, {node for node in graph.nodes if node not in early}))


def _write_gradient(graph: fx.Graph, parameters: fx.Node) -> None:
    """The gradient is not returned but written to a new placeholder, part by part where it is pieced together."""
    output = next(node for node in graph.nodes if node.op == "output")
    slope: fx.Node
    slope, value = output.args[0]
    with graph.inserting_after(parameters):
        target = graph.placeholder("gradient")
    if slope.target is aten.cat.default and len(slope.args) == 1 and slope.meta["val"].dim() == 1:
        parts: list[fx.Node] = slope.args[0]  # type: ignore[assignment]  # what cat takes
        sizes = [part.meta["val"].numel() for part in parts]
        with graph.inserting_after(target):
            pieces = graph.call_function(aten.split_with_sizes.default, (target, sizes))
        for index, part in enumerate(parts):
            with graph.inserting_after(pieces):
                piece = graph.call_function(operator.getitem, (pieces, index))
            _write(graph, part, piece, output)
    else:
        with graph.inserting_before(output):
            graph.call_function(aten.copy_.default, (target, slope))
    output.args = (value,)
    graph.eliminate_dead_code()


def _write(graph: fx.Graph, part: fx.Node, piece: fx.Node, output: fx.Node) -> None:
    """Have ``part``'s value end up in ``piece``, computed there if its operation can."""
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
    """θ, the gradient, and the nodes that are views of them."""
    early = set([node for node in graph.nodes if node.op == "placeholder"][:2])
    for node in graph.nodes:
        is_view = node.target is operator.getitem or getattr(node.target, "is_view", False)
        if node.op == "call_function" and is_view and early.issuperset(node.all_input_nodes):
            early.add(node)
    return early
