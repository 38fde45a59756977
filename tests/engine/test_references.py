"""Sweeps with a centred penalty, or from given weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import hesstore
from hesstore.config import SweepConfig
from hesstore.engine.sweep import plan_sweep, run_sweep
from hesstore.errors import ConfigError, ConfigMismatchError, CorruptStoreError
from hesstore.integrity.recheck import recheck
from hesstore.integrity.repair import repair
from hesstore.integrity.verify import verify
from hesstore.problem import training_data
from hesstore.problem.models import FlatModel, build
from hesstore.store import SweepStore
from tests.support.command_line import RunHesstore
from tests.support.killed_commands import kill_during
from tests.support.sweeps import Stop, results, stop_at

MakeConfig = Callable[..., SweepConfig]


def network(seed: int) -> FlatModel:
    return build("mlp", (6, 5), (64,), 10, seed)


@pytest.fixture
def center(tmp_path: Path) -> Path:
    """A checkpoint of another initial network."""
    path = tmp_path / "center.pth"
    torch.save(network(5).module.state_dict(), path)
    return path


@pytest.mark.parametrize("penalty", ["half", pytest.param("full", marks=pytest.mark.slow)])
def test_all_that_has_the_penalty_in_it_is_that_of_the_centred_one(
    toy_config: MakeConfig, tmp_path: Path, center: Path, penalty: str
) -> None:
    """Compared with automatic differentiation of the objective in float64, and with a dense Hessian."""
    run_sweep(toy_config(center=str(center), penalty=penalty, hidden="6,5", l2="0,0.01,0.05"), tmp_path / "s.zarr")
    ds = hesstore.open(tmp_path / "s.zarr").sel(run=0).load()
    model = network(0)
    scale, reference = {"half": 0.5, "full": 1.0}[penalty], network(5).theta().double()
    np.testing.assert_array_equal(ds["center"].values, reference.numpy().astype(np.float32))
    x, y = training_data.load("tests.support.toy:digits").train
    for l2 in (0.0, 0.01, 0.05):
        point = ds.sel(l2=l2)
        theta = torch.from_numpy(point["weights"].values).double()

        def error(at: torch.Tensor) -> torch.Tensor:
            return nn.functional.cross_entropy(model.logits(at, x.double()), y)

        def objective(at: torch.Tensor, l2: float = l2) -> torch.Tensor:
            return error(at) + scale * l2 * (at - reference).square().sum()

        distance = float(torch.linalg.vector_norm(theta - reference))
        assert float(point["distance"]) == pytest.approx(distance, rel=1e-12)
        assert float(point["weights_norm"]) == pytest.approx(float(torch.linalg.vector_norm(theta)), rel=1e-12)
        assert float(point["penalty"]) == pytest.approx(float(objective(theta) - error(theta)), rel=1e-6, abs=1e-12)
        g, e = torch.func.grad(objective)(theta), torch.func.grad(error)(theta)
        assert np.allclose(point["gradient"], e, atol=1e-6)
        assert float(point["stationarity"]) == pytest.approx(float(g.norm() / e.norm()), rel=1e-4)
        h: torch.Tensor = torch.func.hessian(objective)(theta)
        beta = 1 / (1 + float(g @ g))
        trace, square = float(h.trace()), float((h @ h).trace())
        curvature = beta * (trace**2 - square) + 2 * beta**2 * float(g @ h @ h @ g - trace * (g @ h @ g))
        error_of_it = float(point["scalar_curvature_error"])
        assert abs(float(point["scalar_curvature"]) - curvature) < 4 * error_of_it + 1e-3 * abs(curvature)
    assert verify(tmp_path / "s.zarr").ok


def test_a_stack_equals_single_fits(toy_config: MakeConfig, tmp_path: Path, center: Path) -> None:
    values = {"center": str(center), "start": str(center), "path": "independent", "k": 0, "dtype": "float64"}
    for models in (1, 4):
        run_sweep(toy_config(models=models, **values), tmp_path / f"{models}.zarr")
    one, four = (results(tmp_path / f"{models}.zarr") for models in (1, 4))
    np.testing.assert_allclose(one["distance"], four["distance"], rtol=1e-6)
    np.testing.assert_allclose(one["weights"], four["weights"], rtol=1e-5, atol=1e-6)
    assert float(one["distance"][0, -1]) < float(one["distance"][0, 0])


def test_a_strong_penalty_leads_to_the_centre(toy_config: MakeConfig, tmp_path: Path, center: Path) -> None:
    """From another start, whose distance is what is recorded if nothing is trained."""
    torch.save(network(6).module.state_dict(), tmp_path / "start.pth")
    values = {"center": str(center), "start": str(tmp_path / "start.pth"), "k": 0}
    run_sweep(toy_config(l2="0,30", optimizer="sgd", lr=0.01, epochs=6, **values), tmp_path / "s.zarr")
    ds = hesstore.open(tmp_path / "s.zarr").sel(run=0)
    far = float((network(6).theta() - network(5).theta()).norm())
    assert float(ds["distance"][1]) < 0.05 * far
    run_sweep(toy_config(l2="0", lr=1e-12, **values), tmp_path / "still.zarr")
    assert float(hesstore.open(tmp_path / "still.zarr")["distance"][0, 0]) == pytest.approx(far, rel=1e-6)


def test_grid_points_of_stores_are_references(toy_config: MakeConfig, tmp_path: Path) -> None:
    """The first fit starts from one, and the other one is the centre; a store that was packed will do."""
    run_sweep(toy_config(k=0, seeds="0,1", l2="0,0.01"), tmp_path / "m.zarr")
    before = hesstore.open(tmp_path / "m.zarr")["weights"].load()
    hesstore.export(tmp_path / "m.zarr", tmp_path / "m.zarr.zip", format="zip")
    values = {"start": f"{tmp_path}/m.zarr#0,0.01", "center": f"{tmp_path}/m.zarr.zip#1,0", "k": 0, "lr": 1e-12}
    run_sweep(toy_config(l2="0.001", **values), tmp_path / "s.zarr")
    ds = hesstore.open(tmp_path / "s.zarr")
    np.testing.assert_array_equal(ds["start"], before.sel(run=0, l2=0.01))
    np.testing.assert_array_equal(ds["center"], before.sel(run=1, l2=0))
    np.testing.assert_allclose(ds["weights"][0, 0], ds["start"], atol=1e-9)
    assert verify(tmp_path / "s.zarr").ok


@pytest.mark.slow
def test_the_store_needs_no_other_file(toy_config: MakeConfig, tmp_path: Path, center: Path) -> None:
    """Resuming, growing, checking and exporting use its copies; a file that has changed is noticed."""
    config = toy_config(center=str(center), start=str(center), k=0)
    run_sweep(config, tmp_path / "whole.zarr")
    with pytest.raises(Stop):
        run_sweep(config, tmp_path / "s.zarr", observer=stop_at(9))
    center.rename(tmp_path / "aside.pth")
    assert plan_sweep(config, tmp_path / "s.zarr").unfinished > 0
    run_sweep(config, tmp_path / "s.zarr")
    xr.testing.assert_identical(results(tmp_path / "s.zarr"), results(tmp_path / "whole.zarr"))
    whole = toy_config(center=str(center), start=str(center))
    run_sweep(whole, tmp_path / "s.zarr", grow=True)
    assert recheck(tmp_path / "s.zarr", trust=True).problems == []
    hesstore.export(tmp_path / "s.zarr", tmp_path / "out")
    hesstore.export(tmp_path / "s.zarr", tmp_path / "s.nc", format="netcdf")
    with xr.open_dataset(tmp_path / "s.nc") as exported:
        np.testing.assert_array_equal(exported["center"], network(5).theta())

    torch.save(network(6).module.state_dict(), center)
    for grow in (False, True):
        with pytest.raises(ConfigMismatchError, match=r"center is [0-9a-f]{16} in the store, [0-9a-f]{16} in the conf"):
            run_sweep(whole, tmp_path / "s.zarr", grow=grow)
    with pytest.raises(ConfigMismatchError, match=r"center is [0-9a-f]{16} in the store, None in the config"):
        run_sweep(toy_config(), tmp_path / "s.zarr")
    with pytest.raises(ConfigError, match=r"center: other.pth: no such file"):
        run_sweep(toy_config(center="other.pth", start=str(center)), tmp_path / "s.zarr")


def test_a_damaged_centre_is_found_and_condemns_no_grid_point(
    toy_config: MakeConfig, tmp_path: Path, center: Path
) -> None:
    config = toy_config(center=str(center), k=0, l2="0.01")
    run_sweep(config, tmp_path / "s.zarr")
    chunk = tmp_path / "s.zarr" / "center" / "c" / "0"
    content = chunk.read_bytes()
    chunk.write_bytes(content[:200] + bytes([content[200] ^ 1]) + content[201:])
    for report in (verify(tmp_path / "s.zarr"), repair(tmp_path / "s.zarr").after):
        (problem,) = report.problems
        assert (problem.file, problem.repairable) == ("center/c/0", False)
    center.unlink()
    with pytest.raises(CorruptStoreError, match="center"):
        run_sweep(config, tmp_path / "s.zarr")
    chunk.write_bytes(content)
    store = SweepStore.open(tmp_path / "s.zarr")
    store.put_all("distance", store.runs[0], np.array([2.0]))
    store.seal_entries(store.runs[0])
    assert [problem.what for problem in verify(tmp_path / "s.zarr").problems] == [
        "distance: does not match the weights"
    ]


def test_bad_references_are_refused_in_one_line(
    run_hesstore: RunHesstore, toy_arguments: list[str], toy_config: MakeConfig, tmp_path: Path, center: Path
) -> None:
    run_sweep(toy_config(k=0, l2="0,0.01"), tmp_path / "m.zarr")
    run_sweep(toy_config(k=0, l2="0", hidden="7,5"), tmp_path / "other.zarr")
    state = network(0).module.state_dict()
    torch.save({**state, "fc1.weight": torch.zeros(7, 64)}, tmp_path / "shape.pth")
    torch.save({f"x.{name}": value for name, value in state.items()}, tmp_path / "names.pth")
    torch.save({**state, "fc1.bias": torch.full((6,), float("nan"))}, tmp_path / "nan.pth")
    (tmp_path / "text.pth").write_text("no checkpoint")
    for text, words in (
        ("missing.pth", "missing.pth: no such file"),
        ("shape.pth", "fc1.weight: expected the shape (6, 64), found (7, 64)"),
        ("names.pth", "unknown key 'x.fc1.weight'"),
        ("nan.pth", "fc1.bias has 6 values that are NaN"),
        ("text.pth", "cannot be loaded"),
        ("m.zarr", "m.zarr: no such file: give a .pth or .safetensors file, or STORE#run,l2"),
        ("none.zarr#0,0", "none.zarr: no such store"),
        ("m.zarr#1,0", "run 1 is not in m.zarr, which has runs 0 to 0"),
        ("m.zarr#0,0.008", "λ = 0.008 is not on the grid of m.zarr: the nearest is 0.01"),
        ("other.zarr#0,0", "other.zarr has fc1.weight (7, 64) where this network has fc1.weight (6, 64)"),
    ):
        for option in ("--center", "--start"):
            refused = run_hesstore("sweep", "s.zarr", *toy_arguments, option, text)
            assert refused.returncode == 2, refused
            assert refused.stderr.startswith(f"hesstore: {option[2:]}: ")
            assert words in refused.stderr
            assert refused.stderr.count("\n") == 1
            assert not (tmp_path / "s.zarr").exists()
    store = SweepStore.open(tmp_path / "m.zarr")
    store.withdraw(store.runs[0], [1])
    refused = run_hesstore("sweep", "s.zarr", *toy_arguments, "--start", "m.zarr#0,0.01")
    assert "run 0 at λ = 0.01 of m.zarr is pending and has no weights" in refused.stderr


def test_what_a_store_without_references_has_not(toy_config: MakeConfig, tmp_path: Path, center: Path) -> None:
    run_sweep(toy_config(k=0, l2="0"), tmp_path / "plain.zarr")
    ds = hesstore.open(tmp_path / "plain.zarr")
    assert not {"distance", "center", "start"} & {*ds.variables}
    assert not {"center", "start"} & json.loads(ds.attrs["identity"]).keys()
    run_sweep(toy_config(k=0, l2="0", start=str(center)), tmp_path / "start.zarr")
    found = hesstore.open(tmp_path / "start.zarr")
    assert "start" in found.coords
    assert "distance" not in found
    assert "center" not in found.variables


@pytest.mark.slow
def test_kill_9_and_resume(
    toy_config: MakeConfig, toy_arguments: list[str], tmp_path: Path, environment: dict[str, str], center: Path
) -> None:
    arguments = ["sweep", "s.zarr", *toy_arguments, "--center", center, "--start", center, "--k", "0"]
    kill_during(".partial", 3, tmp_path, environment, *arguments)
    for place, count in (("weights/c", 2), ("/status/c", 1)):
        kill_during(place, count, tmp_path, environment, *arguments)
        assert verify(tmp_path / "s.zarr").ok
    config = toy_config(center=str(center), start=str(center), k=0)
    run_sweep(config, tmp_path / "whole.zarr")
    center.unlink()
    run_sweep(config, tmp_path / "s.zarr")
    xr.testing.assert_identical(results(tmp_path / "s.zarr"), results(tmp_path / "whole.zarr"))


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_on_workers(
    toy_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], center: Path
) -> None:
    """They read the store's copies, not the file."""
    monkeypatch.setenv("PYTHONPATH", environment["PYTHONPATH"])
    config = toy_config(center=str(center), start=str(center), k=0)
    run_sweep(config, tmp_path / "whole.zarr")
    with pytest.raises(Stop):
        run_sweep(config, tmp_path / "s.zarr", observer=stop_at(9))
    center.unlink()
    run_sweep(config, tmp_path / "s.zarr", workers=2)  # of one thread each
    xr.testing.assert_identical(results(tmp_path / "s.zarr"), results(tmp_path / "whole.zarr"))
    shutil.rmtree(tmp_path / "s.zarr")
