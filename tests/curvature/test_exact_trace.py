"""The exact trace is that of the dense Hessian, by double backward in float64."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hesstore.curvature import DenseLayers, hessian_trace
from hesstore.problem.models import FlatModel, build
from tests.support import toy

NETWORKS = {
    "softmax regression": build("mlp", (), (6,), 3, seed=0),
    "one hidden layer": build("mlp", (5,), (6,), 3, seed=0),
    "two hidden layers": build("mlp", (5, 4), (6,), 3, seed=0),
    "other activations": FlatModel(
        nn.Sequential(nn.Flatten(), nn.Linear(6, 4, bias=False), nn.GELU(), nn.Linear(4, 5), nn.SiLU(), nn.Linear(5, 3))
    ),
    "tanh": FlatModel(nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3, bias=False))),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_trace_is_that_of_the_dense_hessian(name: str, device: torch.device) -> None:
    model = NETWORKS[name]
    model.module.to("cpu", torch.float64)
    x, y = torch.randn(40, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64), torch.arange(40) % 3
    x = x.flatten(1) if name == "tanh" else x
    theta = 3 * model.theta()
    expected = float(torch.func.hessian(lambda at: model.loss_sum(at, x, y) / 40)(theta).trace())
    model.module.to(device)
    layers = DenseLayers.of(model, x[:8].to(device))
    assert layers is not None
    found = hessian_trace(layers, model, theta.to(device), x.to(device), y.to(device), 15)
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "module",
    [
        build("mlp", (5, 4, 4), (64,), 10, seed=0).module,
        toy.SmoothCNN(10),
        toy.Residual(),
        nn.Sequential(nn.Linear(64, 5), nn.Sigmoid(), nn.Sigmoid(), nn.Linear(5, 10)),
        nn.Sequential(nn.Linear(64, 5), nn.LayerNorm(5), nn.Linear(5, 10)),
        nn.Sequential(nn.Linear(64, 10), nn.Sigmoid()),
    ],
)
def test_other_networks_have_none(module: nn.Module) -> None:
    x = torch.from_numpy(toy.digits()[0])[:8].float()
    assert DenseLayers.of(FlatModel(module.float()), x) is None


def test_a_network_whose_layers_do_more_has_none() -> None:
    """A hook changes what a layer computes, and shared layers have one set of parameters."""
    hooked = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3))
    hooked[0].register_forward_hook(lambda *arguments: 2 * arguments[2])
    shared = nn.Linear(6, 6)
    for module in (hooked, nn.Sequential(shared, nn.Tanh(), shared)):
        assert DenseLayers.of(FlatModel(module), torch.randn(8, 6)) is None
