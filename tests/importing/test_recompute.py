from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import hesstore
from hesstore.config import SweepConfig
from hesstore.dataset.opening import headline
from hesstore.engine.sweep import run_sweep
from hesstore.errors import ConfigMismatchError, ImportFilesError, StoreError
from hesstore.importing import import_files
from hesstore.integrity.verify import verify
from hesstore.store import Status
from tests.support.command_line import RunHesstore
from tests.support.toy import TOY

TRAINED = {**TOY, "epochs": 2, "direction": "both", "l2": "0,0.01"}


CODE = {"dataset": "tests.support.toy:digits"}  # code that must not run if only a manifest names it


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recompute") / "s.zarr"
    run_sweep(SweepConfig.from_mapping(TRAINED), path)
    return path


@pytest.fixture(scope="module")
def files(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files") / "test_data"
    hesstore.export(store, folder)
    return folder


def opened(path: Path) -> xr.Dataset:
    return hesstore.open(path).load()


def test_all_results_are_recomputed_from_the_weights(store: Path, files: Path, tmp_path: Path) -> None:
    summary = import_files(files, tmp_path / "t.zarr", settings=CODE, recompute=True)
    assert (summary.complete, summary.pending, summary.failed) == (4, 0, 0)
    there, again = opened(store), opened(tmp_path / "t.zarr")
    changed = {"fit_seconds", "analysis_seconds", "epochs", "entries_digest"}
    for name in there.data_vars:
        if name not in changed:
            xr.testing.assert_equal(again[name], there[name])
    assert (again["epochs"] == 0).all()
    found = {each.quantity: each for each in summary.differences}
    assert len(found) == 7
    assert all(each.count == 4 for each in found.values())
    spans = found.pop("span of the eigenvectors")
    assert spans.largest <= 2e-7  # float32 vectors are unit to rounding, which may make the overlap less than one
    assert all(each.largest <= 1e-12 for each in found.values())
    report = verify(tmp_path / "t.zarr")
    assert report.ok, report.problems
    assert json.loads(again.attrs["identity"])["data_digest"] == json.loads(there.attrs["identity"])["data_digest"]


@pytest.mark.slow
def test_differences_of_altered_files(store: Path, files: Path, tmp_path: Path) -> None:
    off = tmp_path / "off"
    off.mkdir()
    for file in files.iterdir():
        (off / file.name).write_bytes(file.read_bytes())
    name = "Hessian-eigenvalues-1-0.01000.csv"
    values = np.loadtxt(files / name)
    np.savetxt(off / name, values + 0.5 * abs(values[0]))
    vectors = np.loadtxt(files / "Hessian-eigenvectors-0-0.00000.csv", delimiter=",")
    vectors[0] = np.eye(len(vectors[0]))[0]
    np.savetxt(off / "Hessian-eigenvectors-0-0.00000.csv", vectors, delimiter=",")
    text = (files / "gradients-0-0.01000.csv").read_text().splitlines(keepends=True)
    head, _, numbers = text[0].partition(": ")
    text[0] = f"{head}: {', '.join(str(2 * float(number)) for number in numbers.split(','))}\n"
    (off / "gradients-0-0.01000.csv").write_text("".join(text))
    summary = import_files(off, tmp_path / "t.zarr", settings=CODE, recompute=True)
    found = {each.quantity: each for each in summary.differences}
    assert (found["eigenvalues"].run, found["eigenvalues"].l2) == (1, 0.01)
    assert found["eigenvalues"].largest == pytest.approx(0.5, rel=1e-6)
    assert found["eigenvalues"].median == 0
    assert (found["span of the eigenvectors"].run, found["span of the eigenvectors"].l2) == (0, 0)
    assert found["span of the eigenvectors"].largest == pytest.approx(1 / 6, abs=0.05)
    size = 64 * 6
    gradient = opened(store)["gradient"].sel(run=0, l2=0.01).values.astype(float)
    expected = np.linalg.norm(gradient[:size]) / np.linalg.norm(gradient)
    assert found["gradient"].largest == pytest.approx(expected, rel=1e-5)
    xr.testing.assert_equal(opened(tmp_path / "t.zarr")["eigenvalues"], opened(store)["eigenvalues"])


def test_grid_points_without_weights_stay_as_imported(store: Path, files: Path, tmp_path: Path) -> None:
    part = tmp_path / "part"
    part.mkdir()
    for file in files.glob("*-0-*"):
        if file.name != "model_weights-0-0.01000.pth":
            (part / file.name).write_bytes(file.read_bytes())
    (part / "manifest.jsonl").write_bytes((files / "manifest.jsonl").read_bytes())
    summary = import_files(part, tmp_path / "t.zarr", settings=CODE, recompute=True)
    assert (summary.points, summary.complete) == (2, 2)
    there, again = opened(store).sel(run=0), opened(tmp_path / "t.zarr")
    assert (again["status"].sel(run=1) == Status.PENDING).all()
    again = again.sel(run=0)
    assert again["weights"].sel(l2=0.01).isnull().all()
    for name in ("trace", "eigenvalue_bound"):
        assert again[name].sel(l2=0.01).isnull(), name
    assert headline(opened(tmp_path / "t.zarr"))[2].endswith("; the other has no bound on further eigenvalues")
    for name in ("eigenvalues", "eigenvectors", "gradient"):
        assert np.array_equal(again[name], there[name])
    assert float(again["trace"].sel(l2=0)) == float(there["trace"].sel(l2=0))
    report = verify(tmp_path / "t.zarr")
    assert report.ok, report.problems


@pytest.mark.slow
def test_an_interrupted_import_continues(files: Path, tmp_path: Path) -> None:
    calls = iter([False, False, True])
    first = import_files(files, tmp_path / "t.zarr", settings=CODE, recompute=True, stop=lambda: next(calls, True))
    assert 0 < first.complete < 4
    assert first.complete + first.pending == 4
    with pytest.raises(ConfigMismatchError, match=r"other settings: tol is 0\.001 in the store, 0\.01 in the config"):
        import_files(files, tmp_path / "t.zarr", settings={**CODE, "tol": 0.01}, recompute=True)
    seen: list[str] = []
    second = import_files(
        files, tmp_path / "t.zarr", settings=CODE, recompute=True, observer=lambda event: seen.append(event.phase)
    )
    assert (second.complete, second.pending) == (4, 0)
    assert seen.count("complete") == first.pending
    assert "fitting" not in seen
    with pytest.raises(StoreError, match="this store was imported with --recompute"):
        import_files(files, tmp_path / "t.zarr")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden": "6,6"}, r"has fc2.weight \(5, 6\) where the network of the config has fc2.weight \(6, 6\)"),
        ({"hidden": "6"}, "where the network of the config has"),
        ({"dataset": "mnist-5k"}, r"fc1.weight \(6, 64\) where the network of the config has fc1.weight \(6, 784\)"),
    ],
)
def test_another_network_or_data(files: Path, tmp_path: Path, settings: dict[str, str], message: str) -> None:
    with pytest.raises(ImportFilesError, match=message):
        import_files(files, tmp_path / "t.zarr", settings={**CODE, **settings}, recompute=True)
    assert not (tmp_path / "t.zarr").exists()


