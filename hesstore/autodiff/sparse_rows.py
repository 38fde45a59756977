"""Matrix products with rows in which most columns have one value, at the cost of the other entries only.

Images have a background. In MNIST, 67 of the 784 pixels are always blank, and 81 % of all entries are zero. Write

    x = 1 cᵀ + z + s

where c holds the background of each column, z the columns with many other values, and s the other values of the
remaining columns. z is a matrix of few columns, and s is stored entry by entry. Then

    x B = 1 (cᵀ B) + z B + s B            A x = (A 1) cᵀ + A z + A s

If the first operation of a network on x is linear, x occurs only in these two forms, in the forward pass and in the
backward pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import fx
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

aten = torch.ops.aten

_MOST_ENTRIES = {torch.float32: 0.4, torch.float64: 0.1}
"""The share of entries that differ from the background, up to which a column is stored entry by entry on a CPU.

Measured for 2,000 rows, 128 outputs and one or two threads, and chosen a little below the share at which both ways take
the same time. In other precisions, and on a GPU, only constant columns are left out.
"""

_LARGEST_BACKGROUND = 4
"""The magnitude of a background up to which a column is stored entry by entry, relative to the largest element of each
row with an entry in that column. An entry is recovered as the background plus a difference, and this sum loses digits
if the background is much larger than the rest of the row."""


class SparseRows(NamedTuple):
    """Rows x (n, f) as the sum of a background, dense columns, and entries of sparse columns.

    Attributes
    ----------
    background : Tensor
        (1, f) The value of each column that seems to be the most frequent one; zero for dense columns.
    dense : Tensor
        (n, d) The dense columns.
    dense_columns : Tensor
        (d,) Their indices.
    sparse_columns : Tensor
        (s,) The indices of the columns that have entries.
    row_starts, row_places, row_values : Tensor
        (n + 1,), (e,), (e,) The entries by row: where those of each row start, their places among ``sparse_columns``,
        and by how much they differ from the background.
    column_starts, column_rows, column_values : Tensor
        (s + 1,), (e,), (e,) The same entries by column, with their rows.
    """

    background: Tensor
    dense: Tensor
    dense_columns: Tensor
    sparse_columns: Tensor
    row_starts: Tensor
    row_places: Tensor
    row_values: Tensor
    column_starts: Tensor
    column_rows: Tensor
    column_values: Tensor

    @property
    def has_entries(self) -> bool:
        """Whether any column is stored entry by entry."""
        return len(self.sparse_columns) > 0

    @classmethod
    def of(cls, x: Tensor) -> SparseRows:
        """Split ``x`` (n, …), flattened to (n, f)."""
        flat = x.flatten(1)
        background = _background(flat)
        differs = flat != background
        share = differs.sum(0) / len(flat)
        is_dense = share > (_MOST_ENTRIES.get(x.dtype, 0.0) if x.device.type == "cpu" else 0.0)
        row_scales = flat.abs().amax(1, keepdim=True)
        is_dense |= (differs & (background.abs() > _LARGEST_BACKGROUND * row_scales)).any(0)
        dense_columns = is_dense.nonzero()[:, 0]
        sparse_columns = (~is_dense & (share > 0)).nonzero()[:, 0]
        of_sparse = (flat - background)[:, sparse_columns]
        return cls(
            background.masked_fill(is_dense, 0)[None],
            flat[:, dense_columns].contiguous(),
            dense_columns,
            sparse_columns,
            *_entries(of_sparse),
            *_entries(of_sparse.t()),
        )


def _background(flat: Tensor) -> Tensor:
    """The median of each column over some hundred rows. Any values would do; the most frequent ones save most."""
    return flat[:: max(1, len(flat) // 256)].median(0).values


def _entries(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The entries of a matrix that are not zero, by row: where each row starts, their columns, and their values."""
    is_entry = matrix != 0
    starts = functional.pad(is_entry.sum(1).cumsum(0), (1, 0))
    return starts, is_entry.nonzero()[:, 1], matrix[is_entry]


