from __future__ import annotations

import dataclasses
import json
import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hesstore import plan_sweep
from hesstore.config import SweepConfig
from hesstore.curvature import FlatHessian
from hesstore.curvature.model_check import ModelCheck
from hesstore.engine import environment, speed_probe, sweep_plan, work_sizes
from hesstore.engine.experiment import Experiment
from hesstore.engine.speed_probe import Rates
from hesstore.engine.sweep import run_sweep
from hesstore.engine.sweep_plan import Span, SweepPlan
from hesstore.errors import ConfigError, ConfigMismatchError, ModelError, StoreError
from hesstore.store import Run, Status
from hesstore.store.writing import SweepStore
from tests.support.sweeps import untimed
from tests.support.toy import TOY

MakeConfig = Callable[..., SweepConfig]


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SweepPlan]:
    """A store whose sweep was planned, and the plan."""
    path = tmp_path_factory.mktemp("planned") / "s.zarr"
    plans: list[SweepPlan] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed_probe, "BUDGET", dict.fromkeys(speed_probe.BUDGET, 0.02))
        run_sweep(SweepConfig.from_mapping({**TOY, "epochs": 2}), path, on_plan=plans.append)
    (plan,) = plans
    return path, plan


def files(path: Path) -> dict[str, object]:
    return untimed({str(f.relative_to(path)): f.read_bytes() for f in path.rglob("*") if f.is_file()})


@pytest.mark.slow
def test_a_planned_sweep_ends_with_the_same_bytes(
    planned: tuple[Path, SweepPlan], toy_config: MakeConfig, tmp_path: Path
) -> None:
    """The probe uses the programs, the trainer and the Hessian of the sweep without changing them."""
    run_sweep(toy_config(epochs=2), tmp_path / "s.zarr")
    assert len(files(tmp_path / "s.zarr")) > 100
    assert files(planned[0]) == files(tmp_path / "s.zarr")


def test_the_plan_of_a_new_sweep(planned: tuple[Path, SweepPlan]) -> None:
    path, plan = planned
    assert (plan.total, plan.fits, plan.analyses, plan.complete, plan.failed) == (4, 4, 4, 0, 0)
    assert (plan.train_rows, plan.test_rows, plan.parameters, plan.k, plan.together) == (300, 100, 485, 6, 1)
    assert plan.epochs == Span(2, 2)  # fewer than the patience
    assert plan.seconds is not None
    assert 0 < plan.seconds.least < plan.seconds.most < 60
    assert "measured here" in plan.basis
    store = SweepStore.open(path)
    assert plan.fingerprint == store.group.attrs["fingerprint"]
    matvecs = store.entries("matvecs", store.runs[0]).sum()
    assert plan.products.least / 2 < matvecs + 4 * sweep_plan.geometry_products(SweepConfig.from_mapping(TOY))
    assert plan.disk_now == 0 < plan.disk_end.least < plan.disk_end.most  # before the store is made
    end = sum(f.stat().st_size for f in path.rglob("*"))
    assert plan.disk_end.least < end
    assert plan.memory_least == (8 + 3 * 7) * 485 * 4 < plan.memory_free
    assert json.loads(json.dumps(dataclasses.asdict(plan)))["disk_end"]["most"] == plan.disk_end.most


