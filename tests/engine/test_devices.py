from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from hesstore.config import SweepConfig
from hesstore.engine import environment, preparation, speed_probe
from hesstore.engine.devices import computing_on
from hesstore.engine.precision import check_precision, full_precision, set_full_precision
from hesstore.engine.speed_probe import Rates
from hesstore.engine.sweep import SweepPlan, plan_sweep, run_sweep
from hesstore.errors import DeviceError
from hesstore.store.schema import Run
from hesstore.store.writing import SweepStore

MakeConfig = Callable[..., SweepConfig]
CPU = torch.device("cpu")


def precisions() -> list[object]:
    """The settings by which operations may round float32 numbers to fewer digits; None if PyTorch refuses to say."""
    backends: Any = torch.backends

    def read(get: Callable[[], object]) -> object:
        try:
            return get()
        except RuntimeError:
            return None

    newer = [backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn, backends.mkldnn.matmul]
    return [
        read(torch.get_float32_matmul_precision),
        read(lambda: backends.cuda.matmul.allow_tf32),
        read(lambda: backends.cudnn.allow_tf32),
        *(each.fp32_precision for each in newer if hasattr(each, "fp32_precision")),
    ]


def _older(value: str) -> None:
    torch.set_float32_matmul_precision(value)


def _newer(value: str) -> None:
    torch.backends.cuda.matmul.fp32_precision = value


@pytest.mark.parametrize(("change", "value"), [(_older, "medium"), (_newer, "tf32")])
def test_operations_use_their_full_precision_and_the_settings_are_restored(
    change: Callable[[str], None], value: str
) -> None:
    if change is _newer and not hasattr(torch.backends.cuda.matmul, "fp32_precision"):
        pytest.skip("this version of PyTorch has only the older settings")
    unchanged = precisions()
    assert True in unchanged  # PyTorch lets cuDNN use TF32
    restore = set_full_precision()
    try:
        change(value)
        before = precisions()
        assert {"medium", "tf32"} & set(before)
        with pytest.raises(KeyError):
            _fail_in_full_precision()
        assert precisions() == before
    finally:
        restore()
    assert precisions() == unchanged


def test_blocks_of_full_precision_may_overlap() -> None:
    """As those of two workers that are threads of one process."""
    unchanged = precisions()
    first, second = full_precision(), full_precision()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert precisions() != unchanged
    second.__exit__(None, None, None)
    assert precisions() == unchanged


def _fail_in_full_precision() -> None:
    with full_precision():
        assert set(precisions()) <= {False, "highest", "ieee"}
        raise KeyError


def test_sweeps_and_plans_set_the_precision_and_record_it(toy_config: MakeConfig, tmp_path: Path) -> None:
    before, seen = precisions(), list[list[object]]()
    config = toy_config(l2="0", epochs=1)
    run_sweep(config, tmp_path / "s.zarr", observer=lambda _: seen.append(precisions()))
    plan_sweep(config, tmp_path / "s.zarr")
    assert len(seen) >= 3
    assert all(set(each) <= {False, "highest", "ieee"} for each in seen)
    assert precisions() == before
    made = json.loads(str(SweepStore.open(tmp_path / "s.zarr").group.attrs["environment"]))
    assert made["numerics"]["float32_matmul_precision"] == "highest"
    with computing_on(CPU):
        on_gpu = environment._numerics(torch.device("cuda"))
    assert (on_gpu["tf32_matmul"], on_gpu["tf32_cudnn"]) == (False, False)


def test_a_device_that_rounds_to_fewer_digits_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    check_precision(CPU)
    exact = torch.eye(64)
    monkeypatch.setattr(torch, "eye", lambda *_, **__: exact * (1 + 2.0**-11))
    with pytest.raises(DeviceError, match="NVIDIA_TF32_OVERRIDE"):
        check_precision(CPU)


def test_the_precision_of_a_gpu_is_checked_for_float32(toy_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[torch.device] = []
    monkeypatch.setattr(preparation, "check_precision", checked.append)
    gpu = torch.device("cuda:1")
    preparation.check_device(toy_config(), gpu)
    preparation.check_device(toy_config(dtype="float64"), gpu)
    preparation.check_device(toy_config(), CPU)
    assert checked == [gpu]


# -- threads --------------------------------------------------------------------------------------------------


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process in which no environment variable fixes the number of threads."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    assert torch.get_num_threads() == 2  # a sweep restores it
    torch.set_num_threads(before)


def made_with(path: Path) -> int:
    return int(json.loads(str(SweepStore.open(path).group.attrs["environment"]))["threads"]["torch"])


@pytest.mark.slow
@pytest.mark.usefixtures("two_threads")
def test_the_faster_number_of_threads_is_used_named_and_kept(
    toy_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = 1
    counts: list[int] = []
    plans: list[SweepPlan] = []

    def probe(*_: object) -> Rates:
        counts.append(torch.get_num_threads())
        return Rates(step=1.0, product=2.0 if torch.get_num_threads() == slow else 1.0, vector=0.0)

    monkeypatch.setattr(speed_probe, "measure_rates", probe)
    config = toy_config(l2="0,0.01", epochs=1)
    plan = plan_sweep(config)
    assert (plan.threads, plan.threads_reason) == (2, "")
    slow = 2
    run_sweep(config, tmp_path / "s.zarr", on_plan=plans.append)
    assert (plans[0].threads, plans[0].threads_reason) == (1, "faster here than 2")
    assert made_with(tmp_path / "s.zarr") == 1
    slow = 1
    store = SweepStore.open(tmp_path / "s.zarr")
    store.withdraw(Run(0, 0, "up"), [1])
    counts.clear()
    run_sweep(config, tmp_path / "s.zarr")
    assert plan_sweep(config, tmp_path / "s.zarr").threads_reason == "as in the store"
    assert not (tmp_path / "s.zarr" / "environments").exists()
    assert 2 not in counts


@pytest.mark.usefixtures("two_threads")
def test_a_given_number_of_threads_is_used(toy_config: MakeConfig, tmp_path: Path) -> None:
    config = toy_config(l2="0", epochs=1, threads=3)
    run_sweep(config, tmp_path / "s.zarr", on_plan=lambda _: None)
    assert made_with(tmp_path / "s.zarr") == 3
    assert config.identity() == toy_config(l2="0", epochs=1).identity()
