"""A function and its first two derivatives along a direction, as one program with a part that can be cached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.fx.passes.dialect.common.cse_pass import CSEPass

from hesstore.autodiff.constant_columns import VaryingColumns, leave_out_constant_columns
from hesstore.autodiff.graph_split import split_graph
from hesstore.autodiff.simplify import dependents, drop_copies, simplify
from hesstore.autodiff.tangent import TangentProgram
from hesstore.autodiff.tracing import decompose_operations, trace_graph

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, fx


def trace_second_order(
    f: Callable[[Tensor, Tensor], Tensor],
    then: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor],
    theta: Tensor,
    x: Tensor,
    y: Tensor,
) -> TangentProgram:
    """Trace the program of v ↦ then(f, f′, f″, y).

    Here f = f(θ, x), and f′ and f″ are the derivatives of f(θ + t v, x) with respect to t at t = 0. The program serves
    all θ, x, y of the shapes that were traced. Its primal part computes f and everything else that does not depend
    on v.
    """

    def value(theta: Tensor, x: Tensor) -> Tensor:  # a bound method can't be traced
        return f(theta, x)

    plain = decompose_operations(value, theta, x)

    def derivatives(theta: Tensor, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        def first(point: Tensor) -> Any:
            return torch.func.jvp(lambda inner: plain(inner, x), (point,), (v,))

        nested: Any = torch.func.jvp(first, (theta,), (v,))
        (value, slope), (_, curvature) = nested
        return then(value, slope, curvature, y)

    graph = trace_graph(derivatives, theta, x, y, torch.zeros_like(theta))
    graph.eliminate_dead_code()
    graph = _merge_repetitions(graph)  # each of the two derivatives computes the first one
    _, rows, _, direction = _placeholders(graph)
    simplify(graph, direction)
    takes_varying_columns = leave_out_constant_columns(graph, rows)
    return TangentProgram(*split_graph(graph, dependents(graph, direction)), takes_varying_columns)


@dataclass(frozen=True)
class ValueProgram:
    """The program (θ, \\*inputs(x)) ↦ f(θ, x), for all θ and x of the shapes that were traced.

    Attributes
    ----------
    value : GraphModule
        The program.
    takes_varying_columns : bool
        Whether it takes x as :class:`~hesstore.autodiff.constant_columns.VaryingColumns`.
    """

    value: fx.GraphModule
    takes_varying_columns: bool

    def inputs(self, x: Tensor) -> tuple[Tensor, ...]:
        """The inputs of the program for the rows ``x``."""
        return VaryingColumns.of(x) if self.takes_varying_columns else (x,)


def trace_value(f: Callable[[Tensor, Tensor], Tensor], theta: Tensor, x: Tensor) -> ValueProgram:
    """Trace the :class:`ValueProgram` of ``f``."""

    def value(theta: Tensor, x: Tensor) -> Tensor:  # a bound method can't be traced
        return f(theta, x)

    graph = trace_graph(value, theta, x)
    drop_copies(graph)
    graph.eliminate_dead_code()
    takes_varying_columns = leave_out_constant_columns(graph, _placeholders(graph)[1])
    graph.lint()
    module = torch.fx.GraphModule(graph.owning_module or torch.nn.Module(), graph)
    return ValueProgram(module, takes_varying_columns)


def _placeholders(graph: fx.Graph) -> list[fx.Node]:
    return [node for node in graph.nodes if node.op == "placeholder"]


def _merge_repetitions(graph: fx.Graph) -> fx.Graph:
    """Return the graph in which each operation that occurs twice on the same arguments is done once."""
    module = torch.fx.GraphModule(graph.owning_module or torch.nn.Module(), graph)
    result = CSEPass()(module)
    return module.graph if result is None else result.graph_module.graph
