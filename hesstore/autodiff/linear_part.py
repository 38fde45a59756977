"""The part of a network that is linear in its parameters θ.

The first layer of most networks computes u = x Wᵀ + b, which is linear in θ for fixed rows x. If L denotes the linear
part, then L(θ + t v) = L(θ) + t L(v). A step along v thus needs no product with x once L(v) is known, whatever its
length and sign. Views of θ, such as the weights of later layers, are linear too.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

import torch

from hesstore.autodiff.simplify import changed_in_place, dependents
from hesstore.autodiff.sparse_rows import plus_rows_times, rows_times, times_rows

if TYPE_CHECKING:
    from torch import fx

aten = torch.ops.aten

_OF_FIRST_ARGUMENT = {
    operator.getitem,
    aten.alias.default,
    aten.clone.default,
    aten.expand.default,
    aten.permute.default,
    aten.reshape.default,
    aten.select.int,
    aten.slice.Tensor,
    aten.split.Tensor,
    aten.split_with_sizes.default,
    aten.squeeze.dim,
    aten.t.default,
    aten.transpose.int,
    aten.unsqueeze.default,
    aten.view.default,
    aten._unsafe_view.default,  # noqa: SLF001
}
_PRODUCTS = {aten.bmm.default, aten.mm.default, aten.mul.Tensor}
_WITH_ROWS = {rows_times, times_rows}
_SUMS_WITH_PRODUCT = {aten.addmm.default, aten.baddbmm.default}


def linear_nodes(graph: fx.Graph, theta: fx.Node) -> set[fx.Node]:
    """The nodes that are linear in the placeholder ``theta`` by a known rule.

    Only ``theta`` itself if the graph has in-place operations, because they could change a value that is used again.
    """
    linear = {theta}
    if not changed_in_place(graph):
        depends = dependents(graph, {theta})
        for node in graph.nodes:
            if node in depends and _is_linear(node, linear, depends):
                linear.add(node)
    return linear


def _is_linear(node: fx.Node, linear: set[fx.Node], depends: set[fx.Node]) -> bool:
    """Whether ``node`` is linear in θ; ``linear`` has the earlier linear nodes, ``depends`` those that depend on θ."""
    moving = [argument for argument in node.all_input_nodes if argument in depends]
    if not linear.issuperset(moving):
        return False
    target, args = node.target, node.args
    if target in _OF_FIRST_ARGUMENT:
        return moving == [args[0]]
    if target in _PRODUCTS:
        return _one_depends(args[:2], depends)
    if target in _SUMS_WITH_PRODUCT:
        return not node.kwargs and args[0] in depends and _one_depends(args[1:3], depends)
    if target is aten.add.Tensor:
        return not node.kwargs and depends.issuperset(args)
    if target is aten.convolution.default:
        return args[0] not in depends and args[1] in depends and (args[2] is None or args[2] in depends)
    if target in _WITH_ROWS:
        return moving == [args[0]]
    if target is plus_rows_times:
        return moving == [args[0], args[1]]
    return False


def _one_depends(factors: tuple[object, ...], depends: set[fx.Node]) -> bool:
    """Whether exactly one of two factors is in ``depends``."""
    return sum(factor in depends for factor in factors) == 1
