"""Splitting a directional derivative into what depends on the point and what depends on the direction.

For f and a point θ, the map v ↦ (∂f/∂θ)(θ)·v is linear. Tracing it once as a graph of tensor operations and cutting
the graph at its first operations that see v gives two programs: ``primal`` computes all that does not depend on v,
``tangent`` takes those values and v. At a fixed θ the first runs once and the second for each v; both serve every θ
and every batch of the same shape, so tracing is paid once, not once a point.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from hesstore.autodiff.constant_columns import VaryingColumns, factor
from hesstore.autodiff.graph_split import cut
from hesstore.autodiff.simplify import dependents, simplify
from hesstore.autodiff.tracing import trace_graph

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, fx


@dataclass(frozen=True)
class TangentProgram:
    """v ↦ (∂f/∂θ)(θ, x, y)·v for all θ, x, y of the shapes that were traced.

    Attributes
    ----------
    primal : GraphModule
        (θ, \\*inputs(x), y) → tuple of the tensors that ``tangent`` needs.
    tangent : GraphModule
        (v, \\*primal(…)) → the directional derivative.
    factored : bool
        Whether the programs take x as :class:`~hesstore.autodiff.constant_columns.VaryingColumns`.
    """

    primal: fx.GraphModule
    tangent: fx.GraphModule
    factored: bool

    def inputs(self, x: Tensor) -> tuple[Tensor, ...]:
        """``x`` as the programs take it."""
        return VaryingColumns.of(x) if self.factored else (x,)


def trace(
    f: Callable[[Tensor, Tensor, Tensor], Tensor], theta: Tensor, x: Tensor, y: Tensor, *, stacked: bool = False
) -> TangentProgram:
    """The :class:`TangentProgram` of ``f(θ, x, y)`` with respect to θ.

    If stacked, of G copies of ``f``, each with its own θ and v, on a first axis of ``theta``; x and y are theirs all.
    """

    def derivative(theta: Tensor, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        result: Tensor = torch.func.jvp(lambda point: f(point, x, y), (theta,), (v,))[1]
        return result

    # vmap outermost: in the order jvp(vmap(…)) PyTorch 2.14 differentiates layer norm wrongly.
    each = torch.func.vmap(derivative, in_dims=(0, None, None, 0)) if stacked else derivative
    graph = trace_graph(each, theta, x, y, torch.zeros_like(theta))
    _, rows, _, direction = (node for node in graph.nodes if node.op == "placeholder")
    graph.eliminate_dead_code()
    simplify(graph, direction)
    factored = factor(graph, rows)
    return TangentProgram(*cut(graph, dependents(graph, direction)), factored)
