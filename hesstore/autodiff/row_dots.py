"""Row-wise dot products with tensors that do not depend on v, moved towards the start of a traced tangent graph.

Forward mode carries second derivatives through every layer although in the end only their dot product with a gradient
c is needed, row by row: s = Σⱼ cⱼ aⱼ. If c does not depend on v, this dot product can be taken before a layer:

    Σⱼ cⱼ (a B)ⱼ = Σᵢ (c Bᵀ)ᵢ aᵢ        Σⱼ cⱼ (a ∘ b)ⱼ = Σⱼ (c ∘ b)ⱼ aⱼ        Σⱼ cⱼ (a + b)ⱼ = Σⱼ cⱼ aⱼ + Σⱼ cⱼ bⱼ

for B and b that do not depend on v either. The factors c Bᵀ and c ∘ b are computed once for all v; they are the
gradients of reverse mode. So the second derivative of an activation, whose own second-order term is all that is left,
is not carried through later layers.

Two such dot products are then merged if their second factors share a factor a that depends on v:

    Σⱼ cⱼ (a B)ⱼ + Σᵢ dᵢ (a ∘ b)ᵢ = Σᵢ (c Bᵀ + d ∘ b)ᵢ aᵢ
"""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any, NamedTuple

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


class _Dot(NamedTuple):
    """Row-wise dot products of ``shared`` with c otherᵀ (``target`` is mm) or c ∘ other (mul), for a fixed c."""

    leaf: fx.Node
    shared: fx.Node
    target: Any
    fixed: fx.Node
    other: fx.Node


def merge_row_dots(graph: fx.Graph, direction: AbstractSet[fx.Node]) -> None:
    """Rewrite sums of row-wise dot products in place, where two of them share a factor that depends on v.

    A graph with in-place operations stays as it is.
    """
    if changed_in_place(graph):
        return
    depends = dependents(graph, direction)
    for root in list(graph.nodes):
        if not _is_sum(root) or any(_is_sum(user) for user in root.users):
            continue
        leaves = list(_leaves(root))
        dots = [dot for leaf in dict.fromkeys(leaves) for dot in _shared_factors(leaf, depends)]
        for shared in dict.fromkeys(dot.shared for dot in dots):  # the order decides the rounding: no set has one
            merged = {dot.leaf: dot for dot in dots if dot.shared is shared and dot.leaf in leaves}
            if len({dot.target for dot in merged.values()}) < 2:
                continue  # it is a factor of one kind only, or an earlier one has taken the others
            with graph.inserting_before(root):
                total = _merge(graph, sorted(merged.values(), key=lambda dot: dot.target is aten.mm.default), leaves)
            leaves = [*(leaf for leaf in leaves if leaf not in merged), total]
        if not set(leaves) <= set(_leaves(root)):
            with graph.inserting_before(root):
                root.replace_all_uses_with(
                    reduce(lambda sum_, leaf: _call(graph, aten.add.Tensor, (sum_, leaf), like=root), leaves)
                )
            graph.erase_node(root)
    graph.eliminate_dead_code()


def _is_sum(node: fx.Node) -> bool:
    return node.target is aten.add.Tensor and not node.kwargs and node.meta["val"].dim() == 1


def _leaves(node: fx.Node) -> Iterator[fx.Node]:
    """The terms of a sum of vectors, each as often as it is added."""
    first, second = node.args[:2] if _is_sum(node) else (None, None)
    if are_alike(first, second) and are_alike(first, node):
        for term in (first, second):
            yield from _leaves(term)  # type: ignore[arg-type]  # alike means nodes
    else:
        yield node


def _shared_factors(leaf: fx.Node, depends: AbstractSet[fx.Node]) -> Iterator[_Dot]:
    """The ways to write ``leaf`` as a :class:`_Dot`."""
    factors = _row_dot(leaf, depends)
    if factors is None:
        return
    fixed, moving = factors
    if moving.kwargs or len(moving.users) > 1 or not all(node in depends for node in moving.all_input_nodes):
        return
    first, second = (*moving.args, None, None)[:2]
    if moving.target is aten.mm.default:
        yield _Dot(leaf, first, moving.target, fixed, second)  # type: ignore[arg-type]  # matrices are nodes
    elif moving.target is aten.mul.Tensor and are_alike(first, second):
        for shared, other in ((first, second), (second, first)):
            yield _Dot(leaf, shared, moving.target, fixed, other)  # type: ignore[arg-type]  # alike means nodes


def _merge(graph: fx.Graph, dots: list[_Dot], leaves: list[fx.Node]) -> fx.Node:
    """The sum of ``dots`` with one shared factor, each as often as it is among ``leaves``, as one dot product."""
    shared, total = dots[0].shared, None
    for leaf, _, target, fixed, other in dots:
        count = leaves.count(leaf)
        factor = fixed if count == 1 else _call(graph, aten.mul.Scalar, (fixed, count), like=fixed)
        if target is aten.mm.default:
            transposed = graph.call_function(aten.t.default, (other,))
            transposed.meta["val"] = other.meta["val"].t()
            other = transposed  # noqa: PLW2901 - the second factor of the product
        term = _call(graph, target, (factor, other), like=shared)
        total = term if total is None else _call(graph, aten.add.Tensor, (total, term), like=shared)
    assert total is not None  # noqa: S101 - there are at least two dot products
    product = _call(graph, aten.mul.Tensor, (total, shared), like=shared)
    return _call(graph, aten.sum.dim_IntList, (product, [1]), like=dots[0].leaf)


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
