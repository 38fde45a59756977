from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from hesstore.autodiff import trace_gradient
from hesstore.problem.models import FlatModel, build
from tests.support import toy

aten = torch.ops.aten


def mean_loss(model: FlatModel, theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return nn.functional.cross_entropy(model.logits(theta, x), y)


def models() -> dict[str, FlatModel]:
    mlp = build("mlp", (6, 5), (5,), 3, seed=0)
    torch.manual_seed(0)
    tied = nn.Linear(5, 5)
    return {
        "mlp": mlp,
        "layer norm, no bias": FlatModel(nn.Sequential(nn.Linear(5, 4, bias=False), nn.LayerNorm(4), nn.Linear(4, 3))),
        "a parameter used twice": FlatModel(nn.Sequential(tied, nn.Tanh(), tied, nn.Tanh(), nn.Linear(5, 3))),
    }


@pytest.mark.parametrize("name", models())
def test_a_bound_program_follows_its_parameters(name: str) -> None:
    """It agrees with autograd on other data and at changed parameters, and overwrites every entry of the gradient."""
    model = models()[name]
    model.module.double()
    x, y = toy.blobs(20)
    theta = model.theta()
    gradient = torch.full_like(theta, torch.nan)
    program = trace_gradient(lambda *arguments: mean_loss(model, *arguments), theta, x, y)
    slope = program.bind(theta, gradient)
    for scale in (1.0, 1.5):
        theta.mul_(scale)
        point = theta.clone().requires_grad_()
        expected = mean_loss(model, point, x * scale, y)
        with torch.no_grad():
            value = slope(x * scale, y)
        assert torch.allclose(value, expected, rtol=1e-13)
        assert torch.allclose(gradient, torch.autograd.grad(expected, point)[0], rtol=1e-11, atol=1e-14)


def test_the_default_network_makes_no_views_and_joins_no_parts() -> None:
    model = build("mlp", (6, 5), (5,), 3, seed=0)
    x, y = toy.blobs(20)
    program = trace_gradient(lambda *arguments: mean_loss(model, *arguments), model.theta(), x.float(), y)
    targets = [node.target for node in program.evaluate.graph.nodes if node.op == "call_function"]
    assert not {aten.cat.default, aten.view.default, aten.split_with_sizes.default, aten.copy_.default} & set(targets)
    assert targets.count(aten.mm.out) == targets.count(aten.sum.IntList_out) == 3


def test_stacked_copies_have_their_own_parameters_and_data() -> None:
    model = build("mlp", (6, 5), (5,), 3, seed=0)
    model.module.double()
    x, y = toy.blobs(20)
    theta = torch.stack([model.theta(), model.theta() * 2, -model.theta()])
    many_x, many_y = torch.stack([x, x + 1, x * 3]), torch.stack([y, (y + 1) % 3, y])
    gradient = torch.full_like(theta, torch.nan)
    losses = torch.func.vmap(lambda *arguments: mean_loss(model, *arguments))
    program = trace_gradient(losses, theta, many_x, many_y)
    targets = [node.target for node in program.evaluate.graph.nodes if node.op == "call_function"]
    assert not {aten.cat.default, aten.copy_.default} & set(targets)
    values = program.bind(theta, gradient)(many_x, many_y)
    for index in range(3):
        point = theta[index].clone().requires_grad_()
        expected = mean_loss(model, point, many_x[index], many_y[index])
        assert torch.allclose(values[index], expected, rtol=1e-12)
        assert torch.allclose(gradient[index], torch.autograd.grad(expected, point)[0], rtol=1e-11, atol=1e-14)
