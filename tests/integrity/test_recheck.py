from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from hesstore.config import SweepConfig
from hesstore.engine.sweep import run_sweep
from hesstore.errors import CorruptStoreError, StoreError
from hesstore.integrity.recheck import recheck
from hesstore.integrity.verify import verify
from hesstore.problem import training_data
from hesstore.store import Status, SweepStore
from hesstore.store.digest import digest
from hesstore.store.places.durable_store import DurableLocalStore
from hesstore.store.schema import promised_large, promised_small
from hesstore.store.writing import Entries
from tests.support.toy import TOY

CONFIG = {**TOY, "lr": 0.02}
IDENTITY = SweepConfig.from_mapping(CONFIG).identity()
LARGE = promised_large(IDENTITY, Status.COMPLETE)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "s.zarr"
    run_sweep(SweepConfig.from_mapping(CONFIG), path)
    return path


@pytest.fixture
def store(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "s.zarr"))


def forge(path: Path, name: str, index: int, change: float) -> None:
    """Change a result by a share of its size, digests and all: only a calculation can tell."""
    store = SweepStore.open(path)
    run = store.runs[0]
    names = (*LARGE, *promised_small(IDENTITY, Status.COMPLETE))
    values: dict[str, Any] = {each: store.read(each, run, index)[()] for each in names}
    for each in (name, *(["class_curvature"] if name == "eigenvalues" else [])):  # which add up to them
        values[each] = (values[each] * (1 + change)).astype(values[each].dtype)
    store.record(run, index, Status.COMPLETE, values)
    assert verify(path).ok


def test_a_whole_store_follows_from_weights_and_data(whole: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = recheck(whole, trust=True, progress=lambda *step: seen.append(step))
    assert report.problems == []
    assert report.checked == [(0, 0.0), (0, 0.001), (0, 0.01), (0, 0.05)]
    assert report.modes == 5  # 4 of the k, and the lowest one
    assert report.summary is not None
    assert report.summary.text == "all 4 spectra are complete to 0.3 %"  # by searches from other random vectors
    assert seen == [(done, 4) for done in range(1, 5)]
    assert recheck(whole, trust=True, sample=2, avoid=[(0, 3)]).checked == [(0, 0.0), (0, 0.01)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "change", "what"),
    [
        ("loss", 1e-4, "loss: train is"),
        ("gradient", 1e-2, "gradient: differs by"),
        ("eigenvalues", 1e-2, "eigenvectors: mode 0 has residual norm"),
        ("lowest_eigenvalues", 1e-2, "lowest_eigenvectors: mode 0 has residual norm"),
    ],
)
def test_results_that_do_not_follow_are_found(store: Path, name: str, change: float, what: str) -> None:
    forge(store, name, 1, change)
    report = recheck(store, trust=True)
    assert {(problem.run, problem.index) for problem in report.problems} == {(0, 1)}
    assert report.problems[0].what.startswith(what)


@pytest.mark.parametrize("lost", [[1], [0, 2, 3]])
def test_eigenvalues_that_a_spectrum_lacks_are_named(store: Path, lost: list[int]) -> None:
    """The rows of an eigenpair are removed; the other rows move up, and those at the end were not found."""
    driven = SweepStore.open(store)
    run, index = driven.runs[0], 2
    names = (*LARGE, *promised_small(IDENTITY, Status.COMPLETE))
    values: dict[str, Any] = {name: np.array(driven.read(name, run, index)) for name in names}
    missing = values["eigenvalues"][lost].tolist()
    for name in ("eigenvalues", "residual_norm", "converged", "eigenvectors", "class_slope", "class_curvature"):
        rest = np.delete(values[name], lost, axis=0)
        filler = np.full((len(lost), *rest.shape[1:]), 0 if name == "converged" else np.nan)
        values[name] = np.concatenate([rest, filler]).astype(values[name].dtype)
    driven.record(run, index, Status.COMPLETE, {name: value[()] for name, value in values.items()})
    assert verify(store).ok
    report = recheck(store, trust=True)
    (problem,) = report.problems
    assert (problem.run, problem.index) == (0, index)
    verb = "is" if len(lost) == 1 else "are"
    said = re.fullmatch(rf"eigenvalues: (.*) {verb} missing beyond (.*), the stored bound .*", problem.what)
    assert said is not None
    assert [float(text) for text in said[1].split(", ")] == pytest.approx(missing, rel=1e-4)
    assert float(said[2]) == pytest.approx(float(values["eigenvalue_bound"]), rel=1e-5)
    assert len(report.spectra) == 3


def test_a_store_without_bounds_gets_them(store: Path) -> None:
    """A sweep that ended at its limit of products promises nothing; the new search still says what it has found."""
    driven = SweepStore.open(store)
    driven.put_together(driven.runs[0], [Entries(0, Status.COMPLETE, {"eigenvalue_bound": np.inf}, None)])
    report = recheck(store, trust=True, sample=1)
    assert report.problems == []
    (spectrum,) = report.spectra
    assert re.fullmatch(r"complete( to 0\.([12]\d?|3) %)?", spectrum.text)  # a bound can be closer than necessary


def test_weights_that_are_not_those_measured_are_found(store: Path) -> None:
    driven = SweepStore.open(store)
    run = driven.runs[0]
    array = zarr.open_group(DurableLocalStore(store), mode="r+")["weights"]
    assert isinstance(array, zarr.Array)
    array[0, 0] = np.asarray(array[0, 0])[::-1]
    arrays = {name: driven.read(name, run, 0) for name in LARGE}
    driven.put_together(run, [Entries(0, Status.COMPLETE, {}, digest(run, 0.0, arrays))])
    assert verify(store).ok  # their norm is the same, and at λ = 0 there is no penalty anyway
    found = {problem.what.split(":")[0] for problem in recheck(store, trust=True).problems}
    assert found == {"loss", "confusion", "gradient", "eigenvectors", "lowest_eigenvectors"}


@pytest.mark.slow
@pytest.mark.parametrize("which", ["LA", "SA"])
def test_other_ends_of_the_spectrum(which: str, tmp_path: Path) -> None:
    run_sweep(SweepConfig.from_mapping({**CONFIG, "which": which, "l2": "0.001"}), tmp_path / "s.zarr")
    assert verify(tmp_path / "s.zarr").ok
    assert recheck(tmp_path / "s.zarr", trust=True).problems == []


def test_code_that_the_store_names_is_not_run_untrusted(whole: Path) -> None:
    with pytest.raises(StoreError, match=r"names code, 'tests.support.toy:digits', .* pass --trust"):
        recheck(whole)


def test_other_data_are_told(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, test_x, test_y = (
        training_data.load("tests.support.toy:digits").train + training_data.load("tests.support.toy:digits").test
    )
    monkeypatch.setattr(
        "tests.support.toy.digits", lambda: (x.numpy() * 0.5, y.numpy(), test_x.numpy(), test_y.numpy())
    )
    with pytest.raises(CorruptStoreError, match="the data set is not the one with which it was made"):
        recheck(whole, trust=True)