def test_complete_grid_points_are_the_basis_of_the_plan(
    planned: tuple[Path, SweepPlan], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A store of this machine needs no probe. A store of another machine gives the counts, and the probe the times."""
    path = shutil.copytree(planned[0], tmp_path / "s.zarr")
    config = SweepConfig.from_mapping({**TOY, "epochs": 2})
    probes: list[tuple[object, ...]] = []

    def probe(*given: object) -> Rates:
        probes.append(given)
        return Rates(step=0.25, product=2.0, vector=0.0)

    monkeypatch.setattr(speed_probe, "measure_rates", probe)
    over = plan_sweep(config, path)
    assert (over.analyses, over.products, over.seconds, over.complete) == (0, Span(0, 0), Span(0, 0), 4)
    assert over.disk_end == Span(over.disk_now, over.disk_now)

    run = Run(0, 0, "up")
    store = SweepStore.open(path)
    store.withdraw(run, [3])
    seconds = [store.entries(name, run)[:3] for name in ("fit_seconds", "analysis_seconds")]
    low, high = np.sum([np.quantile(each, (0.25, 0.75)) for each in seconds], axis=0)
    before = files(path)
    left = plan_sweep(config, path)
    assert (left.fits, left.analyses, left.basis) == (
        1,
        1,
        "from 3 complete grid points, one after the other",
    )
    assert left.seconds == Span(pytest.approx(low), pytest.approx(high))  # type: ignore[arg-type]
    assert left.epochs == Span(2, 2)
    assert files(path) == before
    assert probes == []

    with monkeypatch.context() as elsewhere:
        other_machine: dict[str, Any] = {**environment.describe(torch.device("cpu")), "threads": 64}
        elsewhere.setattr(environment, "describe", lambda _: other_machine)
        other = plan_sweep(config, path)
    (given,) = probes
    assert given[1:] == (1, 1)
    assert other.basis == "measured here: 0.25 s per training step, 2 s per product; counts from 3 complete grid points"
    assert other.seconds is not None
    assert other.seconds.least > 2 * 5 * 0.25 + 2.0 * other.products.least - 1e-9  # 5 steps per epoch

    with pytest.raises(ConfigMismatchError, match="k is 6 in the store, 5 in the config"):
        plan_sweep(dataclasses.replace(config, k=5), path)
    with pytest.raises(ConfigError, match="run: 7 does not exist"):
        plan_sweep(config, path, runs=[7])


def test_the_plan_of_a_store_that_is_to_grow(
    planned: tuple[Path, SweepPlan], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The plan has the same numbers as the store after it has grown."""
    path = shutil.copytree(planned[0], tmp_path / "s.zarr")
    SweepStore.open(path).withdraw(Run(0, 0, "up"), [1])
    monkeypatch.setattr(speed_probe, "measure_rates", lambda *_: Rates(1.0, 1.0, 0.0))
    for changes, work in (
        ({"l2": "0,0.001,0.002,0.01,0.05,0.06", "seeds": "0,4"}, (9, 9)),
        ({"k": 7}, (1, 4)),
    ):
        config = SweepConfig.from_mapping({**TOY, "epochs": 2, **changes})
        before = files(path)
        plan = plan_sweep(config, path, grow=True)
        assert (plan.fits, plan.analyses) == work
        assert files(path) == before
    found: list[SweepPlan] = []
    run_sweep(config, path, grow=True, on_plan=found.append, stop=lambda: True)
    assert (found[0].fits, found[0].analyses) == work
    assert found[0].seconds is None  # a sweep that is to stop measures nothing
    with pytest.raises(ConfigMismatchError, match="which the config does not have"):
        plan_sweep(dataclasses.replace(config, l2=(0.0,)), path, grow=True)


def test_a_sweep_without_room_is_refused_before_anything_is_written(
    toy_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed_probe, "measure_rates", lambda *_: Rates(1.0, 1.0, 0.0))
    huge = toy_config(hidden="3000000,3000000")
    for begin in (run_sweep, plan_sweep):
        with pytest.raises(ConfigError, match=r"memory: 7 eigenpairs of 9,000,[\d,]+ parameters take at least 1044"):
            begin(huge, tmp_path / "s.zarr")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(StoreError, match="make room"):
        plan_sweep(toy_config(), tmp_path / "s.zarr")
    assert list(tmp_path.iterdir()) == []
    assert plan_sweep(toy_config()).disk_free is None  # a plan without a store


def test_memory_is_that_of_all_models_together() -> None:
    assert work_sizes.least_bytes(1000, 30, 4, 3) == 3 * 98 * 4000
    device = torch.device("cpu")
    work_sizes.check_memory(device, 1000, 30, 4, 3)
    with pytest.raises(ConfigError, match="30 eigenpairs of 1000000000 models of 1,000 parameters"):
        work_sizes.check_memory(device, 1000, 30, 4, 10**9)


@pytest.mark.parametrize("stacked", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_probe_draws_no_random_numbers(toy_config: MakeConfig, *, stacked: bool) -> None:
    config = toy_config(seeds="0,1", models=2 if stacked else 1)
    experiment = Experiment.prepare(config)
    state = torch.get_rng_state()
    new = np.full(4, Status.PENDING, np.int8)
    statuses = {Run(index, index, "up"): new for index in range(2)}
    assert sweep_plan._stack_sizes(experiment, statuses) == ((2, 2) if stacked else (1, 1))
    rates = speed_probe.measure_rates(experiment, *sweep_plan._stack_sizes(experiment, statuses))
    assert (torch.get_rng_state() == state).all()
    assert min(dataclasses.astuple(rates)) > 0
    assert speed_probe.measure_rates(experiment, 0, 1).step == 0


class SlowTrainer:
    """Takes steps as slow as those of threads that wait for each other."""

    x = torch.zeros(1)

    def __init__(self) -> None:
        self.taken: list[int] = []

    def take_steps(self, count: int) -> None:
        self.taken.append(count)
        time.sleep(0.01 * count)


def test_slow_training_steps_are_measured_on_a_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed_probe, "BUDGET", {"step": 0.02})
    trainer: Any = SlowTrainer()
    assert speed_probe._step_seconds(trainer) >= 0.01
    assert trainer.taken == [speed_probe.FEW_STEPS] * 3


def test_counts_of_products() -> None:
    config = SweepConfig.from_mapping({"l2": "0"})
    assert sweep_plan.spectrum_products(config) == Span(105, 288)
    assert sweep_plan.spectrum_products(dataclasses.replace(config, lowest=0)) == Span(105, 240)
    assert sweep_plan.spectrum_products(dataclasses.replace(config, max_matvecs=90)) == Span(90, 90)
    whole = sweep_plan.geometry_products(config)
    assert whole == pytest.approx(16.5 + 12 + 7.5 + 1.6)
    bare = sweep_plan.geometry_products(dataclasses.replace(config, response=0, probes=0))
    assert bare == pytest.approx(whole - 12 - 7.5)
    dense = sweep_plan.geometry_products(dataclasses.replace(config, density=True))
    assert dense == pytest.approx(whole + 4 * 64)
    deep = sweep_plan.geometry_products(dataclasses.replace(config, hidden=(8, 8, 8)))
    assert deep == pytest.approx(whole - 7.5 + 17.5)  # its trace is estimated
    assert math.isclose((Span(1, 2) * 3 + 1).most, 7)


def test_a_custom_network_is_planned_before_its_class_curvatures_are_checked(
    toy_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both come before anything is written. The products of check, probe and sweep use one traced program."""
    traced, events = [], []
    trace, check = FlatHessian._trace, ModelCheck.check_class_curvatures

    def counted(hessian: FlatHessian, *arguments: Tensor) -> object:
        traced.append(arguments)
        return trace(hessian, *arguments)

    def refused(*arguments: object) -> None:
        check(*arguments)  # type: ignore[arg-type]
        events.append("checked")
        raise ModelError("second derivatives that contradict each other")

    monkeypatch.setattr(FlatHessian, "_trace", counted)
    monkeypatch.setattr(ModelCheck, "check_class_curvatures", refused)
    monkeypatch.setattr(speed_probe, "BUDGET", dict.fromkeys(speed_probe.BUDGET, 0.02))
    path = tmp_path / "s.zarr"
    config = toy_config(model="tests.support.toy:cnn", chunk_rows=100)
    with pytest.raises(ModelError, match="contradict each other"):
        run_sweep(config, path, on_plan=lambda plan: events.append(plan.basis[:8]))
    assert events == ["measured", "checked"]
    assert not path.exists()
    assert len(traced) == 1
