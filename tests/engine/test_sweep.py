from __future__ import annotations

import errno
import os
import re
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import hesstore
from hesstore import durable_files
from hesstore.config import SweepConfig
from hesstore.engine import executor
from hesstore.engine.sweep import SweepEvent, run_sweep
from hesstore.errors import (
    ConfigError,
    ConfigMismatchError,
    CorruptStoreError,
    DataError,
    DeviceError,
    HesstoreError,
    StoreError,
)
from hesstore.problem import training_data
from hesstore.problem.models import build
from hesstore.problem.seeds import derived_seed
from hesstore.store import Status
from hesstore.store.writing import Entries, SweepStore
from tests.support.sweeps import TIMES, Stop, results, stop_at
from tests.support.toy import TOY

MakeConfig = Callable[..., SweepConfig]


def test_numbers_equal_an_independent_calculation(toy_config: MakeConfig, tmp_path: Path) -> None:
    """Compute every stored number of every grid point again from the stored weights, in float64, in another way."""
    config = toy_config(hessian_samples=0)
    summary = run_sweep(config, tmp_path / "s.zarr")
    assert (summary.complete, summary.failed, summary.computed) == (4, 0, 4)
    ds = hesstore.open(tmp_path / "s.zarr").sel(run=0).load()
    data = training_data.load("tests.support.toy:digits")
    model = build("mlp", (6, 5), (64,), 10, seed=0)
    module = model.module.double()
    for l2 in config.l2:
        point = ds.sel(l2=l2)
        theta = torch.from_numpy(point["weights"].values).double()
        nn.utils.vector_to_parameters(theta, module.parameters())

        def mean_loss(at: torch.Tensor) -> torch.Tensor:
            return nn.functional.cross_entropy(model.logits(at, data.train.x.double()), data.train.y)

        dense: torch.Tensor = torch.func.hessian(mean_loss)(theta)
        exact = torch.linalg.eigvalsh(dense)
        lowest, exact = exact[:2].numpy(), exact[exact.abs().argsort(descending=True)[:6]].numpy()
        vectors = torch.from_numpy(point["eigenvectors"].values).double()
        scale = np.abs(exact[0])
        assert np.allclose(np.abs(point["eigenvalues"]), np.abs(exact), rtol=2e-3, atol=1e-5 * scale)
        residual = torch.linalg.vector_norm(
            vectors @ dense - torch.tensor(point["eigenvalues"].values)[:, None] * vectors, dim=1
        )
        assert np.allclose(residual, point["residual_norm"], rtol=0.1, atol=2e-6 * scale)
        assert np.allclose(vectors @ vectors.T, np.eye(6), atol=1e-5)
        assert np.allclose(point["lowest_eigenvalues"], lowest[0], rtol=2e-3, atol=1e-5 * scale)
        one = torch.from_numpy(point["lowest_eigenvectors"].values).double()
        residual = torch.linalg.vector_norm(one @ dense - float(point["lowest_eigenvalues"][0]) * one, dim=1)
        assert np.allclose(residual, point["lowest_residual_norm"], rtol=0.1, atol=2e-6 * scale)
        assert "; lowest: complete" in str(point["solver_message"].values)
        assert np.allclose(torch.func.grad(mean_loss)(theta), point["gradient"], atol=1e-6)
        for split, (x, y) in (("train", data.train), ("test", data.test)):
            logits = module(x.double()).detach()
            predicted = logits.argmax(1)
            part = point.sel(split=split)
            assert float(part["loss"]) == pytest.approx(float(nn.functional.cross_entropy(logits, y)), rel=1e-5)
            assert float(part["accuracy"]) == pytest.approx(float((predicted == y).double().mean()), abs=1e-12)
            for label in range(10):
                of_class = y == label
                assert float(part["class_accuracy"].sel(label=label)) == pytest.approx(
                    float((predicted[of_class] == label).double().mean()), abs=1e-12
                )
                counts = predicted[of_class].bincount(minlength=10)
                assert part["confusion"].sel(label=label).values.tolist() == counts.tolist()
        assert float(point["penalty"]) == pytest.approx(l2 / 2 * float(theta.square().sum()), rel=1e-6)
        assert int(point["status"]) == Status.COMPLETE
        assert bool(point["converged"].all())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "direction", "seeds"),
    [
        ("continuation", "both", "3"),
        ("independent", "down", "3,1"),
    ],
)
def test_an_interrupted_and_resumed_sweep_equals_an_uninterrupted_one(
    toy_config: MakeConfig, tmp_path: Path, path: str, direction: str, seeds: str
) -> None:
    config = toy_config(path=path, direction=direction, seeds=seeds)
    run_sweep(config, tmp_path / "whole.zarr")
    for attempt in range(2, 60):
        try:
            run_sweep(config, tmp_path / "parts.zarr", observer=stop_at(attempt))
        except Stop:
            continue
        break
    expected, found = results(tmp_path / "whole.zarr"), results(tmp_path / "parts.zarr")
    xr.testing.assert_identical(found, expected)
    assert (found["status"] == Status.COMPLETE).all()
    files = {f.relative_to(tmp_path / "whole.zarr") for f in (tmp_path / "whole.zarr").rglob("c/**/*") if f.is_file()}
    assert len(files) > 20
    for file in files:
        if file.parts[0] not in TIMES:
            assert (tmp_path / "whole.zarr" / file).read_bytes() == (tmp_path / "parts.zarr" / file).read_bytes(), file


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of the toy sweep, which no test changes."""
    path = tmp_path_factory.mktemp("finished") / "s.zarr"
    run_sweep(SweepConfig.from_mapping(TOY), path)
    return path


def test_a_complete_sweep_computes_nothing_again(toy_config: MakeConfig, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "s.zarr")
    before = {f: f.stat().st_mtime_ns for f in (tmp_path / "s.zarr").rglob("c/**/*")}
    summary = run_sweep(toy_config(device="auto"), tmp_path / "s.zarr")
    assert summary.computed == 0
    assert before == {f: f.stat().st_mtime_ns for f in (tmp_path / "s.zarr").rglob("c/**/*")}


def test_another_config_is_refused_and_changes_nothing(toy_config: MakeConfig, finished: Path) -> None:
    before = results(finished)
    with pytest.raises(ConfigMismatchError) as caught:
        run_sweep(toy_config(lr=0.5, l2="0,1"), finished)
    assert set(caught.value.differences) == {"lr", "l2"}
    xr.testing.assert_identical(results(finished), before)


@pytest.mark.slow
def test_a_continuation_starts_from_the_previous_grid_point(toy_config: MakeConfig, tmp_path: Path) -> None:
    """With a tiny step, all weights of a run stay at the initial weights of its seed."""
    config = toy_config(optimizer="sgd", lr=1e-12, direction="both")
    run_sweep(config, tmp_path / "still.zarr")
    weights = hesstore.open(tmp_path / "still.zarr")["weights"].values
    start = build("mlp", (6, 5), (64,), 10, derived_seed("init", 0)).theta().numpy()
    assert np.allclose(weights, start, atol=1e-9)
    run_sweep(toy_config(direction="both"), tmp_path / "up.zarr")
    run_sweep(toy_config(direction="both", path="independent"), tmp_path / "ind.zarr")
    chain, alone = (hesstore.open(tmp_path / name)["weights"].values for name in ("up.zarr", "ind.zarr"))
    assert np.array_equal(chain[0, 0], alone[0, 0])  # both start from initial weights
    assert np.array_equal(chain[1, -1], alone[1, -1])
    assert not np.array_equal(chain[0, -1], alone[0, -1])
    assert not np.array_equal(chain[0, 1], chain[1, 1])


@pytest.mark.slow
def test_seeds_differ_and_a_run_does_not_depend_on_the_others(toy_config: MakeConfig, tmp_path: Path) -> None:
    run_sweep(toy_config(seeds="0,1"), tmp_path / "two.zarr")
    run_sweep(toy_config(seeds="1"), tmp_path / "one.zarr")
    two, one = hesstore.open(tmp_path / "two.zarr"), hesstore.open(tmp_path / "one.zarr")
    assert np.array_equal(two["eigenvectors"].sel(run=1), one["eigenvectors"].sel(run=0))
    assert not np.array_equal(two["weights"].sel(run=0), two["weights"].sel(run=1))


@pytest.mark.slow
def test_a_refined_grid_keeps_the_random_numbers_of_its_points(toy_config: MakeConfig, tmp_path: Path) -> None:
    run_sweep(toy_config(path="independent"), tmp_path / "a.zarr")
    run_sweep(toy_config(path="independent", l2="0,0.0005,0.001,0.002,0.01,0.05"), tmp_path / "b.zarr")
    coarse, fine = hesstore.open(tmp_path / "a.zarr"), hesstore.open(tmp_path / "b.zarr")
    assert np.array_equal(fine["eigenvectors"].sel(l2=coarse["l2"]), coarse["eigenvectors"])


@pytest.mark.slow
def test_diverged_grid_points_fail_with_their_reason_and_the_run_continues(
    toy_config: MakeConfig, tmp_path: Path
) -> None:
    """With this step size, λ = 1000 multiplies the weights by −19 at each step. The smaller λ converge."""
    config = toy_config(optimizer="sgd", lr=0.02, l2="0,0.001,1000,2000", epochs=12, patience=12)
    events: list[SweepEvent] = []
    summary = run_sweep(config, tmp_path / "s.zarr", observer=events.append)
    ds = hesstore.open(tmp_path / "s.zarr").sel(run=0)
    assert ds["status"].values.tolist() == [2, 2, 3, 3]
    assert (summary.complete, summary.failed) == (2, 2)
    assert "at λ = 1000" in str(ds["failure"].values[2])
    assert ds["weights"].sel(l2=1000).isnull().all()
    assert [event.phase for event in events if event.phase in {"complete", "failed"}] == ["complete"] * 2 + [
        "failed"
    ] * 2
    down = toy_config(optimizer="sgd", lr=0.02, l2="0,0.001,1000", epochs=12, patience=12, direction="down")
    run_sweep(down, tmp_path / "d.zarr")
    assert hesstore.open(tmp_path / "d.zarr")["status"].values.tolist() == [[2, 2, 3]]
    again = run_sweep(config, tmp_path / "s.zarr")
    assert again.computed == 0


@pytest.mark.parametrize("solver", ["lanczos", "eigsh"])
def test_a_fit_fails_if_its_last_step_makes_the_weights_infinite(
    toy_config: MakeConfig, tmp_path: Path, solver: str
) -> None:
    config = toy_config(optimizer="sgd", lr=1e30, epochs=1, batch_size=300, l2="0,1", solver=solver)
    assert run_sweep(config, tmp_path / "s.zarr").failed == 2
    assert hesstore.open(tmp_path / "s.zarr")["weights"].isnull().all()


@pytest.mark.slow
def test_missing_weights_stop_a_resumed_sweep_and_no_grid_point_fails(toy_config: MakeConfig, tmp_path: Path) -> None:
    with pytest.raises(Stop):
        run_sweep(toy_config(), tmp_path / "s.zarr", observer=stop_at(8))
    (weights, *_) = sorted(f for f in (tmp_path / "s.zarr" / "weights" / "c").rglob("*") if f.is_file())
    kept = weights.read_bytes()
    for content in (None, b"", kept[:-1]):
        weights.unlink()
        if content is not None:
            weights.write_bytes(content)
        with pytest.raises(CorruptStoreError, match=r"is missing or empty|damaged"):
            run_sweep(toy_config(), tmp_path / "s.zarr")
        weights.write_bytes(kept)
    assert run_sweep(toy_config(), tmp_path / "s.zarr").complete == 4


def test_a_store_of_another_config_is_refused_before_data_are_loaded(finished: Path) -> None:
    with pytest.raises(
        ConfigMismatchError, match=r"dataset is tests\.support\.toy:digits in the store, mnist in the config"
    ):
        run_sweep(SweepConfig.from_mapping({"data_dir": "/nowhere"}), finished)


@pytest.mark.slow
@pytest.mark.parametrize(
    "values",
    [
        {"path": "independent", "models": 3},  # 4 grid points: a full stack and a remainder
        # More models than the grid points of one run:
        {"path": "independent", "models": 8, "direction": "both", "which": "LA"},
        {"path": "continuation", "models": 4, "seeds": "3,1,2"},  # fits of 3 runs and analyses of 4 grid points
        {"path": "continuation", "models": 3, "dtype": "float64", "optimizer": "sgd", "lr": 0.1},
        {"path": "continuation", "models": 2, "solver": "eigsh"},
    ],
)
def test_models_side_by_side_equal_single_models(
    toy_config: MakeConfig, tmp_path: Path, values: dict[str, object], device: torch.device
) -> None:
    """They are equal up to float32 rounding, because training is too short to amplify it."""
    values = {**values, "device": device.type}
    summary = run_sweep(toy_config(**values), tmp_path / "many.zarr")
    run_sweep(toy_config(**{**values, "models": 1}), tmp_path / "one.zarr")
    many, one = results(tmp_path / "many.zarr"), results(tmp_path / "one.zarr")
    assert summary.complete == one["status"].size
    assert summary.pending == 0
    for name in ("status", "epochs", "confusion", "converged", "accuracy"):
        xr.testing.assert_equal(many[name], one[name])
    for name in ("weights", "loss", "gradient", "eigenvalues", "penalty"):
        scale = float(np.abs(one[name]).max())
        assert np.allclose(many[name], one[name], rtol=0, atol=2e-6 * scale), name  # 1e-7 was observed
    assert np.allclose(many["matvecs"], one["matvecs"], atol=1)
    gram = np.einsum("rlmp,rlnp->rlmn", many["eigenvectors"], many["eigenvectors"])
    assert np.allclose(gram, np.eye(6), atol=1e-5)


@pytest.mark.slow
def test_a_model_of_a_stack_that_diverges_fails_alone(toy_config: MakeConfig, tmp_path: Path) -> None:
    values = {"optimizer": "sgd", "lr": 0.02, "l2": "0,0.001,1000,2000", "epochs": 12, "patience": 12}
    run_sweep(toy_config(**values, path="independent", models=4), tmp_path / "s.zarr")
    ds = hesstore.open(tmp_path / "s.zarr").sel(run=0)
    assert ds["status"].values.tolist() == [2, 2, 3, 3]
    assert "at λ = 1000" in str(ds["failure"].values[2])


@pytest.mark.parametrize("models", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_a_sweep_stops_after_the_current_grid_points_and_is_resumed(
    toy_config: MakeConfig, tmp_path: Path, models: int
) -> None:
    config = toy_config(direction="both", path="independent", models=models)
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > 2

    stopped = run_sweep(config, tmp_path / "s.zarr", stop=stop)
    assert (stopped.complete, stopped.pending, stopped.computed, stopped.total) == (models, 8 - models, models, 8)
    statuses = hesstore.open(tmp_path / "s.zarr")["status"].values
    assert sorted(statuses.ravel().tolist()) == [0] * (8 - models) + [2] * models
    run_sweep(config, tmp_path / "s.zarr", stop=lambda: True)
    assert np.array_equal(hesstore.open(tmp_path / "s.zarr")["status"].values, statuses)
    assert run_sweep(config, tmp_path / "s.zarr").complete == 8


@pytest.mark.slow
def test_a_failed_write_stops_the_sweep_with_its_reason(
    toy_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full at the third record. Nothing later is written, and the sweep can be resumed."""
    put_large = SweepStore.put_large
    calls = 0

    def failing(self: SweepStore, *arguments: Any) -> Entries:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "weights/c/0/1/0")
        return put_large(self, *arguments)

    monkeypatch.setattr(SweepStore, "put_large", failing)
    with pytest.raises(OSError, match="No space left"):
        run_sweep(toy_config(), tmp_path / "s.zarr")
    assert calls == 3
    statuses = hesstore.open(tmp_path / "s.zarr")["status"].values[0].tolist()
    assert statuses[1:] == [0, 0, 0]  # the first grid point has what was recorded before the third record
    monkeypatch.undo()
    run_sweep(toy_config(), tmp_path / "s.zarr")
    run_sweep(toy_config(), tmp_path / "whole.zarr")
    xr.testing.assert_identical(results(tmp_path / "s.zarr"), results(tmp_path / "whole.zarr"))


