"""Matrix products with rows that have many constant columns, at the cost of the varying columns only.

Images have constant columns: in MNIST, 67 of the 784 pixels never vary, and in a few thousand images of one digit 200
or more pixels are blank. Write x = 1 cᵀ + z, where c holds the constants (zero where a column varies) and z is zero
except in the varying columns V:

    x B   = 1 (cᵀ B) + z_V B_V            A x   = (A 1) cᵀ, plus A z_V in the columns V

If the first operation of a network on x is linear, x occurs only in these two forms, in the forward pass and in the
backward pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import fx

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

aten = torch.ops.aten


class VaryingColumns(NamedTuple):
    """Rows x (n, f), split into varying and constant columns.

    Attributes
    ----------
    values : Tensor
        (n, v) The varying columns.
    columns : Tensor
        (v,) The indices of the varying columns.
    constants : Tensor
        (1, f) The values of the constant columns; zero at ``columns``.
    """

    values: Tensor
    columns: Tensor
    constants: Tensor

    @classmethod
    def of(cls, x: Tensor) -> VaryingColumns:
        """Split ``x`` (n, …), flattened to (n, f), into its varying and its constant columns."""
        flat = x.flatten(1)
        varies = (flat != flat[0]).any(0)
        columns = varies.nonzero().squeeze(1)
        return cls(flat[:, columns].contiguous(), columns, flat[:1].masked_fill(varies, 0))


def row_order(x: Tensor, y: Tensor) -> Tensor:
    """The order of the rows, as indices, in which neighbouring rows share many constant columns.

    The rows are sorted by label, if they have one, and within a label by the number of their entries that vary. An
    entry counts as varying if it differs from the most frequent value of its column, which is assumed to be the median.
    """
    flat = x.flatten(1)
    entries = (flat != flat.median(0).values).sum(1)
    by_entries = entries.argsort(stable=True)
    if y.dim() > 1 or y.is_floating_point():
        return by_entries
    return by_entries[y[by_entries].argsort(stable=True)]


def leave_out_constant_columns(graph: fx.Graph, x: fx.Node) -> bool:
    """Replace the placeholder ``x`` by those of :class:`VaryingColumns`, if every use of ``x`` allows that.

    Returns whether the placeholder was replaced; otherwise the graph is unchanged.
    """
    rows = _as_matrix(x)
    rules = {node: _cheaper_product(node, matrix) for matrix in rows for node in matrix.users if node not in rows}
    calls = {node: rule for node, rule in rules.items() if rule is not None and not set(rows) & set(rule[1])}
    if not rules or len(calls) < len(rules):
        return False
    with graph.inserting_before(x):
        parts = [graph.placeholder(f"{x.name}_{field}") for field in VaryingColumns._fields]
    for node, (function, others) in calls.items():
        with graph.inserting_before(node):
            call = graph.call_function(function, (*parts, *others))
        call.meta["val"] = node.meta["val"]
        node.replace_all_uses_with(call)
        graph.erase_node(node)
    for node in reversed(rows):
        graph.erase_node(node)
    return True


def _as_matrix(x: fx.Node) -> list[fx.Node]:
    """The node ``x`` and those of its views that are the matrix (n, f)."""
    shape = x.meta["val"].shape
    flat = torch.Size([shape[0], shape[1:].numel()])
    views = [node for node in x.users if node.target is aten.view.default and node.meta["val"].shape == flat]
    return [x, *views]


def _cheaper_product(node: fx.Node, x: fx.Node) -> tuple[Callable[..., Tensor], tuple[fx.Node, ...]] | None:
    """The function that computes ``node`` from the parts of the matrix ``x``, and its other arguments.

    None if ``node`` is no product with ``x`` that has such a function.
    """
    arguments: tuple[Any, ...] = node.args
    if node.target is aten.mm.default:
        a, b = arguments
        if a is x and b is not x:
            return rows_times, (b,)
        if b is x and a is not x:
            return times_rows, (a,)
    if node.target is aten.addmm.default and not node.kwargs:
        term, a, b = arguments
        if a is x and x not in (term, b):
            if term.target is aten.expand.default and term.args[0].meta["val"].dim() == 1:
                term = term.args[0]
            if term.meta["val"].dim() == 1:
                return plus_rows_times, (b, term)
    return None


def rows_times(values: Tensor, columns: Tensor, constants: Tensor, b: Tensor) -> Tensor:
    """The product x b (n, m) for ``b`` (f, m)."""
    return torch.addmm(constants @ b, values, _select(b, columns))


def plus_rows_times(values: Tensor, columns: Tensor, constants: Tensor, b: Tensor, term: Tensor) -> Tensor:
    """The sum 1 termᵀ + x b (n, m) for ``b`` (f, m) and ``term`` (m,)."""
    return torch.addmm(torch.addmm(term, constants, b), values, _select(b, columns))


def times_rows(values: Tensor, columns: Tensor, constants: Tensor, a: Tensor) -> Tensor:
    """The product a x (m, f) for ``a`` (m, n).

    It is computed as (zᵀ aᵀ)ᵀ: BLAS is up to 40 % faster if the longer side of the result comes first.
    """
    product = a.sum(1, keepdim=True) * constants
    return product.index_copy(1, columns, (values.t() @ a.t()).t())


def _select(b: Tensor, columns: Tensor) -> Tensor:
    """The rows ``columns`` of ``b``, selected from bᵀ because ``b`` is usually the transpose of a weight."""
    return b.t().index_select(1, columns).t()
