from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import hesstore
from hesstore.config import SweepConfig
from hesstore.engine.sweep import run_sweep
from hesstore.errors import ConfigMismatchError, StoreBusyError
from hesstore.store import Status
from hesstore.store.writing import SweepStore
from tests.support.command_line import RunHesstore
from tests.support.sweeps import Stop, results, stop_at
from tests.support.toy import TOY

MakeConfig = Callable[..., SweepConfig]
SMALL = {"l2": "0,0.01", "seeds": "3", "direction": "up"}
LARGE = {"l2": "0,0.001,0.01,0.05", "seeds": "1,3", "direction": "both"}


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("swept") / "s.zarr"
    run_sweep(SweepConfig.from_mapping({**TOY, **SMALL}), path)
    return path


@pytest.fixture
def small(swept: Path, tmp_path: Path) -> Path:
    """A store of the small sweep."""
    return Path(shutil.copytree(swept, tmp_path / "s.zarr"))


@pytest.mark.slow
def test_a_grown_store_is_one_that_was_made_large(toy_config: MakeConfig, tmp_path: Path) -> None:
    """Where λ do not depend on each other. What was complete is not computed again; runs keep their IDs."""
    run_sweep(toy_config(path="independent", **SMALL), tmp_path / "s.zarr")
    before = results(tmp_path / "s.zarr")
    summary = run_sweep(toy_config(path="independent", **LARGE), tmp_path / "s.zarr", grow=True)
    assert (summary.complete, summary.computed) == (16, 14)
    grown = results(tmp_path / "s.zarr")
    xr.testing.assert_identical(grown.sel(run=[0], l2=before["l2"]), before)
    assert list(zip(grown["seed"].values, grown["direction"].values, strict=True)) == [
        (3, "up"), (1, "up"), (1, "down"), (3, "down")
    ]  # fmt: skip
    run_sweep(toy_config(path="independent", **LARGE), tmp_path / "large.zarr")
    large = results(tmp_path / "large.zarr")
    xr.testing.assert_identical(grown.isel(run=[1, 2, 0, 3]).drop_vars("run"), large.drop_vars("run"))
    assert run_sweep(toy_config(path="independent", **LARGE), tmp_path / "s.zarr").computed == 0
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []


@pytest.mark.slow
@pytest.mark.slow
def test_a_refined_continuation_keeps_what_it_has(toy_config: MakeConfig, tmp_path: Path) -> None:
    run_sweep(toy_config(l2="0,0.01"), tmp_path / "s.zarr")
    before = results(tmp_path / "s.zarr")
    run_sweep(toy_config(l2="0,0.005,0.01,0.02"), tmp_path / "s.zarr", grow=True)
    grown = results(tmp_path / "s.zarr")
    xr.testing.assert_identical(grown.sel(l2=before["l2"]), before)
    assert (grown["status"] == Status.COMPLETE).all()
    assert float(grown["eigenvalues"].sel(run=0, l2=0.005, mode=0)) > 0
    assert grown.sel(l2=0.0049, method="nearest")["l2"] == 0.005


@pytest.mark.slow
@pytest.mark.parametrize("values", [{"k": 9}, {"tol": 1e-6}, {"which": "LA"}, {"hessian_samples": 100}])
def test_other_spectra_of_the_same_weights(toy_config: MakeConfig, tmp_path: Path, values: dict[str, object]) -> None:
    """Nothing is trained again; the spectra are those of a new store."""
    run_sweep(toy_config(l2="0,0.01"), tmp_path / "s.zarr")
    before = hesstore.open(tmp_path / "s.zarr").load()
    phases: list[str] = []
    config = toy_config(l2="0,0.01", **values)
    run_sweep(config, tmp_path / "s.zarr", grow=True, observer=lambda event: phases.append(event.phase))
    assert "fitting" not in phases
    grown = hesstore.open(tmp_path / "s.zarr").load()
    for name in ("weights", "fit_seconds", "epochs", "confusion"):
        xr.testing.assert_identical(grown[name], before[name])
    run_sweep(config, tmp_path / "new.zarr")
    xr.testing.assert_identical(results(tmp_path / "s.zarr"), results(tmp_path / "new.zarr"))


