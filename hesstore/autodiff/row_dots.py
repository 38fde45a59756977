"""Row-wise dot products with tensors that do not depend on v, moved towards the start of a traced tangent graph.

Forward mode carries second derivatives through every layer although in the end only their dot product with a gradient
c is needed, row by row: s = Σⱼ cⱼ aⱼ. If c does not depend on v, this dot product can be taken before a layer:

    Σⱼ cⱼ (a B)ⱼ = Σᵢ (c Bᵀ)ᵢ aᵢ        Σⱼ cⱼ (a ∘ b)ⱼ = Σⱼ (c ∘ b)ⱼ aⱼ        Σⱼ cⱼ (a + b)ⱼ = Σⱼ cⱼ aⱼ + Σⱼ cⱼ bⱼ

for B and b that do not depend on v either. The factors c Bᵀ and c ∘ b are computed once for all v; they are the
gradients of reverse mode. So the second derivative of an activation, whose own second-order term is all that is left,
is not carried through later layers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from hesstore.autodiff.simplify import are_alike, changed_in_place, dependents

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Set as AbstractSet

    from torch import fx

aten = torch.ops.aten


def move_row_dots(graph: fx.Graph, direction: AbstractSet[fx.Node]) -> None:
    """Rewrite ``graph`` in place, where its row-wise dot products allow that; ``direction`` has its placeholders for v.

    A graph with in-place operations stays as it is.
    """
    if changed_in_place(graph):
        return
    depends = dependents(graph, direction)
    for node in list(graph.nodes):
        factors = _row_dot(node, depends)
        if factors is None:
            continue
        with graph.inserting_before(node):
            terms = list(_terms(graph, *factors, depends))
            if len(terms) == 1 and terms[0] == factors:
                continue
            total = None
            for fixed, moving in terms:
                product = _call(graph, aten.mul.Tensor, (fixed, moving), like=moving)
                term = _call(graph, aten.sum.dim_IntList, (product, [1]), like=node)
                total = term if total is None else _call(graph, aten.add.Tensor, (total, term), like=node)
        assert total is not None  # noqa: S101 - a dot product has a term
        node.replace_all_uses_with(total)
        graph.erase_node(node)
    graph.eliminate_dead_code()


def _row_dot(node: fx.Node, depends: AbstractSet[fx.Node]) -> tuple[fx.Node, fx.Node] | None:
    """The factors (c, a) if ``node`` is Σⱼ cⱼ aⱼ, where only a depends on v; otherwise None."""
    if node.target is not aten.sum.dim_IntList or node.args[1:] != ([1],) or node.kwargs:
        return None
    product: Any = node.args[0]
    if product.target is not aten.mul.Tensor or product.meta["val"].dim() != 2:
        return None
    for fixed, moving in (product.args, product.args[::-1]):
        if _is_fixed(fixed, depends) and moving in depends and are_alike(fixed, moving):
            return fixed, moving
    return None


def _terms(
    graph: fx.Graph, fixed: fx.Node, moving: fx.Node, depends: AbstractSet[fx.Node]
) -> Iterator[tuple[fx.Node, fx.Node]]:
    """The factors (c, a) of dot products that add up to that of ``fixed`` and ``moving``."""
    target = moving.target
    operands: tuple[Any, ...] = (*moving.args, None, None)
    first, second = operands[:2]
    if len(moving.users) > 1 or moving.kwargs:
        yield fixed, moving
    elif target is aten.add.Tensor and are_alike(first, second):
        for term in (first, second):
            yield from _terms(graph, fixed, term, depends)
    elif target is aten.mul.Tensor and _is_fixed(second, depends) and are_alike(first, second):
        yield from _terms(graph, _call(graph, target, (fixed, second), like=first), first, depends)
    elif target is aten.mul.Tensor and _is_fixed(first, depends) and are_alike(first, second):
        yield from _terms(graph, _call(graph, target, (fixed, first), like=second), second, depends)
    elif target is aten.mm.default and _is_fixed(second, depends):
        transposed = graph.call_function(aten.t.default, (second,))
        transposed.meta["val"] = second.meta["val"].t()
        yield from _terms(graph, _call(graph, target, (fixed, transposed), like=first), first, depends)
    else:
        yield fixed, moving


def _is_fixed(node: object, depends: AbstractSet[fx.Node]) -> bool:
    """Whether ``node`` is a tensor of the graph that does not depend on v."""
    return isinstance(node, torch.fx.Node) and node not in depends


def _call(graph: fx.Graph, target: Any, args: tuple[Any, ...], like: fx.Node) -> fx.Node:
    """A new node, for a value of the same shape as that of ``like``."""
    node = graph.call_function(target, args)
    node.meta["val"] = like.meta["val"]
    return node
