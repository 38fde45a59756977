"""The fast Hessian operator against its specification, :func:`hesstore.curvature.hessian.hessian_product`."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from hesstore.autodiff.sparse_rows import SparseRows
from hesstore.curvature import FlatHessian
from hesstore.curvature.hessian import hessian_product
from hesstore.problem.models import FlatModel, build
from tests.support import toy
from tests.support.hessians import cached_share

ROWS = 41  # a prime, so that chunks are never equal

MODULES: dict[str, Callable[[], nn.Module]] = {
    "mlp": lambda: build("mlp", (6, 5), (64,), 10, seed=0).module,
    "cnn": lambda: toy.SmoothCNN(10),
    "attention": lambda: nn.Sequential(nn.Linear(64, 6), toy.Attention(3), nn.Linear(6, 10)),
    "layer norm": lambda: nn.Sequential(nn.Linear(64, 4), nn.LayerNorm(4), nn.SiLU(), nn.Linear(4, 10)),
    "custom, with buffers and a layer used twice": lambda: toy.with_buffers((64,), 10),
    "custom, with a parameter used twice": toy.Tied,
    "residual": toy.Residual,
    "softplus, no bias": lambda: nn.Sequential(nn.Linear(64, 4, bias=False), nn.Softplus(), nn.Linear(4, 10)),
    "linear": lambda: nn.Linear(64, 10),
}


def problem(name: str) -> tuple[FlatModel, Tensor, Tensor]:
    """A network in float64 and digits, which have constant columns at their borders."""
    torch.manual_seed(0)
    model = FlatModel(MODULES[name]().double().train(mode=False))
    x, y = (torch.from_numpy(part[:ROWS]) for part in toy.digits()[:2])
    return model, x.double(), y.long()


def directions(model: FlatModel, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, model.layout.size, generator=generator, dtype=torch.float64)


def assert_equal_to_rounding(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-11 * float(expected.abs().max()))


@pytest.mark.parametrize("name", MODULES)
def test_the_specification_agrees_with_double_backward(name: str) -> None:
    """H v = ∇(∇E · v), which takes another way through autograd."""
    model, x, y = problem(name)
    (v,) = directions(model, 1)
    theta = model.theta().requires_grad_()
    loss = nn.functional.cross_entropy(model.logits(theta, x), y)
    (gradient,) = torch.autograd.grad(loss, theta, create_graph=True)
    (expected,) = torch.autograd.grad(gradient @ v, theta)
    assert_equal_to_rounding(hessian_product(model, theta.detach(), x, y, v), expected)


@pytest.mark.parametrize(("name", "chunk_rows"), [("mlp", 1000), *((name, 13) for name in MODULES)])
def test_products(name: str, chunk_rows: int) -> None:
    """In one chunk or in several, the last one short; with no primal values cached, some, or all."""
    model, x, y = problem(name)
    theta = model.theta()
    hessian = FlatHessian(model, x, y, chunk_rows=chunk_rows)
    vectors = directions(model, 2)
    expected = torch.stack([hessian_product(model, theta, x, y, v) for v in vectors])
    kept = vectors.clone()
    shares = []
    for cache_bytes in (0, hessian.row_bytes(theta) * 30, float("inf")):
        operator = hessian.at(theta, cache_bytes=cache_bytes)
        shares.append(cached_share(operator))
        found = torch.stack([operator.matvec(v) for v in vectors])
        assert_equal_to_rounding(found, expected)
        assert torch.equal(found[0], operator.matvec(vectors[0]))  # no cached value has been changed
    assert torch.equal(vectors, kept)
    assert (shares[0], shares[-1]) == (0, 1)
    if chunk_rows == 13:
        assert 0 < shares[1] < 1


@pytest.mark.parametrize("constant", [0, 1, 63, 64])
def test_products_with_constant_columns(constant: int) -> None:
    """From none of the columns to all of them."""
    model, x, y = problem("mlp")
    x = x + torch.randn(x.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    x[:, :constant] = x[:1, :constant]
    theta = model.theta()
    operator = FlatHessian(model, x, y, chunk_rows=13).at(theta)
    assert operator._chunks[0].program.takes_sparse_rows
    assert SparseRows(*operator._chunks[0].inputs).dense.shape[1] == 64 - constant
    (v,) = directions(model, 1)
    assert_equal_to_rounding(operator.matvec(v), hessian_product(model, theta, x, y, v))


def test_products_with_digits_skip_the_background() -> None:
    model, x, y = problem("mlp")
    theta = model.theta()
    operator = FlatHessian(model, x, y, chunk_rows=ROWS).at(theta)
    (chunk,) = operator._chunks
    rows = SparseRows(*chunk.inputs)
    assert rows.has_entries
    assert 0 < len(rows.dense_columns) < x.shape[1] - len(rows.sparse_columns)  # the others are constant
    (v,) = directions(model, 1)
    assert_equal_to_rounding(operator.matvec(v), hessian_product(model, theta, x, y, v))


@pytest.mark.parametrize(
    "name",
    [
        name if name in {"mlp", "layer norm", "linear"} else pytest.param(name, marks=pytest.mark.slow)
        for name in MODULES
    ],
)
def test_products_of_a_stack(name: str) -> None:
    """At two θ together; with no primal values cached, or all."""
    model, x, y = problem(name)
    theta = torch.stack([model.theta(), model.theta() * 0.5])
    v = directions(model, 2)
    expected = torch.stack(
        [hessian_product(model, point, x, y, direction) for point, direction in zip(theta, v, strict=True)]
    )
    hessian = FlatHessian(model, x, y, chunk_rows=1000)
    for cache_bytes in (0, float("inf")):
        assert_equal_to_rounding(hessian.at_each(theta, cache_bytes=cache_bytes).matvec(v), expected)
