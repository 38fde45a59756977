"""Splitting a directional derivative into the part that depends on the point and the part that needs the direction.

For f and a point θ, the map v ↦ (∂f/∂θ)(θ)·v is linear. It is traced once as a graph of tensor operations, and this
graph is split where operations first use v. This gives two programs: ``primal`` computes everything that does not
depend on v, and ``tangent`` computes the derivative from these values and v. At a fixed θ, the first runs once and the
second once for each v. Both serve every θ and every batch of the same shape, so tracing is paid only once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from hesstore.autodiff.graph_split import split_graph
from hesstore.autodiff.memory_reuse import reuse_memory
from hesstore.autodiff.simplify import dependents, simplify
from hesstore.autodiff.sparse_rows import SparseRows, use_sparse_rows
from hesstore.autodiff.tracing import trace_graph

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, fx


@dataclass(frozen=True)
class TangentProgram:
    """A program that is linear in v, such as v ↦ (∂f/∂θ)(θ, x, y)·v, for all θ, x, y of the shapes that were traced.

    Attributes
    ----------
    primal : GraphModule
        (θ, \\*inputs(x), y) → tuple of the tensors that ``tangent`` needs.
    tangent : GraphModule
        (v, \\*primal(…)) → the result, such as the directional derivative.
    takes_sparse_rows : bool
        Whether the programs take x as :class:`~hesstore.autodiff.sparse_rows.SparseRows`.
    """

    primal: fx.GraphModule
    tangent: fx.GraphModule
    takes_sparse_rows: bool

    def inputs(self, x: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The inputs of the programs for the rows ``x``."""
        if isinstance(x, tuple):
            return x
        return SparseRows.of(x) if self.takes_sparse_rows else (x,)


def trace_tangent(
    f: Callable[[Tensor, Any, Tensor], Tensor],
    theta: Tensor,
    x: Tensor | tuple[Tensor, ...],
    y: Tensor,
    *,
    stacked: bool = False,
) -> TangentProgram:
    """Trace the :class:`TangentProgram` of the derivative of ``f(θ, x, y)`` with respect to θ, along v.

    If ``stacked``, of G copies of ``f``, each with its own θ and v along a first axis of ``theta``; all copies share x
    and y.
    """

    def derivative(theta: Tensor, x: Any, y: Tensor, v: Tensor) -> Tensor:
        result: Tensor = torch.func.jvp(lambda point: f(point, x, y), (theta,), (v,))[1]
        return result

    return trace_linear(derivative, theta, x, y, stacked=stacked)


def trace_linear(
    product: Callable[[Tensor, Any, Tensor, Tensor], Tensor],
    theta: Tensor,
    x: Tensor | tuple[Tensor, ...],
    y: Tensor,
    *,
    stacked: bool = False,
) -> TangentProgram:
    """Trace the :class:`TangentProgram` of ``product(θ, x, y, v)``, which is linear in v.

    ``x`` is one tensor, or a tuple of tensors. ``stacked`` is as in :func:`trace_tangent`.
    """
    several = isinstance(x, tuple)
    parts = x if isinstance(x, tuple) else (x,)

    def flat(theta: Tensor, *rest: Tensor) -> Tensor:
        *rows, targets, v = rest
        return product(theta, tuple(rows) if several else rows[0], targets, v)

    # vmap is outermost, because PyTorch 2.14 differentiates layer norm wrongly in the order jvp(vmap(…)).
    shared = (None,) * (len(parts) + 1)
    each = torch.func.vmap(flat, in_dims=(0, *shared, 0)) if stacked else flat
    graph = trace_graph(each, theta, *parts, y, torch.zeros_like(theta))
    _, rows, *_, direction = (node for node in graph.nodes if node.op == "placeholder")
    graph.eliminate_dead_code()
    simplify(graph, {direction})
    takes_sparse_rows = not several and use_sparse_rows(graph, rows)
    late = dependents(graph, {direction})
    reuse_memory(graph, late)
    return TangentProgram(*split_graph(graph, late), takes_sparse_rows)
