"""Splitting a graph of tensor operations into a part that runs early and a part that needs the remaining inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import fx

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet


def split_graph(graph: fx.Graph, late: AbstractSet[fx.Node]) -> tuple[fx.GraphModule, fx.GraphModule]:
    """Split ``graph`` into the nodes ``late``, which must include every node that depends on one of them, and the rest.

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


def _module(owner: torch.nn.Module, graph: fx.Graph) -> fx.GraphModule:
    """``graph`` as a module, without dead code and checked."""
    graph.eliminate_dead_code()
    graph.lint()
    return fx.GraphModule(owner, graph)