@pytest.mark.slow
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EMFILE, errno.EIO])
def test_the_error_of_a_failed_write_names_the_file_and_the_sweep_is_resumed(
    toy_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def failing(step: str, path: Path) -> None:
        if step == "fsync" and "eigenvectors/c/0/1" in str(path):
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(durable_files, "observe", failing)
    with pytest.raises(OSError, match=re.escape(os.strerror(number))) as caught:
        run_sweep(toy_config(l2="0,0.01"), tmp_path / "s.zarr")
    assert "eigenvectors" in str(caught.value.filename)
    monkeypatch.undo()
    # The fit of the grid point whose analysis can't be written is lost too if both wait for the disk together.
    assert hesstore.open(tmp_path / "s.zarr")["status"].values.tolist() in ([[2, 1]], [[2, 0]])
    assert list(tmp_path.rglob("*.partial")) == []
    assert run_sweep(toy_config(l2="0,0.01"), tmp_path / "s.zarr").complete == 2


def test_a_store_that_is_moved_away_is_not_created_again(toy_config: MakeConfig, tmp_path: Path) -> None:
    def observe(event: SweepEvent) -> None:
        if event.phase == "complete" and event.finished == 1:  # several may have been written together
            (tmp_path / "s.zarr").rename(tmp_path / "elsewhere")

    many = ",".join(str(step / 1000) for step in range(12))
    with pytest.raises(FileNotFoundError):
        run_sweep(toy_config(l2=many), tmp_path / "s.zarr", observer=observe)
    assert not (tmp_path / "s.zarr").exists()


def test_space_is_checked_before_anything_is_written(
    toy_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_sweep(toy_config(l2="0"), tmp_path / "complete.zarr")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(StoreError, match=r"need about [\d.]+ [kM]B, but only 1\.0 kB are free there"):
        run_sweep(toy_config(), tmp_path / "s.zarr")
    assert not (tmp_path / "s.zarr").exists()
    assert run_sweep(toy_config(l2="0"), tmp_path / "complete.zarr").computed == 0  # no work, no space


@pytest.mark.slow
def test_results_that_a_reader_sees_as_complete_never_change(toy_config: MakeConfig, tmp_path: Path) -> None:
    """A reader polls the store during the whole sweep."""
    seen: dict[float, np.ndarray[Any, Any]] = {}
    done = threading.Event()

    def poll() -> None:
        while not done.is_set():
            if not (tmp_path / "s.zarr").exists():
                continue
            ds = xr.open_zarr(tmp_path / "s.zarr").isel(run=0)
            for l2 in ds["l2"].values[ds["status"].values == Status.COMPLETE]:
                values = ds["eigenvectors"].sel(l2=l2).values
                assert np.isfinite(values).all()
                assert np.array_equal(seen.setdefault(float(l2), values), values)

    with ThreadPoolExecutor(1) as pool:
        polling = pool.submit(poll)
        run_sweep(toy_config(), tmp_path / "s.zarr")
        done.set()
        polling.result(timeout=60)
    assert seen
    final = hesstore.open(tmp_path / "s.zarr")["eigenvectors"].isel(run=0)
    assert all(np.array_equal(final.sel(l2=l2).values, values) for l2, values in seen.items())


@pytest.mark.slow
def test_only_the_selected_runs_are_computed(toy_config: MakeConfig, tmp_path: Path) -> None:
    config = toy_config(seeds="0,1")
    summary = run_sweep(config, tmp_path / "s.zarr", runs=[1])
    assert (summary.complete, summary.pending, summary.total) == (4, 0, 4)
    assert hesstore.open(tmp_path / "s.zarr")["status"].sum("l2").values.tolist() == [0, 8]
    with pytest.raises(ConfigError, match=r"run: 2 does not exist: .* has runs 0 to 1"):
        run_sweep(config, tmp_path / "s.zarr", runs=[2])
    with pytest.raises(ConfigError, match="run: 7 does not exist"):
        run_sweep(config, tmp_path / "new.zarr", runs=[7])
    assert not (tmp_path / "new.zarr").exists()


@pytest.mark.slow
def test_events_come_in_order_and_only_when_results_are_on_disk(
    toy_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "INTERVAL", 0.0)
    events: list[SweepEvent] = []

    def observe(event: SweepEvent) -> None:
        events.append(event)
        if event.phase == "complete":
            point = hesstore.open(tmp_path / "s.zarr").sel(run=event.run.id, l2=event.value)
            assert int(point["status"]) == Status.COMPLETE
            assert event.facts["test_accuracy"] == float(point["accuracy"].sel(split="test"))

    run_sweep(toy_config(seeds="0,1"), tmp_path / "s.zarr", observer=observe)
    assert events[0].phase == "opened"
    assert [event.finished for event in events if event.phase == "complete"] == list(range(1, 9))
    for run in range(2):
        for l2 in toy_config().l2:
            of_point = [event for event in events[1:] if (event.run.id, event.value) == (run, l2)]
            products = [event.facts["product"] for event in of_point if "product" in event.facts]
            assert products == list(range(1, len(products) + 1))
            assert len(products) >= int(of_point[-1].facts["matvecs"])  # the trace takes some more
            phases = [event.phase for event in of_point if "product" not in event.facts]
            assert phases == ["fitting"] * 3 + ["analysing", "complete"]


@pytest.mark.slow
def test_the_collapsed_phase(toy_config: MakeConfig, tmp_path: Path) -> None:
    """At a λ that drives θ to zero, all k eigenpairs are found, orthonormal, in few products."""
    config = toy_config(l2="0.3,3", k=30, epochs=40, lr=0.01, batch_size=16)
    run_sweep(config, tmp_path / "s.zarr")
    ds = hesstore.open(tmp_path / "s.zarr").sel(run=0)
    assert float(np.abs(ds["weights"].sel(l2=3)).max()) < 0.1
    for l2 in config.l2:
        vectors = ds["eigenvectors"].sel(l2=l2).values
        assert np.allclose(vectors @ vectors.T, np.eye(30), atol=1e-5)
        assert int(ds["matvecs"].sel(l2=l2)) < 300
        values = np.abs(ds["eigenvalues"].sel(l2=l2).values)
        assert values[8] > 10 * values[9]


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"solver": "eigsh"}, {"dtype": "float64"}, {"hessian_samples": 100}])
def test_variants(toy_config: MakeConfig, finished: Path, tmp_path: Path, options: dict[str, object]) -> None:
    run_sweep(toy_config(**options), tmp_path / "other.zarr")
    base, other = (hesstore.open(path).sel(run=0, l2=0.01).load() for path in (finished, tmp_path / "other.zarr"))
    assert bool(other["converged"].all())
    close = np.allclose(other["eigenvalues"], base["eigenvalues"], rtol=1e-3)
    assert close == ("hessian_samples" not in options)  # the Hessian over a subset of the rows is a different one
    assert np.allclose(other["gradient"], base["gradient"], atol=1e-4)  # the gradient is always taken over all rows


