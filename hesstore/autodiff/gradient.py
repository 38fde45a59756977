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
from hesstore.autodiff.simplify import changed_in_place, drop_copies
from hesstore.autodiff.tracing import trace_graph

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

aten = torch.ops.aten

SMALL_WEIGHT = 1 << 15
"""Largest number of entries of a weight whose copy takes less time than it saves on a GPU."""

_WRITES_OUT = {
    aten.mm.default: aten.mm.out,
    aten.bmm.default: aten.bmm.out,
    aten.sum.dim_IntList: aten.sum.IntList_out,
}


@dataclass(frozen=True)
class GradientProgram:
    """f(θ, x, y) and its gradient, for all θ, x, y of the shapes that were traced.

    Attributes
    ----------
    early : GraphModule
        (θ, g) → the views of θ and of the gradient vector g, and the constants, that ``evaluate`` needs.
    evaluate : GraphModule
        (x, y, \\*early(…)) → f; writes ∂f/∂θ to g.
    """

    early: fx.GraphModule
    evaluate: fx.GraphModule

    def bind(self, theta: Tensor, gradient: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the function (x, y) ↦ f at the current entries of ``theta``.

        Each call overwrites ``gradient`` with the gradient.
        """
        early = self.early(theta, gradient)

        def value_and_gradient(x: Tensor, y: Tensor) -> Tensor:
            value: Tensor = self.evaluate(x, y, *early)
            return value

        return value_and_gradient


def trace_gradient(
    f: Callable[[Tensor, Tensor, Tensor], Tensor], theta: Tensor, x: Tensor, y: Tensor
) -> GradientProgram:
    """Trace the :class:`GradientProgram` of ``f``.

    For several models side by side, ``f`` returns a vector whose entries depend on one row of ``theta`` (G, P) each.
    """

    def total(theta: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        value = f(theta, x, y)
        return value.sum() if value.dim() else value, value

    graph = trace_graph(torch.func.grad(total, has_aux=True), theta, x, y)
    parameters, *_ = (node for node in graph.nodes if node.op == "placeholder")
    drop_copies(graph)
    graph.eliminate_dead_code()
    if theta.is_cuda:
        _transpose_small_weights(graph)
    _write_gradient(graph, parameters)
    early = _views(graph) | _constants(graph)
    late = {node for node in graph.nodes if node not in early}
    return GradientProgram(*split_graph(graph, late, writes_to_early=True))


def _transpose_small_weights(graph: fx.Graph) -> None:
    """Have layers multiply with a contiguous copy of the transposed weight, if it is small.

    For 64 rows and a transposed view of 128 × 128 weights, cuBLAS takes 14 µs; for the copy it takes 5, and the copy 2
    (measured on an H200, with cuBLAS 13.1).
    """
    for node in graph.nodes:
        if node.target is aten.addmm.default and node.args[2].target is aten.t.default:
            weight: fx.Node = node.args[2]
            if weight.meta["val"].numel() <= SMALL_WEIGHT:
                with graph.inserting_before(node):
                    copy = graph.call_function(
                        aten.clone.default, (weight,), {"memory_format": torch.contiguous_format}
                    )
                node.replace_input_with(weight, copy)


def _write_gradient(graph: fx.Graph, parameters: fx.Node) -> None:
    """Have the graph write the gradient to a new placeholder instead of returning it.

    A gradient that the graph concatenates from parts is written part by part.
    """
    output = next(node for node in graph.nodes if node.op == "output")
    gradient: fx.Node
    gradient, value = output.args[0]
    with graph.inserting_after(parameters):
        target = graph.placeholder("gradient")
    last = gradient.meta["val"].dim() - 1
    if gradient.target is aten.cat.default and (gradient.args[1:] or (0,)) == (last,):
        parts: list[fx.Node] = gradient.args[0]  # type: ignore[assignment]  # the tensors that cat joins
        sizes = [part.meta["val"].shape[-1] for part in parts]
        with graph.inserting_after(target):
            pieces = graph.call_function(aten.split_with_sizes.default, (target, sizes, last))
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
    """Have the value of ``part`` written to ``piece``: by its own operation if that can, otherwise by a copy.

    Between the operation and ``part``, there may be views and contiguous copies of views.
    """
    source: Any = part
    links: list[fx.Node] = []
    while source.target in _UNDOES and len(source.users) == 1:
        links.append(source)
        source = source.args[0]
    if source.target in _WRITES_OUT and len(source.users) == 1:
        for link in links:
            with graph.inserting_after(piece):
                piece = _UNDOES[link.target](graph, piece, link)
        source.kwargs = {**source.kwargs, "out": piece}
        source.target = _WRITES_OUT[source.target]
    else:
        with graph.inserting_before(output):
            graph.call_function(aten.copy_.default, (piece, part))


def _undo_view(graph: fx.Graph, piece: fx.Node, link: fx.Node) -> fx.Node:
    """The view of ``piece`` with the shape that the argument of ``link`` has."""
    (viewed,) = link.all_input_nodes
    return graph.call_function(aten.view.default, (piece, list(viewed.meta["val"].shape)))


def _undo_transpose(graph: fx.Graph, piece: fx.Node, link: fx.Node) -> fx.Node:
    return graph.call_function(aten.transpose.int, (piece, *link.args[1:]))


_UNDOES: dict[Any, Callable[[fx.Graph, fx.Node, fx.Node], fx.Node]] = {
    aten.view.default: _undo_view,
    aten._unsafe_view.default: _undo_view,  # noqa: SLF001 - the name of the operator
    aten.clone.default: lambda _graph, piece, _link: piece,
    aten.transpose.int: _undo_transpose,
}
"""For views and copies: what makes a view of a piece of the gradient to which their argument can be written."""


def _constants(graph: fx.Graph) -> set[fx.Node]:
    """The derivative of f by itself, which is 1, and what depends on nothing else, such as 1/n for a mean over n.

    Tracing notes ones that are like the value of f. They are replaced by ones of its shape, which need no value.
    """
    constants: set[fx.Node] = set()
    changed = changed_in_place(graph)
    for node in graph.nodes:
        if node.target is aten.ones_like.default:
            value = node.meta["val"]
            options = {"dtype": value.dtype, "device": value.device}
            with graph.inserting_before(node):
                ones = graph.call_function(aten.ones.default, (list(value.shape),), options)
            node.replace_all_uses_with(ones)
            constants.add(ones)
        elif node.all_input_nodes and constants.issuperset(node.all_input_nodes):
            constants.add(node)
    graph.eliminate_dead_code()
    return set() if changed & constants else constants & set(graph.nodes)


def _views(graph: fx.Graph) -> set[fx.Node]:
    """The placeholders of θ and of the gradient, and the nodes that are views of them."""
    early = set([node for node in graph.nodes if node.op == "placeholder"][:2])
    for node in graph.nodes:
        is_view = node.target is operator.getitem or getattr(node.target, "is_view", False)
        if node.op == "call_function" and is_view and early.issuperset(node.all_input_nodes):
            early.add(node)
    return early
