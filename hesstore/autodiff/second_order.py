"""A function and its first two derivatives along a direction, as one program with a cached part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.fx.passes.dialect.common.cse_pass import CSEPass

from hesstore.autodiff.constant_columns import VaryingColumns, factor
from hesstore.autodiff.graph_split import cut
from hesstore.autodiff.simplify import dependents, drop_copies, simplify
from hesstore.autodiff.tangent import TangentProgram
from hesstore.autodiff.tracing import spelt_out, trace_graph

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, fx


def trace_along(
    f: Callable[[Tensor, Tensor], Tensor],
    then: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor],
    theta: Tensor,
    x: Tensor,
    y: Tensor,
) -> TangentProgram:
    """The program of v ↦ then(f, f′, f″, y), f = f(θ, x), f′ and f″ the derivatives of f(θ + t v, x) by t at t = 0.

    For all θ, x, y of the shapes that were traced. f itself, and all that does not depend on v, is the program's
    primal part.
    """

    def value(theta: Tensor, x: Tensor) -> Tensor:  # tracing stumbles over bound methods
        return f(theta, x)

    plain = spelt_out(value, theta, x)

    def derivatives(theta: Tensor, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        def first(point: Tensor) -> Any:
            return torch.func.jvp(lambda inner: plain(inner, x), (point,), (v,))

        nested: Any = torch.func.jvp(first, (theta,), (v,))
        (value, slope), (_, curvature) = nested
        return then(value, slope, curvature, y)

    graph = trace_graph(derivatives, theta, x, y, torch.zeros_like(theta))
    graph.eliminate_dead_code()
    graph = _without_repetitions(graph)  # each of the two derivatives computes the first one
    _, rows, _, direction = _placeholders(graph)
    simplify(graph, direction)
    factored = factor(graph, rows)
    return TangentProgram(*cut(graph, dependents(graph, direction)), factored)


@dataclass(frozen=True)
class ValueProgram:
    """(θ, \\*inputs(x)) ↦ f(θ, x), for all θ and x of the shapes that were traced.

    Attributes
    ----------
    value : GraphModule
        The program.
    factored : bool
        Whether it takes x as :class:`~hesstore.autodiff.constant_columns.VaryingColumns`.
    """

    value: fx.GraphModule
    factored: bool

    def inputs(self, x: Tensor) -> tuple[Tensor, ...]:
        """``x`` as the program takes it."""
        return VaryingColumns.of(x) if self.factored else (x,)


def trace_value(f: Callable[[Tensor, Tensor], Tensor], theta: Tensor, x: Tensor) -> ValueProgram:
    """The :class:`ValueProgram` of ``f``."""

    def value(theta: Tensor, x: Tensor) -> Tensor:  # tracing stumbles over bound methods
        return f(theta, x)

    graph = trace_graph(value, theta, x)
    drop_copies(graph)
    graph.eliminate_dead_code()
    factored = factor(graph, _placeholders(graph)[1])
    graph.lint()
    return ValueProgram(torch.fx.GraphModule(graph.owning_module or torch.nn.Module(), graph), factored)


def _placeholders(graph: fx.Graph) -> list[fx.Node]:
    return [node for node in graph.nodes if node.op == "placeholder"]


def _without_repetitions(graph: fx.Graph) -> fx.Graph:
    """The graph with operations that occur twice on the same arguments done once."""
    module = torch.fx.GraphModule(graph.owning_module or torch.nn.Module(), graph)
    result = CSEPass()(module)
    return module.graph if result is None else result.graph_module.graph