@pytest.mark.parametrize("which", ["LA", pytest.param("SA", marks=pytest.mark.slow)])
def test_other_ends_of_the_spectrum(toy_config: MakeConfig, tmp_path: Path, which: str) -> None:
    run_sweep(toy_config(which=which, l2="0", epochs=1), tmp_path / "s.zarr")
    values = hesstore.open(tmp_path / "s.zarr")["eigenvalues"].values[0, 0]
    assert np.array_equal(values, np.sort(values)[:: 1 if which == "SA" else -1])
    assert (values[0] < 0) == (which == "SA")


def test_custom_model(toy_config: MakeConfig, tmp_path: Path) -> None:
    run_sweep(toy_config(model="tests.support.toy:cnn", l2="0.001"), tmp_path / "s.zarr")
    ds = hesstore.open(tmp_path / "s.zarr")
    assert set(ds["layer"].values.tolist()) == {"conv", "head"}
    assert (ds["status"] == Status.COMPLETE).all()


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"k": 500, "max_matvecs": 600}, ConfigError, "k: 500 must be below the number of parameters, 485"),
        ({"lowest": 486}, ConfigError, "lowest: 486 must not exceed the number of parameters, 485"),
        ({"blocks": "layer", "block_k": 486}, ConfigError, "block_k: 486 must not exceed the number of parameters"),
        ({"hessian_samples": 301}, DataError, "subset of 301 rows"),
        ({"dataset": "tests.support.toy:with_nan"}, DataError, "NaN"),
        ({"dataset": "tests.support.toy:overflowing"}, DataError, "in float32: .* NaN or infinite"),
        ({"hidden": "100000000000"}, ConfigError, "memory: 7 eigenpairs .* take at least"),
        ({"device": "tpu"}, DeviceError, "use auto, cpu"),
        ({"device": "mps"}, DeviceError, "not supported"),
    ],
)
def test_nothing_is_written_for_bad_input(
    toy_config: MakeConfig, tmp_path: Path, values: dict[str, object], error: type[HesstoreError], message: str
) -> None:
    with pytest.raises(error, match=message):
        run_sweep(toy_config(**values), tmp_path / "s.zarr")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_absent(toy_config: MakeConfig, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="no CUDA device: use --device cpu"):
        run_sweep(toy_config(device="cuda"), tmp_path / "s.zarr")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_sweep_agrees_with_cpu(toy_config: MakeConfig, tmp_path: Path) -> None:
    for device in ("cpu", "cuda"):
        run_sweep(toy_config(device=device, dtype="float64"), tmp_path / f"{device}.zarr")
    cpu, cuda = (hesstore.open(tmp_path / f"{device}.zarr") for device in ("cpu", "cuda"))
    assert np.allclose(cpu["eigenvalues"], cuda["eigenvalues"], rtol=1e-5)
    assert np.allclose(cpu["weights"], cuda["weights"], rtol=1e-5, atol=1e-6)
