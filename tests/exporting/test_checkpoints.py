from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from safetensors import safe_open
from torch import nn

import hesstore
from hesstore.config import SweepConfig
from hesstore.engine.sweep import run_sweep
from hesstore.errors import ExportError
from hesstore.problem.models import MLP
from tests.support.export_stores import make_store


@pytest.fixture(scope="module")
def ds(tmp_path_factory: pytest.TempPathFactory) -> xr.Dataset:
    path = tmp_path_factory.mktemp("weights") / "s.zarr"
    make_store(path, shapes=(("fc1.weight", (3, 2)), ("fc1.bias", (3,)), ("fc2.weight", (2, 3)), ("fc2.bias", (2,))))
    return hesstore.open(path).load()


def test_a_model_with_the_weights(ds: xr.Dataset) -> None:
    model = hesstore.load_model(ds, run=0, l2=0.0002)
    assert isinstance(model, MLP)
    assert not model.training
    expected = ds["weights"].sel(run=0, l2=0.0002).values
    assert np.array_equal(nn.utils.parameters_to_vector(model.parameters()).detach(), expected)
    w = {name: tensor.numpy() for name, tensor in hesstore.to_state_dict(ds, l2=0.0002).items()}
    x = np.ones((4, 2), np.float32)
    hidden = 1 / (1 + np.exp(-(x @ w["fc1.weight"].T + w["fc1.bias"])))
    logits = model(torch.from_numpy(x)).detach()
    assert np.allclose(logits, hidden @ w["fc2.weight"].T + w["fc2.bias"], atol=1e-6)
    with torch.no_grad():
        next(model.parameters()).zero_()
    assert np.array_equal(ds["weights"].sel(run=0, l2=0.0002), expected)  # no memory is shared


def test_a_custom_module(ds: xr.Dataset) -> None:
    module = MLP(2, (3,), 2)
    assert hesstore.load_model(ds, l2=0.01, module=module) is module
    with pytest.raises(ExportError, match="module: Linear has other parameters than the store"):
        hesstore.load_model(ds, l2=0.01, module=nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("where", "message"),
    [({"l2": 0.003}, "λ = 0.003 is not in the store: the nearest is 0.0002"), ({"run": 4, "l2": 0.0}, "run 4 is not")],
)
def test_missing_runs_and_l2(ds: xr.Dataset, where: dict[str, float], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        hesstore.load_model(ds, **where)  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_custom_network(tmp_path: Path, toy_config: Callable[..., SweepConfig]) -> None:
    config = toy_config(model="tests.support.toy:cnn", l2=[0.01], k=2, epochs=1, response=0, probes=0)
    run_sweep(config, tmp_path / "s.zarr")
    ds = hesstore.open(tmp_path / "s.zarr")
    with pytest.raises(ExportError, match=r"names code, 'tests.support.toy:cnn'.*pass module=, or trust=True"):
        hesstore.load_model(ds, l2=0.01)
    model = hesstore.load_model(ds, l2=0.01, trust=True)
    weights = nn.utils.parameters_to_vector(model.parameters()).detach()
    assert np.array_equal(weights, ds["weights"].sel(run=0, l2=0.01))
    hesstore.export(ds, tmp_path / "out", format="pth")
    (file,) = (tmp_path / "out").glob("*.pth")
    assert list(torch.load(file, weights_only=True)) == ["conv.weight", "conv.bias", "head.weight", "head.bias"]


def test_parameters_that_are_not_those_of_an_mlp(tmp_path: Path) -> None:
    make_store(tmp_path / "s.zarr", shapes=(("a.weight", (2, 2)),))
    with pytest.raises(ExportError, match=r"the parameters a\.weight are not those of the model mlp: pass module="):
        hesstore.load_model(hesstore.open(tmp_path / "s.zarr"), l2=0.01)


@pytest.mark.parametrize("format_", ["pth", "safetensors"])
def test_weight_files(ds: xr.Dataset, tmp_path: Path, format_: str) -> None:
    for folder in ("a", "b"):
        hesstore.export(ds, tmp_path / folder, format=format_)
    files = sorted((tmp_path / "a").glob(f"*.{format_}"))
    assert [file.name for file in files] == [
        f"model_weights-0-{l2}.{format_}" for l2 in ("0.00000", "0.00020", "0.01000")
    ]
    for file in files:
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()
    if format_ == "safetensors":
        with safe_open(files[1], "pt") as opened:
            facts = json.loads(opened.metadata()["hesstore"])
            assert facts == {"run": "0", "l2": "0.0002", "fingerprint": ds.attrs["fingerprint"]}
            state = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a dict
    else:
        state = torch.load(files[1], weights_only=True)
    model = MLP(2, (3,), 2)
    model.load_state_dict(state)
    theta = nn.utils.parameters_to_vector(model.parameters()).detach()
    assert np.array_equal(theta, ds["weights"].sel(run=0, l2=0.0002))


def test_safetensors_need_no_torch(ds: xr.Dataset, tmp_path: Path, environment: dict[str, str]) -> None:
    make_store(tmp_path / "s.zarr")
    code = (
        "import sys, hesstore\n"
        "hesstore.export('s.zarr', 'o', format='safetensors')\n"
        "hesstore.export('s.zarr', 'p', format='parquet')\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=tmp_path)
