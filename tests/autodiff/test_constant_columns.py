"""Tests of products with rows whose constant columns are left out, and of the order that makes many constant."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from hesstore.autodiff import constant_columns, trace_tangent
from hesstore.autodiff.constant_columns import VaryingColumns
from hesstore.problem.models import FlatModel
from tests.support import toy


def whole(parts: VaryingColumns) -> Tensor:
    """The rows that ``parts`` were made from."""
    x = parts.constants.expand(len(parts.values), -1).clone()
    x[:, parts.columns] = parts.values
    return x


@st.composite
def matrices(draw: st.DrawFn) -> Tensor:
    """Matrices (n, f) in float64 of which any number of columns is constant."""
    n, f = draw(st.integers(1, 6)), draw(st.integers(1, 7))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    x = torch.randn(n, f, generator=generator, dtype=torch.float64)
    constant = draw(st.lists(st.integers(0, f - 1), unique=True))
    x[:, constant] = x[:1, constant]
    return x


@given(matrices())
def test_nothing_is_lost_and_constant_columns_are_left_out(x: Tensor) -> None:
    parts = VaryingColumns.of(x)
    assert torch.equal(whole(parts), x)
    assert all(bool((x[:, column] != x[0, column]).any()) for column in parts.columns)
    assert parts.values.shape[1] == int((x != x[:1]).any(0).sum())


@given(matrices(), st.integers(1, 4))
def test_products_equal_those_with_whole_rows(x: Tensor, m: int) -> None:
    parts = VaryingColumns.of(x)
    generator = torch.Generator().manual_seed(m)
    b = torch.randn(m, x.shape[1], generator=generator, dtype=torch.float64).t()  # like the transpose of a weight
    a = torch.randn(m, len(x), generator=generator, dtype=torch.float64)
    term = torch.randn(m, generator=generator, dtype=torch.float64)
    assert torch.allclose(constant_columns.rows_times(*parts, b), x @ b)
    assert torch.allclose(constant_columns.plus_rows_times(*parts, b.contiguous(), term), term + x @ b)
    assert torch.allclose(constant_columns.times_rows(*parts, a), a @ x)


def test_the_order_is_a_permutation_that_saves_columns() -> None:
    """Each class has its own columns, and only these vary in a chunk of one class."""
    labels = torch.arange(60) % 3
    x = torch.zeros(60, 3, 4)
    x[torch.arange(60), labels] = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    order = constant_columns.row_order(x, labels)
    assert torch.equal(order.sort().values, torch.arange(60))
    assert torch.equal(labels[order], labels.sort().values)
    assert [VaryingColumns.of(chunk).values.shape[1] for chunk in torch.split(x, 20)] == [12, 12, 12]
    assert [VaryingColumns.of(chunk).values.shape[1] for chunk in torch.split(x[order], 20)] == [4, 4, 4]


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
    ("module", "leaves_out"),
    [
        (Quadratic(), False),
        (nn.Sequential(nn.Flatten(), nn.Linear(5, 3, dtype=torch.float64)), True),
        (nn.Sequential(nn.Linear(5, 4, bias=False, dtype=torch.float64), nn.Tanh(), nn.Linear(4, 3).double()), True),
        (Centred(), False),
    ],
)
def test_constant_columns_are_left_out_where_every_use_allows_it(module: nn.Module, *, leaves_out: bool) -> None:
    model = FlatModel(module)
    x, y = toy.blobs(5)
    x[:, 3] = 0.5
    slope, theta = torch.func.grad(model.loss_sum), model.theta()
    program = trace_tangent(slope, theta, x, y)
    assert program.takes_varying_columns is leaves_out
    v = torch.linspace(-1, 1, len(theta), dtype=torch.float64)
    expected = torch.func.jvp(lambda point: slope(point, x, y), (theta,), (v,))[1]
    found = program.tangent(v, *program.primal(theta, *program.inputs(x), y))
    assert torch.allclose(found, expected, rtol=1e-11, atol=1e-13)