@pytest.mark.slow
def test_what_is_half_done_stays_half_done(toy_config: MakeConfig, tmp_path: Path) -> None:
    with pytest.raises(Stop):
        run_sweep(toy_config(**SMALL, lr=0.01), tmp_path / "s.zarr", observer=stop_at(6))
    run_sweep(toy_config(**LARGE, lr=0.01), tmp_path / "s.zarr", grow=True)
    assert (hesstore.open(tmp_path / "s.zarr")["status"] == Status.COMPLETE).all()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"l2": "0,0.02"}, "has λ = 0.01, which the config does not have"),
        ({"seeds": "0"}, "has a run that the config does not have"),
        ({"k": 2}, "which k = 2 would reduce: give at least 6"),
        ({"lowest": 0}, "which lowest = 0 would reduce: give at least 1"),
        ({"lr": 0.5}, "other fits: lr is 0.0015 in the store, 0.5 in the config"),
        ({"dataset": "mnist-5k"}, r"dataset is tests\.support\.toy:digits in the store, mnist-5k in the config"),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(
    toy_config: MakeConfig, small: Path, tmp_path: Path, values: dict[str, object], words: str
) -> None:
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*") if file.is_file()}
    with pytest.raises(ConfigMismatchError, match=words):
        run_sweep(toy_config(**{**SMALL, **values}), small, grow=True)
    assert before == {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*") if file.is_file()}


def test_a_store_in_use_does_not_grow(toy_config: MakeConfig, small: Path) -> None:
    store = SweepStore.open(small)
    with store.claim(store.runs[0]):
        with pytest.raises(StoreBusyError, match=f"process {os.getpid()}"):
            run_sweep(toy_config(**LARGE), small, grow=True)


class Killed(BaseException):
    """Nothing runs after it, as after kill -9."""


@pytest.mark.slow
@pytest.mark.parametrize("step", ["first link", "last link", "first rename", "second rename", "clean-up"])
def test_killed_half_way(toy_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """The old store is there, or the new one; the same command goes on."""

    small, large = toy_config(path="independent", **SMALL), toy_config(path="independent", **LARGE)
    run_sweep(small, tmp_path / "s.zarr")
    before = results(tmp_path / "s.zarr")
    links, renames, link, rename = 0, 0, os.link, Path.rename

    def killing_link(source: Path, target: Path) -> None:
        nonlocal links
        links += 1
        if step == "first link" or (step == "last link" and links == 6):
            raise Killed
        link(source, target)

    def killing_rename(self: Path, target: Path) -> Path:
        nonlocal renames
        renames += 1
        if (step, renames) in {("first rename", 1), ("second rename", 2)}:
            raise Killed
        return rename(self, target)

    def removed(folder: Path, *, ignore_errors: bool) -> None:
        if step == "clean-up":
            raise Killed

    monkeypatch.setattr(os, "link", killing_link)
    monkeypatch.setattr(Path, "rename", killing_rename)
    monkeypatch.setattr(shutil, "rmtree", removed)
    with pytest.raises(Killed):
        run_sweep(large, tmp_path / "s.zarr", grow=True)
    monkeypatch.undo()
    if step != "second rename":
        found = results(tmp_path / "s.zarr")
        xr.testing.assert_identical(found.sel(run=[0], l2=before["l2"]), before)
    assert run_sweep(large, tmp_path / "s.zarr", grow=True).complete == 16
    xr.testing.assert_identical(results(tmp_path / "s.zarr").sel(run=[0], l2=before["l2"]), before)
    assert list(tmp_path.glob(".*.old")) == []


@pytest.mark.slow
def test_what_another_store_left_is_let_alone(toy_config: MakeConfig, tmp_path: Path) -> None:
    """Names that begin alike, and one that is a pattern."""
    others = [tmp_path / ".s.zarr.b.12345678.old", tmp_path / ".s1.zarr.12345678.old"]
    for other in others:
        other.mkdir()
    for name in ("s.zarr", "s[1].zarr"):
        run_sweep(toy_config(l2="0"), tmp_path / name)
    assert all(other.is_dir() for other in others)


@pytest.mark.slow
def test_without_hard_links(toy_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "no links here")

    run_sweep(toy_config(**SMALL), tmp_path / "s.zarr")
    before = results(tmp_path / "s.zarr")
    monkeypatch.setattr(os, "link", refused)
    run_sweep(toy_config(**LARGE), tmp_path / "s.zarr", grow=True)
    xr.testing.assert_identical(results(tmp_path / "s.zarr").sel(run=[0], l2=before["l2"]), before)


@pytest.mark.slow
def test_from_the_command_line(run_hesstore: RunHesstore, toy_arguments: list[str]) -> None:
    assert run_hesstore("sweep", "s.zarr", *toy_arguments).returncode == 0
    refused = run_hesstore("sweep", "s.zarr", *toy_arguments, "--seeds", "0,1")
    assert refused.returncode == 3
    assert "--grow" in refused.stderr
    done = run_hesstore("sweep", "s.zarr", *toy_arguments, "--seeds", "0,1", "--grow")
    assert done.returncode == 0
    assert "8 grid points complete in s.zarr; 4 computed now" in done.stderr


def test_nothing_is_lost_of_weights_that_a_test_compares(small: Path, tmp_path: Path) -> None:
    """Links share their bytes: writing to the grown store leaves a copy of the old one as it was."""
    store = SweepStore.open(small)
    kept = tmp_path / "kept"
    os.link(store.file_of("weights", store.runs[0], 0), kept)
    content = kept.read_bytes()
    store.put_arrays(
        store.runs[0], 0, Status.FITTED, {"weights": np.zeros_like(store.read("weights", store.runs[0], 0))}
    )
    assert kept.read_bytes() == content