def row_order(x: Tensor, y: Tensor) -> Tensor:
    """The order of the rows, as indices, in which neighbouring rows have many entries in the same columns.

    The rows are sorted by label, if they have one, and within a label by the number of their entries that differ from
    the background.
    """
    flat = x.flatten(1)
    entries = (flat != _background(flat)).sum(1)
    by_entries = entries.argsort(stable=True)
    if y.dim() > 1 or y.is_floating_point():
        return by_entries
    return by_entries[y[by_entries].argsort(stable=True)]


def use_sparse_rows(graph: fx.Graph, x: fx.Node) -> bool:
    """Replace the placeholder ``x`` by those of :class:`SparseRows`, if every use of ``x`` allows that.

    Returns whether the placeholder was replaced; otherwise the graph is unchanged.
    """
    rows = _as_matrix(x)
    rules = {node: _cheaper_product(node, matrix) for matrix in rows for node in matrix.users if node not in rows}
    calls = {node: rule for node, rule in rules.items() if rule is not None and not set(rows) & set(rule[1])}
    if not rules or len(calls) < len(rules):
        return False
    with graph.inserting_before(x):
        parts = [graph.placeholder(f"{x.name}_{field}") for field in SparseRows._fields]
    for node, (function, others) in calls.items():
        with graph.inserting_before(node):
            call = graph.call_function(function, (*others, *parts))
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
                return plus_rows_times, (term, b)
    return None


def rows_times(b: Tensor, *rows: Tensor) -> Tensor:
    """The product x b (n, m) for ``b`` (f, m); ``rows`` are the fields of :class:`SparseRows`."""
    x = SparseRows(*rows)
    return _plus_product(x.background @ b, b, x)


def plus_rows_times(term: Tensor, b: Tensor, *rows: Tensor) -> Tensor:
    """The sum 1 termᵀ + x b (n, m) for ``term`` (m,) and ``b`` (f, m)."""
    x = SparseRows(*rows)
    return _plus_product(torch.addmm(term, x.background, b), b, x)


def _plus_product(term: Tensor, b: Tensor, x: SparseRows) -> Tensor:
    """The sum of ``term`` (1, m), for each row, and (z + s) b."""
    dense = _select(b, x.dense_columns)
    if not x.has_entries:
        return torch.addmm(term, x.dense, dense)
    total = _entries_times(_select(b, x.sparse_columns), x.row_starts, x.row_places, x.row_values)
    return total.add_(term).addmm_(x.dense, dense)


def times_rows(a: Tensor, *rows: Tensor) -> Tensor:
    """The product a x (m, f) for ``a`` (m, n).

    The dense part is computed as (zᵀ aᵀ)ᵀ: BLAS is up to 40 % faster if the longer side of the result comes first.
    """
    x = SparseRows(*rows)
    product = a.sum(1, keepdim=True) * x.background
    product = product.index_copy(1, x.dense_columns, (x.dense.t() @ a.t()).t())
    if x.has_entries:
        of_entries = _entries_times(a.t(), x.column_starts, x.column_rows, x.column_values)
        product.index_add_(1, x.sparse_columns, of_entries.t())
    return product


def _entries_times(b: Tensor, starts: Tensor, places: Tensor, values: Tensor) -> Tensor:
    """The product of a sparse matrix, given by its entries by row, with ``b``.

    PyTorch has this for embeddings, several times as fast as its product with a sparse matrix.
    """
    return functional.embedding_bag(
        places, b.contiguous(), starts, mode="sum", per_sample_weights=values, include_last_offset=True
    )


def _select(b: Tensor, columns: Tensor) -> Tensor:
    """The rows ``columns`` of ``b``, selected from bᵀ because ``b`` is usually the transpose of a weight."""
    return b.t().index_select(1, columns).t()
