"""Tests of products with rows that have a background, and of the order of rows that suits them."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from hesstore.autodiff import sparse_rows, trace_tangent
from hesstore.autodiff.sparse_rows import SparseRows
from hesstore.problem.models import FlatModel
from tests.support import toy


def assert_close(found: Tensor, expected: Tensor) -> None:
    """The background and the differences from it round, relative to the largest numbers."""
    scale = float(expected.abs().max()) if expected.numel() else 0.0
    assert torch.allclose(found, expected, rtol=0, atol=100 * torch.finfo(found.dtype).eps * max(scale, 1))


def whole(parts: SparseRows) -> Tensor:
    """The rows that ``parts`` were made from, from the entries by row, which must be those by column."""
    x = parts.background.expand(len(parts.dense), -1).clone()
    x[:, parts.dense_columns] = parts.dense
    for row, (first, last) in enumerate(pairwise(parts.row_starts.tolist())):
        for place, value in zip(parts.row_places[first:last], parts.row_values[first:last], strict=True):
            x[row, parts.sparse_columns[place]] += value
    entries = torch.zeros(len(parts.sparse_columns), len(x), dtype=x.dtype)
    for place, (first, last) in enumerate(pairwise(parts.column_starts.tolist())):
        entries[place, parts.column_rows[first:last]] = parts.column_values[first:last]
    assert_close(entries.t(), (x - parts.background)[:, parts.sparse_columns])
    return x


@st.composite
def matrices(draw: st.DrawFn) -> Tensor:
    """Matrices (n, f) with columns that are constant, have a few other values, or vary."""
    n, f = draw(st.integers(1, 15)), draw(st.integers(1, 7))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    x = torch.randn(n, f, generator=generator, dtype=draw(st.sampled_from([torch.float32, torch.float64])))
    for column in range(f):
        rows = torch.randperm(n, generator=generator)[: draw(st.sampled_from([0, 1, 2, n]))]
        values = x[rows, column]
        x[:, column] = x[0, column]
        x[rows, column] = values
    return x


@given(matrices())
def test_nothing_is_lost_and_each_column_is_stored_in_one_way(x: Tensor) -> None:
    parts = SparseRows.of(x)
    assert_close(whole(parts), x)
    share = (x != x.median(0).values).double().mean(0)
    most = 0.4 if x.dtype == torch.float32 else 0.1
    dense, sparse = parts.dense_columns.tolist(), parts.sparse_columns.tolist()
    assert sorted(dense + sparse) == share.nonzero()[:, 0].tolist()
    assert set(dense) >= set((share > most).nonzero()[:, 0].tolist())
    entries = int((share[sparse] * len(x)).sum().round())
    assert len(parts.row_values) == len(parts.column_values) == entries


@pytest.mark.parametrize(("background", "is_sparse"), [(0.0, True), (-0.4, True), (3.0, True), (1e9, False)])
def test_columns_with_few_entries_are_sparse_unless_their_background_is_far_away(
    background: float, *, is_sparse: bool
) -> None:
    """In float32, 1e9 + (1 - 1e9) is zero."""
    x = torch.ones(20, 3)
    x[2:, 1] = background
    parts = SparseRows.of(x)
    assert (parts.sparse_columns.tolist() == [1]) is is_sparse
    b = torch.tensor([[1.0], [1.0], [0.5]])
    assert torch.allclose(sparse_rows.rows_times(b, *parts), x @ b, rtol=1e-6)
    assert torch.allclose(sparse_rows.rows_times(b, *parts)[:2], torch.tensor(2.5), rtol=1e-6)


@given(matrices(), st.integers(1, 4))
def test_products_equal_those_with_whole_rows(x: Tensor, m: int) -> None:
    parts = SparseRows.of(x)
    generator = torch.Generator().manual_seed(m)
    b = torch.randn(m, x.shape[1], generator=generator, dtype=x.dtype).t()  # like the transpose of a weight
    a = torch.randn(m, len(x), generator=generator, dtype=x.dtype)
    term = torch.randn(m, generator=generator, dtype=x.dtype)
    assert_close(sparse_rows.rows_times(b, *parts), x @ b)
    assert_close(sparse_rows.plus_rows_times(term, b.contiguous(), *parts), term + x @ b)
    assert_close(sparse_rows.times_rows(a, *parts), a @ x)


def test_the_order_is_a_permutation_that_saves_entries() -> None:
    """Each class has its own columns, and only these differ from the background in a chunk of one class."""
    labels = torch.arange(60) % 3
    x = torch.zeros(60, 3, 4)
    x[torch.arange(60), labels] = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    order = sparse_rows.row_order(x, labels)
    assert torch.equal(order.sort().values, torch.arange(60))
    assert torch.equal(labels[order], labels.sort().values)
    assert [len(SparseRows.of(chunk).sparse_columns) for chunk in torch.split(x, 20)] == [12, 12, 12]
    assert [len(SparseRows.of(chunk).sparse_columns) for chunk in torch.split(x[order], 20)] == [0, 0, 0]


class Centred(nn.Module):
    """A module that needs whole rows of x."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(5, 3, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(x - x.mean(1, keepdim=True))
        return out


class Quadratic(nn.Module):
    """A module that multiplies x, which is square here, by a view of itself."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(5, 3, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(x @ x.view(5, 5))
        return out


@pytest.mark.parametrize(
    ("module", "splits"),
    [
        (Quadratic(), False),
        (nn.Sequential(nn.Flatten(), nn.Linear(5, 3, dtype=torch.float64)), True),
        (nn.Sequential(nn.Linear(5, 4, bias=False, dtype=torch.float64), nn.Tanh(), nn.Linear(4, 3).double()), True),
        (Centred(), False),
    ],
)
def test_rows_are_split_where_every_use_allows_it(module: nn.Module, *, splits: bool) -> None:
    model = FlatModel(module)
    x, y = toy.blobs(5)
    x[:, 3] = 0.5
    slope, theta = torch.func.grad(model.loss_sum), model.theta()
    program = trace_tangent(slope, theta, x, y)
    assert program.takes_sparse_rows is splits
    v = torch.linspace(-1, 1, len(theta), dtype=torch.float64)
    expected = torch.func.jvp(lambda point: slope(point, x, y), (theta,), (v,))[1]
    found = program.tangent(v, *program.primal(theta, *program.inputs(x), y))
    assert torch.allclose(found, expected, rtol=1e-11, atol=1e-13)
