"""Operations of a traced graph that write their result over an operand that nothing else uses.

Elementwise operations on large tensors are as slow as memory, and a new tensor for each result adds to that. A sum with
a matrix product that makes a new tensor first copies the term. The results are the same bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from hesstore.autodiff.simplify import are_alike

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from torch import fx

aten = torch.ops.aten

_IN_PLACE = {
    aten.add.Tensor: aten.add_.Tensor,
    aten.addcmul.default: aten.addcmul_.default,
    aten.addmm.default: aten.addmm_.default,
    aten.baddbmm.default: aten.baddbmm_.default,
    aten.mul.Tensor: aten.mul_.Tensor,
    aten.sigmoid.default: aten.sigmoid_.default,
    aten.sub.Tensor: aten.sub_.Tensor,
    aten.tanh.default: aten.tanh_.default,
}
_MAKE_NEW_TENSORS = {*_IN_PLACE, aten.bmm.default, aten.mm.default}
_COMMUTE = {aten.add.Tensor, aten.mul.Tensor}


def reuse_memory(graph: fx.Graph, nodes: AbstractSet[fx.Node]) -> None:
    """Let operations among ``nodes`` write over an operand among ``nodes`` that is new and has no other use.

    An operation that changes a tensor in place, or a view of it, is a use.
    """
    new = {node for node in nodes if node.target in _MAKE_NEW_TENSORS}
    for node in graph.nodes:
        if node not in new or node.target not in _IN_PLACE:
            continue
        if node.target in _COMMUTE and not node.kwargs and _is_free(node.args[1], node, new):
            node.args = node.args[::-1]
        if _is_free(node.args[0], node, new):
            node.target = _IN_PLACE[node.target]


def _is_free(operand: object, node: fx.Node, new: AbstractSet[fx.Node]) -> bool:
    """Whether the result of ``node`` can be written over ``operand``."""
    if not isinstance(operand, torch.fx.Node) or operand not in new or not are_alike(operand, node):
        return False
    return len(operand.users) == 1 and node.args.count(operand) == 1
