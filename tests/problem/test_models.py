from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from hesstore.errors import ModelError
from hesstore.problem.models import MLP, ParameterLayout, build, statistics
from hesstore.store.parameter_coordinates import parameter_coordinates


def test_the_default_network() -> None:
    model = build("mlp", (128, 128), (1, 28, 28), 10, seed=0)
    assert model.layout.size == 118_282
    assert model.layout.names == ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias", "fc3.weight", "fc3.bias")
    assert list(model.module.state_dict()) == list(model.layout.names)
    x = torch.randn(3, 1, 28, 28)
    fc1, fc2, fc3 = (model.module.get_submodule(f"fc{i}") for i in (1, 2, 3))
    expected = fc3(torch.sigmoid(fc2(torch.sigmoid(fc1(x.flatten(1))))))
    assert torch.equal(model.logits(model.theta(), x), expected)


def test_initial_weights_depend_only_on_the_seed() -> None:
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    first, second, other = (build("mlp", (4,), (6,), 3, seed).theta() for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_layout_round_trip() -> None:
    module = MLP(5, (4, 3), 2)
    layout = ParameterLayout.of(module)
    theta = torch.arange(float(layout.size))
    parts = layout.unflatten(theta)
    assert torch.equal(torch.cat([part.reshape(-1) for part in parts.values()]), theta)
    assert {name: tuple(part.shape) for name, part in parts.items()} == {
        name: tuple(p.shape) for name, p in module.named_parameters()
    }


def test_coordinates_find_the_parameter() -> None:
    model = build("tests.support.toy:cnn", (), (64,), 10, seed=0)
    coordinates = parameter_coordinates(zip(model.layout.names, model.layout.shapes, strict=True))
    theta = model.theta()
    state = model.module.state_dict()
    for position in np.random.default_rng(0).integers(0, len(theta), 50):
        layer, kind, out, inner = (coordinates[name][position] for name in ("layer", "kind", "out_index", "in_index"))
        parameter = state[f"{layer}.{kind}"]
        value = parameter[int(out)] if inner == -1 else parameter.flatten(1)[int(out), int(inner)]
        assert theta[position] == value


def test_loss_sum_adds_up() -> None:
    model = build("mlp", (4,), (6,), 3, seed=0)
    x, y = torch.randn(7, 6), torch.arange(7) % 3
    total = model.loss_sum(model.theta(), x, y)
    assert torch.allclose(total, 7 * nn.functional.cross_entropy(model.module(x), y))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet", "is neither mlp nor linear:L nor module:factory"),
        ("tests.support.toy:nothing", "has no callable 'nothing'"),
        ("no_such_module:f", "can't import 'no_such_module'"),
        ("tests.support.toy:blobs_for_model", "returned tuple, not an nn.Module"),
        ("tests.support.toy:digits", "raised TypeError"),
        (":f", "is not module:factory"),
        ("tests.support.toy:with_frozen", r"frozen parameter 'inner\.weight'.*make it a buffer"),
        ("tests.support.toy:lazy", r"lazy parameter '0\.weight'"),
        ("tests.support.toy:sparse", r"parameter '0\.weight' that has the layout torch\.sparse_coo: make it a dense"),
        ("tests.support.toy:on_meta", r"parameter '0\.weight' that has no values, on the meta device"),
    ],
)
def test_unusable_models(name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build(name, (), (64,), 10, seed=0)


def test_a_model_is_built_in_eval_mode() -> None:
    assert not any(
        module.training for module in build("tests.support.toy:with_dropout", (), (64,), 10, seed=0).module.modules()
    )


def test_buffers_have_digests_of_their_values() -> None:
    model, again, other = (
        build(f"tests.support.toy:{name}", (), (64,), 10, seed)
        for name, seed in (("with_buffers", 0), ("with_buffers", 1), ("with_other_buffers", 0))
    )
    assert [[name, shape] for name, shape, _ in model.buffers()] == [["mask", [6]], ["code", [6]]]
    assert model.buffers() == again.buffers()
    same, differing = zip(model.buffers(), other.buffers(), strict=True)
    assert same[0] == same[1]
    assert differing[0] != differing[1]
    model.module.to(torch.float64)
    assert model.buffers() == again.buffers()
    assert model.module.get_buffer("code").dtype == torch.float64
    assert build("mlp", (4,), (6,), 3, seed=0).buffers() == []


def test_instance_norm_has_statistics_as_batch_norm_has() -> None:
    layers = nn.ModuleDict(
        {
            "batch": nn.BatchNorm1d(2),
            "instance": nn.InstanceNorm1d(2, track_running_stats=True),
            "group": nn.GroupNorm(1, 2),
        }
    )
    found = statistics(layers)
    assert [*found] == [f"{name}.{kind}" for name in ("batch", "instance") for kind in ("running_mean", "running_var")]
    assert found["instance.running_var"] is layers["instance"].get_buffer("running_var")
    assert not statistics(nn.InstanceNorm1d(2))
