from __future__ import annotations

import torch
from torch import Tensor

from hesstore.autodiff import sparse_rows, trace_tangent
from hesstore.problem.models import build
from tests.support import toy

aten = torch.ops.aten


def test_the_default_network_has_no_avoidable_work() -> None:
    """No copies, zeros or separate sums remain: twelve matrix products and the elementwise passes that they need."""
    model = build("mlp", (6, 5), (5,), 3, seed=0)
    x, y = toy.blobs(20)
    program = trace_tangent(torch.func.grad(model.loss_sum), model.theta(), x.float(), y)
    targets = [node.target for node in program.tangent.graph.nodes if node.op == "call_function"]
    assert not {aten.alias.default, aten._to_copy.default, aten.zeros.default, aten.add.Tensor} & set(targets)
    products = [target for target in targets if target in {aten.mm.default, aten.addmm.default, aten.addmm_.default}]
    assert len(products) == 12
    assert products.count(aten.addmm_.default) == 6  # sums of two products, which need no copy of the first
    assert targets.count(sparse_rows.plus_rows_times) == targets.count(sparse_rows.times_rows) == 1


def test_in_place_operations_are_left_as_they_are() -> None:
    """A copy that is written to later must stay a copy."""

    def f(theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        doubled = theta.clone()
        doubled.mul_(theta)
        return (doubled.sin() * x).sum() * torch.ones(3, dtype=theta.dtype) + y.sum() * 0

    theta = torch.linspace(0.1, 1, 4, dtype=torch.float64)
    x, y = torch.arange(4.0, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    program = trace_tangent(f, theta, x, y)
    v = torch.tensor([1.0, -1.0, 2.0, 0.5], dtype=torch.float64)
    expected = torch.func.jvp(lambda point: f(point, x, y), (theta,), (v,))[1]
    for _ in range(2):
        assert torch.allclose(program.tangent(v, *program.primal(theta, *program.inputs(x), y)), expected, rtol=1e-14)


def test_the_program_serves_other_values_of_the_same_shape() -> None:
    model = build("mlp", (), (5,), 3, seed=0)
    model.module.double()
    x, y = toy.blobs(20)
    program = trace_tangent(torch.func.grad(model.loss_sum), model.theta(), x, y)
    generator = torch.Generator().manual_seed(0)
    theta, v = (torch.randn(18, generator=generator, dtype=torch.float64) for _ in range(2))
    other_x, other_y = toy.blobs(20, seed=9)[0], (y + 1) % 3
    slope = torch.func.grad(model.loss_sum)
    expected = torch.func.jvp(lambda point: slope(point, other_x, other_y), (theta,), (v,))[1]
    found = program.tangent(v, *program.primal(theta, *program.inputs(other_x), other_y))
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-14)
