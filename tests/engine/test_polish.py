"""Sweeps whose fits are polished."""

from __future__ import annotations

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
from hesstore.integrity.recheck import recheck
from hesstore.integrity.verify import verify
from hesstore.problem import training_data
from hesstore.problem.models import build
from hesstore.store import SweepStore
from tests.support.command_line import RunHesstore
from tests.support.killed_commands import kill_during
from tests.support.sweeps import Stop, results, stop_at

MakeConfig = Callable[..., SweepConfig]
POLISH = {"polish": 60, "polish_tol": 1e-2, "l2": "0,0.01,0.05", "dtype": "float64"}


def test_weights_are_stationary_points(toy_config: MakeConfig, tmp_path: Path) -> None:
    """By automatic differentiation over all rows, also if the spectrum is that of fewer rows."""
    config = toy_config(**POLISH, hessian_samples=100)
    run_sweep(config, tmp_path / "s.zarr")
    run_sweep(toy_config(**{**POLISH, "polish": 0}), tmp_path / "plain.zarr")
    ds, plain = (hesstore.open(tmp_path / name).sel(run=0).load() for name in ("s.zarr", "plain.zarr"))
    x, y = training_data.load("tests.support.toy:digits").train
    model = build("mlp", (6, 5), (64,), 10, 0)
    for l2 in config.l2:
        point = ds.sel(l2=l2)
        theta = torch.from_numpy(point["weights"].values).double()

        def error(at: torch.Tensor) -> torch.Tensor:
            return nn.functional.cross_entropy(model.logits(at, x.double()), y)

        e: torch.Tensor = torch.func.grad(error)(theta)
        ratio = float((e + l2 * theta).norm() / e.norm())
        assert float(point["polish_stationarity"]) == pytest.approx(ratio, rel=1e-6)
        assert float(point["stationarity"]) == pytest.approx(ratio, rel=1e-3)
        if l2:
            assert ratio <= 1.01e-2
            assert int(point["polish_evaluations"]) > 1
            assert float(point["loss"][0] + point["penalty"]) < float(
                plain.sel(l2=l2)["loss"][0] + plain.sel(l2=l2)["penalty"]
            )
    assert float(ds["polish_stationarity"][0]) == 1
    assert int(ds["polish_evaluations"][0]) == 0
    assert float(ds["polish_distance"][0]) < 1e-5  # rounding to the store's float32
    np.testing.assert_array_equal(ds["weights"][0], plain["weights"][0])
    moved = float(np.linalg.norm(ds["weights"][1] - plain["weights"][1]))  # both fits start from the same weights
    assert float(ds["polish_distance"][1]) == pytest.approx(moved, rel=1e-5)
    assert "polish_distance" not in plain
    assert verify(tmp_path / "s.zarr").ok
    assert recheck(tmp_path / "s.zarr", trust=True).problems == []


@pytest.mark.slow
def test_without_analyses_and_resumed(toy_config: MakeConfig, tmp_path: Path) -> None:
    """A later fit starts from the polished weights as the store has them."""
    config = toy_config(**POLISH, k=0)
    assert "per product" in plan_sweep(config).basis
    run_sweep(config, tmp_path / "whole.zarr")
    with pytest.raises(Stop):
        run_sweep(config, tmp_path / "s.zarr", observer=stop_at(9))
    run_sweep(config, tmp_path / "s.zarr")
    xr.testing.assert_identical(results(tmp_path / "s.zarr"), results(tmp_path / "whole.zarr"))
    store = SweepStore.open(tmp_path / "s.zarr")
    store.put_all("polish_stationarity", store.runs[0], np.array([1.0, 1e-3, 1e-3]))
    store.seal_entries(store.runs[0])
    assert verify(tmp_path / "s.zarr").ok
    problems = recheck(tmp_path / "s.zarr", trust=True).problems
    assert problems
    assert all(problem.what.startswith("polish_stationarity: is 0.001, computed again 0.00") for problem in problems)


def test_a_stack_is_polished_one_by_one(toy_config: MakeConfig, tmp_path: Path) -> None:
    for models in (1, 2):
        config = toy_config(**POLISH, k=0, path="independent", models=models)
        run_sweep(config, tmp_path / f"{models}.zarr")
    one, two = (results(tmp_path / f"{models}.zarr") for models in (1, 2))
    np.testing.assert_allclose(one["loss"], two["loss"], rtol=1e-4)
    assert float(two["polish_stationarity"][0, 1:].max()) <= 1.01e-2


def test_a_network_with_kinks_is_refused_in_one_line(
    run_hesstore: RunHesstore, toy_arguments: list[str], tmp_path: Path
) -> None:
    options = ["--model", "tests.support.toy:relu", "--polish", "5"]
    refused = run_hesstore("sweep", "s.zarr", *toy_arguments, *options)
    assert refused.returncode == 2
    assert refused.stderr == (
        "hesstore: polish: 'tests.support.toy:relu' uses ReLU, which has kinks where the objective has no second "
        "derivative: leave it out, or use a smooth network\n"
    )
    assert not (tmp_path / "s.zarr").exists()


@pytest.mark.slow
def test_kill_9_and_resume(
    toy_config: MakeConfig, toy_arguments: list[str], tmp_path: Path, environment: dict[str, str]
) -> None:
    options = ["--k", "0", "--polish", "20"]
    for place, count in (("weights/c", 2), ("/status/c", 1)):
        kill_during(place, count, tmp_path, environment, "sweep", "s.zarr", *toy_arguments, *options)
        assert verify(tmp_path / "s.zarr").ok
    config = toy_config(k=0, polish=20)
    run_sweep(config, tmp_path / "s.zarr")
    run_sweep(config, tmp_path / "whole.zarr")
    xr.testing.assert_identical(results(tmp_path / "s.zarr"), results(tmp_path / "whole.zarr"))