def test_code_that_only_a_manifest_names_is_not_run(files: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ImportFilesError, match=r"names code, 'tests\.support\.toy:digits', which --recompute would run: pass"
    ):
        import_files(files, tmp_path / "t.zarr", recompute=True)
    assert not (tmp_path / "t.zarr").exists()


@pytest.mark.slow
def test_the_command_prints_the_differences(files: Path, run_hesstore: RunHesstore) -> None:
    done = run_hesstore("import", files, "t.zarr", "--recompute", "--dataset", "tests.support.toy:digits")
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["files", "against", "weights", "unit", "grid", "points", "median", "largest", "at"]
    assert len(lines) == 8
    assert lines[1].startswith("eigenvalues               relative to |μ₁|      4  ")
    again = run_hesstore("import", files, "t.zarr", "--recompute", "--dataset", "tests.support.toy:digits")
    assert again.stdout == done.stdout


def test_without_analyses_and_with_a_centre(tmp_path: Path) -> None:
    """Recomputed with k = 0, all grid points are complete, with the metrics and the distance of the sweep."""
    run_sweep(SweepConfig.from_mapping({**TOY, "l2": "0,0.01", "k": 0}), tmp_path / "m.zarr")
    center = f"{tmp_path}/m.zarr#0,0"
    run_sweep(SweepConfig.from_mapping({**TOY, "l2": "0.02,0.05", "k": 0, "center": center}), tmp_path / "s.zarr")
    hesstore.export(tmp_path / "s.zarr", tmp_path / "out")
    summary = import_files(tmp_path / "out", tmp_path / "t.zarr", settings=CODE, recompute=True)
    assert (summary.complete, summary.pending, summary.failed) == (2, 0, 0)
    assert verify(tmp_path / "t.zarr").ok
    there, again = opened(tmp_path / "s.zarr"), opened(tmp_path / "t.zarr")
    for name in ("weights", "distance", "penalty", "loss", "weights_norm", "center"):
        xr.testing.assert_equal(again[name], there[name])
