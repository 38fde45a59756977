"""Splitting a graph of tensor operations into a part that runs early and a part that needs the remaining inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import fx

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet


def split_graph(
    graph: fx.Graph, late: AbstractSet[fx.Node], *, writes_to_early: bool = False
) -> tuple[fx.GraphModule, fx.GraphModule]:
    """Split ``graph`` into the nodes ``late``, which must include every node that depends on one of them, and the rest.

    Late operations that write in place write to copies of early values, because these serve again, unless
    ``writes_to_early``.

    Returns
    -------
    early : GraphModule
        (the other placeholders) → tuple of the values that the late nodes use.
    late : GraphModule
        (the late placeholders, \\*early(…)) → the graph's output.
    """
    output = next(node for node in graph.nodes if node.op == "output")
    late = late | {output}  # which may depend on no late input
    shared = [node for node in graph.nodes if node not in late and not late.isdisjoint(node.users)]
    first, second = fx.Graph(), fx.Graph()
    first_copy: dict[fx.Node, fx.Node] = {}
    second_copy = {
        node: second.placeholder(node.name) for node in graph.nodes if node in late and node.op == "placeholder"
    }
    second_copy |= {node: second.placeholder(node.name) for node in shared}
    for node in [] if writes_to_early else _written(graph, late, shared):
        second_copy[node] = second.call_function(torch.ops.aten.clone.default, (second_copy[node],))
    for node in graph.nodes:
        if node.op == "output":
            second.output(fx.map_arg(node.args[0], second_copy.__getitem__))
        elif node not in late:
            first_copy[node] = first.node_copy(node, first_copy.__getitem__)
        elif node not in second_copy:
            second_copy[node] = second.node_copy(node, second_copy.__getitem__)
    first.output(tuple(first_copy[node] for node in shared))
    owner = graph.owning_module or torch.nn.Module()
    return _module(owner, first), _module(owner, second)


def _written(graph: fx.Graph, late: AbstractSet[fx.Node], shared: list[fx.Node]) -> list[fx.Node]:
    """Those of ``shared`` that an operation among ``late`` changes in place, itself or through views."""
    found: dict[fx.Node, None] = {}
    for node in graph.nodes:
        if node in late and _alias(node, for_writing=True):
            target = node.args[0]
            while target not in shared and _alias(target):
                target = target.args[0]
            if target in shared:
                found[target] = None
    return list(found)


def _alias(node: fx.Node, *, for_writing: bool = False) -> bool:
    """Whether the result of a node has the memory of its first argument, and was written there."""
    if not isinstance(node.target, torch._ops.OpOverload):  # noqa: SLF001
        return False
    first = node.target._schema.arguments[:1]  # noqa: SLF001
    info = first[0].alias_info if first else None
    return info is not None and (info.is_write or not for_writing)


def _module(owner: torch.nn.Module, graph: fx.Graph) -> fx.GraphModule:
    """``graph`` as a module, without dead code and checked."""
    graph.eliminate_dead_code()
    graph.lint()
    return fx.GraphModule(owner, graph)
