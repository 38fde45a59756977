"""Rewriting a traced tangent graph so that each product does less work, with the same result up to rounding.

Forward-over-reverse differentiation leaves avoidable work behind: tangents that are zero because an input is constant,
copies that change nothing, additions to a matrix product, and chains of factors that do not depend on v. Every rule
here is exact algebra on tensors of known shape. A graph that no rule fits stays as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import fx

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

aten = torch.ops.aten

_ZEROS = {aten.zeros.default, aten.zeros_like.default, aten.new_zeros.default}
_KEEP_ZERO = {aten.expand.default, aten.view.default, aten.t.default, aten.alias.default, aten._to_copy.default}  # noqa: SLF001
_PRODUCTS = {aten.mm.default, aten.bmm.default, aten.mul.Tensor}
_MAY_CHANGE_NOTHING = {
    aten.alias.default,
    aten.expand.default,
    aten.view.default,
    aten._unsafe_view.default,  # noqa: SLF001
    aten._to_copy.default,  # noqa: SLF001
}
_VIEWS = {aten.view.default, aten._unsafe_view.default}  # noqa: SLF001
_ACTIVATION_DERIVATIVES = {aten.sigmoid_backward.default, aten.tanh_backward.default}
_TRANSPOSITIONS = {aten.t.default, aten.transpose.int}


def simplify(graph: fx.Graph, direction: AbstractSet[fx.Node]) -> None:
    """Rewrite ``graph`` in place; ``direction`` has its placeholders for v.

    Nodes that an in-place operation changes are left alone, because a tensor and its copy differ after the operation.
    """
    drop_neutral(graph)
    gather_and_fuse(graph, direction)


def drop_neutral(graph: fx.Graph) -> None:
    """Drop copies that change nothing, and terms that are zero."""
    drop_copies(graph)
    _drop_zeros(graph, changed_in_place(graph))
    graph.eliminate_dead_code()


def gather_and_fuse(graph: fx.Graph, direction: AbstractSet[fx.Node]) -> None:
    """Gather factors that do not depend on v, and fuse products into sums."""
    _gather_factors(graph, dependents(graph, direction))
    _fuse_products_into_sums(graph, dependents(graph, direction))
    let_views_copy(graph)
    graph.eliminate_dead_code()


def dependents(graph: fx.Graph, sources: AbstractSet[fx.Node]) -> set[fx.Node]:
    """The nodes whose value depends on one of ``sources``, including ``sources`` themselves."""
    depends = set(sources)
    for node in graph.nodes:
        if not depends.isdisjoint(node.all_input_nodes):
            depends.add(node)
    return depends


def changed_in_place(graph: fx.Graph) -> set[fx.Node]:
    """The nodes whose value an in-place operation changes."""
    return {
        node.args[0]
        for node in graph.nodes
        if isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable  # noqa: SLF001
    }


def are_alike(a: object, b: object) -> bool:
    """Whether two arguments are nodes whose values agree in shape, dtype and device."""
    if not isinstance(a, fx.Node) or not isinstance(b, fx.Node):
        return False
    first, second = a.meta.get("val"), b.meta.get("val")
    if not isinstance(first, torch.Tensor) or not isinstance(second, torch.Tensor):
        return False
    return first.shape == second.shape and first.dtype == second.dtype and first.device == second.device


def _replace(graph: fx.Graph, node: fx.Node, by: fx.Node) -> None:
    """Replace ``node`` by another node everywhere, and erase it."""
    node.replace_all_uses_with(by)
    graph.erase_node(node)


def drop_copies(graph: fx.Graph) -> None:
    """Replace operations that change nothing by their input.

    These are an alias, an expansion or a view in the same shape, a cast to the same type, a product with 1, and two
    transpositions in sequence.
    """
    changed = changed_in_place(graph)
    for node in list(graph.nodes):
        if node in changed:
            continue
        is_product_with_one = node.target is aten.mul.Scalar and node.args[1] == 1
        if is_product_with_one or node.target in _MAY_CHANGE_NOTHING:
            source = node.args[0]
            if are_alike(node, source) and source not in changed:
                _replace(graph, node, source)
        elif node.target in _TRANSPOSITIONS:
            inner, *dims = node.args
            if inner.target is node.target and set(inner.args[1:]) == set(dims):
                _replace(graph, node, inner.args[0])


def _drop_zeros(graph: fx.Graph, changed: set[fx.Node]) -> None:
    """Replace sums with zero by their other term, where the zero is known from the operation that makes it."""
    zero: set[fx.Node] = set()
    for node in list(graph.nodes):
        if node in changed:
            continue
        is_made_zero = node.target in _ZEROS
        stays_zero = node.target in _KEEP_ZERO and node.args[0] in zero
        times_zero = node.target in _PRODUCTS and not zero.isdisjoint(node.args[:2])
        if is_made_zero or stays_zero or times_zero:
            zero.add(node)
        elif node.target is aten.add.Tensor and not node.kwargs:
            for term, other in (node.args, node.args[::-1]):
                if other in zero and isinstance(term, fx.Node):
                    _replace(graph, node, _expand_to(graph, term, node))
                    break


def _expand_to(graph: fx.Graph, term: fx.Node, like: fx.Node) -> fx.Node:
    """Return ``term``, broadcast by a new node if its shape differs from that of ``like``."""
    if are_alike(term, like):
        return term
    with graph.inserting_before(like):
        view = graph.call_function(aten.expand.default, (term, list(like.meta["val"].shape)))
    view.meta["val"] = like.meta["val"]
    return view


def spell_out_products(graph: fx.Graph, direction: AbstractSet[fx.Node]) -> None:
    """Rewrite g ∘ σ′(z), which some activations compute by one operation, as a product with a factor σ′(z).

    The factor is computed once if z does not depend on v, and the product is then faster than the operation.
    """
    depends = dependents(graph, direction)
    for node in list(graph.nodes):
        if node.target not in _ACTIVATION_DERIVATIVES or node.kwargs:
            continue
        moving, fixed = node.args
        if moving in depends and fixed not in depends and are_alike(moving, fixed):
            with graph.inserting_before(node):
                one = graph.call_function(aten.ones_like.default, (fixed,))
                factor = graph.call_function(node.target, (one, fixed))
                product = graph.call_function(aten.mul.Tensor, (moving, factor))
            for new in (one, factor, product):
                new.meta["val"] = node.meta["val"]
            _replace(graph, node, product)


def _gather_factors(graph: fx.Graph, depends: set[fx.Node]) -> None:
    """Rewrite (v · a) · b as v · (a · b), because the right factor does not depend on v and is computed once."""
    for node in list(graph.nodes):
        if node.target is not aten.mul.Tensor or node not in depends:
            continue
        inner, outer = node.args
        if not (isinstance(inner, fx.Node) and isinstance(outer, fx.Node)) or outer in depends:
            continue
        if inner.target is not aten.mul.Tensor or len(inner.users) > 1 or not are_alike(node, inner):
            continue
        moving, fixed = inner.args
        if moving not in depends:
            moving, fixed = fixed, moving
        if not isinstance(fixed, fx.Node) or fixed in depends or not are_alike(fixed, outer):
            continue
        with graph.inserting_before(node):
            factor = graph.call_function(aten.mul.Tensor, (fixed, outer))
            factor.meta["val"] = fixed.meta["val"]
        node.args = (moving, factor)


def _fuse_products_into_sums(graph: fx.Graph, depends: set[fx.Node]) -> None:
    """Rewrite x + a b as one matrix product that adds to x, and an elementwise x + a · b as one pass."""
    fused = {
        aten.mm.default: aten.addmm.default,
        aten.bmm.default: aten.baddbmm.default,
        aten.mul.Tensor: aten.addcmul.default,
    }
    for node in list(graph.nodes):
        if node.target is not aten.add.Tensor or node.kwargs or node not in depends:
            continue
        for product, other in (node.args, node.args[::-1]):
            if not isinstance(product, fx.Node) or not isinstance(other, fx.Node):
                continue
            if product.target not in fused or product not in depends or len(product.users) > 1:
                continue
            has_tensors = all(isinstance(factor, fx.Node) for factor in product.args)  # a factor may be a number
            if has_tensors and are_alike(node, product):
                with graph.inserting_before(node):
                    call = graph.call_function(fused[product.target], (other, *product.args))
                    call.meta["val"] = node.meta["val"]
                _replace(graph, node, call)
                break


def let_views_copy(graph: fx.Graph) -> None:
    """Replace views by reshapes, which copy if they must.

    A term that has replaced its sum may have another order in memory, and then not every shape is a view of it.
    """
    for node in graph.nodes:
        if node.target in _VIEWS and node.args[0].op != "placeholder":
            node.target = aten.reshape.default
