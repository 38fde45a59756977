"""Whole sweeps on stand-in devices: their stores have the results of the CPU's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import dask
import numpy as np
import pytest
import torch
import xarray as xr
from distributed import Client, LocalCluster

from hesstore import plan_sweep, run_sweep
from hesstore.config import SweepConfig
from hesstore.engine import dask_executor
from hesstore.errors import DeviceWarning
from hesstore.integrity.recheck import recheck
from hesstore.problem.models import build
from tests.support.stand_in_device import Machine
from tests.support.sweeps import results
from tests.support.toy import TOY

SMALL = {**TOY, "l2": "0,0.01", "k": 3, "epochs": 2, "dtype": "float64", "models": 1}
EVERYTHING = {"density": True, "response": 0.1, "probes": 4}

SWEEP: Mapping[str, object] = {"path": "independent", "models": 2, "device": "cuda:1", "response": 0, "probes": 0}

LONG_SWEEPS: dict[str, Mapping[str, object]] = {  # each optional result of a sweep belongs into one of these
    "the sizes that are chosen for a GPU": {"models": 0, "chunk_rows": 0, "l2": "0,0.001,0.01"},
    "analyses in a stack": {"models": 2, "l2": "0,0.001,0.01"},
    "Lanczos steps of a stack taken together": {  # the networks are larger than those whose products are remembered
        "hidden": "60,60",
        "path": "independent",
        "models": 3,
        "l2": "0,0.001,0.01",
        "chunk_rows": 4096,
        **EVERYTHING,
        "density": False,
    },
    "both directions and two seeds": {"direction": "both", "seeds": "0,1", "models": 4},
    "density, responses and traces": EVERYTHING,
    "the second device": {"device": "cuda:1", **EVERYTHING},
    "another solver and several lowest pairs": {"solver": "eigsh", "lowest": 3},
    "another optimiser, the smallest eigenvalues": {"optimizer": "sgd", "momentum": 0.9, "which": "SA"},
    "an independent path, the largest eigenvalues, some rows": {
        "path": "independent",
        "which": "LA",
        "hessian_samples": 100,
    },
    "polished fits": {"polish": 10},
    "a stack of polished fits": {"polish": 10, "path": "independent", "models": 2},
    "deep linear networks with the squared error": {
        "model": "linear:3",
        "hidden": "4",
        "loss": "mse",
        "models": 2,
        "path": "independent",
        **EVERYTHING,
        "response": 1e-3,
    },
    "a convolutional network": {"model": "tests.support.toy:cnn"},
    "a stack of convolutional networks": {"model": "tests.support.toy:cnn", "path": "independent", "models": 2},
    "a network with buffers": {"model": "tests.support.toy:with_buffers"},
    "a network that makes a constant": {"model": "tests.support.toy:with_constant"},
    "a stack of networks that make a constant": {
        "model": "tests.support.toy:with_constant",
        "path": "independent",
        "models": 2,
    },
}

OF_EACH_KIND = {
    "the sizes that are chosen for a GPU",
    "Lanczos steps of a stack taken together",
    "both directions and two seeds",
    "the second device",
    "another solver and several lowest pairs",
    "a stack of polished fits",
    "deep linear networks with the squared error",
    "a stack of networks that make a constant",
}
"""Those that run among the checks; the others take as long again."""


OF_THE_LAST_BITS = {"digest", "class_identity_error", "matvecs", "solver_message"}


def config(settings: Mapping[str, object], device: str) -> SweepConfig:
    return SweepConfig.from_mapping({**SMALL, "device": device, **settings})


def assert_equal_results(found: xr.Dataset, expected: xr.Dataset) -> None:
    """Compare all variables, except for those that depend on the last bits.

    A device and the CPU round differently, and so a search may end one or two products earlier.
    """
    assert set(found) == set(expected)
    for name in sorted(set(map(str, expected)) - OF_THE_LAST_BITS):
        values, reference = found[name].values, expected[name].values
        if reference.dtype.kind == "f":
            scale = np.nanmax(np.abs(reference), initial=0.0)
            np.testing.assert_allclose(values, reference, rtol=1e-6, atol=1e-6 * scale, err_msg=name)
        else:
            np.testing.assert_array_equal(values.astype(str), reference.astype(str), err_msg=name)
    assert float(found["class_identity_error"].max()) < 1e-9
    assert int(abs(found["matvecs"] - expected["matvecs"]).max()) <= 2


def compare(tmp_path: Path, settings: Mapping[str, object]) -> None:
    run_sweep(config({**settings, "device": "cpu"}, "cpu"), tmp_path / "cpu.zarr")
    run_sweep(config(settings, "cuda"), tmp_path / "cuda.zarr")
    assert_equal_results(results(tmp_path / "cuda.zarr"), results(tmp_path / "cpu.zarr"))


@pytest.mark.slow
def test_a_sweep_of_stacks_on_the_second_device(machine: Machine, tmp_path: Path) -> None:
    compare(tmp_path, SWEEP)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if name in OF_EACH_KIND else pytest.mark.bench) for name in LONG_SWEEPS],
)
def test_a_long_sweep_equals_that_of_the_cpu(machine: Machine, tmp_path: Path, name: str) -> None:
    compare(tmp_path, LONG_SWEEPS[name])


@pytest.mark.slow
@pytest.mark.parametrize("models", [1, 2])
def test_a_centred_penalty_equals_that_of_the_cpu(machine: Machine, tmp_path: Path, models: int) -> None:
    for seed, name in enumerate(("center", "start")):
        torch.save(build("mlp", (6, 5), (64,), 10, seed).module.state_dict(), tmp_path / f"{name}.pth")
    references = {name: str(tmp_path / f"{name}.pth") for name in ("center", "start")}
    compare(tmp_path, {**SWEEP, **references, "models": models})


@pytest.mark.slow
@pytest.mark.parametrize("kernels", [300, 6000], ids=["while it trains", "while it analyses"])
def test_a_sweep_that_runs_out_of_memory_equals_that_of_the_cpu(machine: Machine, tmp_path: Path, kernels: int) -> None:
    """It continues with smaller sizes."""

    def fail(_: object) -> None:
        if machine.counts.kernels.total() >= kernels:
            machine.counts.clear()
            machine.before_kernel.clear()
            raise torch.OutOfMemoryError("CUDA out of memory")

    machine.before_kernel.append(fail)
    with pytest.warns(DeviceWarning, match="out of memory .*: the sweep continues with one grid point at a time"):
        compare(tmp_path, SWEEP)
    assert not machine.before_kernel


@pytest.mark.slow
def test_a_device_plans_and_rechecks_a_sweep(machine: Machine, tmp_path: Path) -> None:
    run_sweep(config({}, "cpu"), tmp_path / "s.zarr")
    found = recheck(tmp_path / "s.zarr", trust=True)
    assert not found.problems
    assert len(found.checked) == 2
    assert plan_sweep(config({}, "cuda:1")).total == 2


def worker_devices() -> list[str]:
    """The devices of the experiments that this Dask worker has prepared."""
    return [str(worker.experiment.device) for worker in dask_executor._prepared.values()]


@pytest.mark.slow
def test_dask_workers_share_the_devices(machine: Machine, tmp_path: Path) -> None:
    settings = {"path": "independent", "l2": "0,0.001,0.005,0.01"}
    run_sweep(config(settings, "cpu"), tmp_path / "cpu.zarr")
    preload = {"distributed.worker.preload": ["tests.support.stand_in_device.dask_preload"]}
    with (
        dask.config.set(preload),
        LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", env={"OMP_NUM_THREADS": "1"}
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        run_sweep(config(settings, "cuda"), tmp_path / "cuda.zarr", scheduler=cluster.scheduler_address)
        devices = client.run(worker_devices)
    assert sorted(devices.values()) == [["cuda:0"], ["cuda:1"]]
    assert_equal_results(results(tmp_path / "cuda.zarr"), results(tmp_path / "cpu.zarr"))
