"""Splitting a directional derivative into what depends on the point and what depends on the direction.

For f and a point θ, the map v ↦ (∂f/∂θ)(θ)·v is linear. Tracing it once as a graph of tensor operations and cutting
the graph at its first operations that see v gives two programs: ``primal`` computes all that does not depend on v,
``tangent`` takes those values and v. At a fixed θ the first runs once and the second for each v; both serve every θ
and every batch of the same shape, so tracing is paid once, not once a point.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import fx
from torch.fx.experimental.proxy_tensor import make_fx

from hesstore.curvature.simplify import dependents, simplify

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


@dataclass(frozen=True)
class TangentProgram:
    """v ↦ (∂f/∂θ)(θ, x, y)·v for all θ, x, y of the shapes that were traced.

    Attributes
    ----------
    primal : GraphModule
        (θ, x, y) → tuple of the tensors that ``tangent`` needs.
    tangent : GraphModule
        (v, \\*primal(θ, x, y)) → the directional derivative.
    """

    primal: fx.GraphModule
    tangent: fx.GraphModule


def trace(f: Callable[[Tensor, Tensor, Tensor], Tensor], theta: Tensor, x: Tensor, y: Tensor) -> TangentProgram:
    """The :class:`TangentProgram` of ``f(θ, x, y)`` with respect to θ."""

    def derivative(theta: Tensor, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        result: Tensor = torch.func.jvp(lambda point: f(point, x, y), (theta,), (v,))[1]
        return result

    with warnings.catch_warnings():  # PyTorch's own rules for forward mode are built with its deprecated torch.jit
        warnings.simplefilter("ignore", FutureWarning)
        graph = make_fx(derivative)(theta, x, y, torch.zeros_like(theta)).graph
    direction = [node for node in graph.nodes if node.op == "placeholder"][-1]
    graph.eliminate_dead_code()
    simplify(graph, direction)
    return _cut(graph, direction)


def _cut(graph: fx.Graph, direction: fx.Node) -> TangentProgram:
    depends = dependents(graph, direction)
    shared = [
        node
        for node in graph.nodes
        if node not in depends and node.op != "output" and not depends.isdisjoint(node.users)
    ]
    primal, tangent = fx.Graph(), fx.Graph()
    primal_copy: dict[fx.Node, fx.Node] = {}
    tangent_copy = {direction: tangent.placeholder("v")}
    tangent_copy |= {node: tangent.placeholder(node.name) for node in shared}
    for node in graph.nodes:
        if node.op == "output":
            tangent.output(fx.map_arg(node.args[0], tangent_copy.__getitem__))
        elif node in depends:
            if node is not direction:
                tangent_copy[node] = tangent.node_copy(node, tangent_copy.__getitem__)
        else:
            primal_copy[node] = primal.node_copy(node, primal_copy.__getitem__)
    primal.output(tuple(primal_copy[node] for node in shared))
    owner = graph.owning_module or torch.nn.Module()
    return TangentProgram(_module(owner, primal), _module(owner, tangent))


def _module(owner: torch.nn.Module, graph: fx.Graph) -> fx.GraphModule:
    graph.eliminate_dead_code()
    graph.lint()
    return fx.GraphModule(owner, graph)
