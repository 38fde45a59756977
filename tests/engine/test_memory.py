"""Running out of memory on a device, by errors that stand-ins raise above a given size."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import xarray as xr

from hesstore.config import SweepConfig
from hesstore.curvature import HessianOperator
from hesstore.engine import preparation, speed_probe, work_sizes
from hesstore.engine.sweep import plan_sweep, run_sweep
from hesstore.engine.work_sizes import LEAST_ROWS, Sizes
from hesstore.errors import DeviceError, DeviceWarning
from hesstore.training import Trainer
from tests.support.sweeps import results

MakeConfig = Callable[..., SweepConfig]


def exhausted(*_: object, **__: object) -> None:
    raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def recorded_sizes(path: Path) -> list[dict[str, int]]:
    return [json.loads(file.read_text())["sizes"] for file in (path / "environments").glob("*.json")]


def limit(monkeypatch: pytest.MonkeyPatch, owner: type, method: str, is_too_large: Callable[[Any], bool]) -> None:
    """Have a method run out of memory on objects that are too large."""
    original = getattr(owner, method)

    def limited(self: Any, *arguments: Any) -> Any:
        return exhausted() if is_too_large(self) else original(self, *arguments)

    monkeypatch.setattr(owner, method, limited)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("owner", "method", "is_too_large"),
    [
        (Trainer, "_train_epoch", lambda trainer: trainer.copies > 2),
        (HessianOperator, "matvec", lambda operator: operator.theta.dim() == 2 and len(operator.theta) > 2),
    ],
)
def test_a_stack_that_does_not_fit_is_halved(
    toy_config: MakeConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    owner: type,
    method: str,
    is_too_large: Callable[[Any], bool],
) -> None:
    values = {"l2": "0,0.001,0.01,0.05", "path": "independent", "epochs": 2, "response": 0, "probes": 0}
    run_sweep(toy_config(**values, models=2), tmp_path / "two.zarr")
    limit(monkeypatch, owner, method, is_too_large)
    with pytest.warns(DeviceWarning, match=r"Tried to allocate 2.00 GiB\): the sweep continues with 2 grid points"):
        summary = run_sweep(toy_config(**values, models=4), tmp_path / "four.zarr")
    assert (summary.complete, summary.computed) == (4, 4)
    expected, found = results(tmp_path / "two.zarr"), results(tmp_path / "four.zarr")
    if owner is HessianOperator:  # the fits were in a stack of four
        xr.testing.assert_allclose(expected.eigenvalues, found.eigenvalues, rtol=1e-4)
    else:
        xr.testing.assert_identical(expected, found)
    assert [sizes["models"] for sizes in recorded_sizes(tmp_path / "four.zarr")] == [2]


@pytest.mark.slow
def test_one_model_that_does_not_fit_takes_fewer_rows(
    toy_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"l2": "0,0.05", "epochs": 1, "response": 0, "probes": 0}
    run_sweep(toy_config(**values, chunk_rows=256), tmp_path / "few.zarr")
    limit(monkeypatch, HessianOperator, "matvec", lambda operator: max(len(c.y) for c in operator._chunks) > 150)
    monkeypatch.setattr(work_sizes, "CPU_ROWS", 512)
    with pytest.warns(DeviceWarning, match=r"continues with 256 rows per pass instead of 512"):
        run_sweep(toy_config(**values, chunk_rows=0), tmp_path / "all.zarr")
    expected, found = results(tmp_path / "few.zarr"), results(tmp_path / "all.zarr")
    xr.testing.assert_identical(expected.drop_vars("loss"), found.drop_vars("loss"))
    assert {"models": 1, "chunk_rows": 256} in recorded_sizes(tmp_path / "all.zarr")


def test_rows_that_the_config_fixes_stay_and_the_error_is_one_line(
    toy_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, HessianOperator, "matvec", lambda _: True)
    with (
        pytest.warns(DeviceWarning, match="without cached activations, which gives the same results"),
        pytest.raises(DeviceError, match=r"^device: cpu is out of memory .*: use --chunk-rows below 128, a") as error,
    ):
        run_sweep(toy_config(l2="0", epochs=1), tmp_path / "s.zarr")
    assert "\n" not in str(error.value)


def test_memory_that_is_short_before_the_first_grid_point(
    toy_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(speed_probe, "measure_rates", exhausted)
        plan = plan_sweep(toy_config())
        assert plan.seconds is None
        assert plan.basis == "time not measured: cpu ran out of memory"
    monkeypatch.setattr(preparation, "move_data", exhausted)
    with pytest.raises(DeviceError, match=r"^device: cpu is out of memory \(CUDA out of memory. Tried .*--device$"):
        plan_sweep(toy_config())


def test_sizes_become_smaller_until_nothing_is_left() -> None:
    sizes: Sizes | None = Sizes(64, 2000, 8.0)
    seen = []
    while sizes is not None:
        seen.append((sizes.models, sizes.chunk_rows))
        sizes = sizes.smaller(sizes.models, keep_rows=False)
    assert seen == [*((models, 2000) for models in (64, 32, 16, 8, 4, 2, 1)), (1, 1000), (1, 500), (1, LEAST_ROWS)]
    few = Sizes(64, 2000, 8.0).smaller(5, keep_rows=True)
    assert few == Sizes(2, 2000, 4.0)
    assert Sizes(1, 2000, 0.0).smaller(1, keep_rows=True) is None
