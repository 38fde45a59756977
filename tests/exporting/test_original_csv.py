from __future__ import annotations

import csv
import io
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn

import hesstore
from hesstore.config import SweepConfig
from hesstore.engine.sweep import run_sweep
from hesstore.errors import CorruptStoreError, ExportError
from hesstore.exporting import export
from hesstore.exporting.file_names import value_decimals
from hesstore.exporting.number_text import number_text
from hesstore.problem.models import MLP
from hesstore.store import Status, SweepStore

L2 = ("0.00000", "0.00100", "0.01000", "0.05000")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "s.zarr"
    config = SweepConfig.from_mapping(
        {
            "dataset": "tests.support.toy:digits",
            "hidden": "6,5",
            "l2": ",".join(L2),
            "k": 6,
            "epochs": 2,
            "direction": "both",
        }
    )
    run_sweep(config, path)
    return path


@pytest.fixture
def ds(store: Path) -> xr.Dataset:
    return hesstore.open(store).load()


def test_the_five_kinds_of_file(store: Path, ds: xr.Dataset, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    summary = export(store, tmp_path, progress=lambda done, total: seen.append((done, total)))
    expected = {f"Model-{run}_split_accuracy.csv" for run in (0, 1)}
    for run in (0, 1):
        for l2 in L2:
            expected |= {
                f"{kind}-{run}-{l2}.csv" for kind in ("Hessian-eigenvalues", "Hessian-eigenvectors", "gradients")
            }
            expected.add(f"model_weights-{run}-{l2}.pth")
    assert {file.name for file in tmp_path.iterdir()} == {*expected, "manifest.jsonl"}
    assert summary.files == len(expected) == 34
    assert summary.bytes == sum((tmp_path / name).stat().st_size for name in expected)
    assert (summary.skipped, summary.present, summary.path) == ((), 0, tmp_path)
    assert seen == sorted(seen)
    assert seen[-1] == (summary.bytes, summary.bytes)


def test_accuracy_file(store: Path, ds: xr.Dataset, tmp_path: Path) -> None:
    export(store, tmp_path, only=["accuracy"])
    header = "L2_strength,Train_Loss,Train_Reg_Loss,Test_Loss,Test_Accuracy," + ",".join(
        f"Class_{label}_Accuracy" for label in range(10)
    )
    for run in (0, 1):
        text = (tmp_path / f"Model-{run}_split_accuracy.csv").read_text()
        assert text.splitlines()[0] == header
        rows = list(csv.DictReader(io.StringIO(text)))
        table = {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}
        one_run = ds.sel(run=run)
        assert table["L2_strength"].tolist() == [0.0, 0.001, 0.01, 0.05]
        assert np.array_equal(table["Train_Loss"], one_run["loss"].sel(split="train"))
        # The weights have norm ‖θ‖, and the penalty of the objective is (λ/2)‖θ‖².
        added = table["L2_strength"] * np.square(one_run["weights"].values.astype(float)).sum(axis=1)
        assert np.allclose(table["Train_Reg_Loss"], one_run["loss"].sel(split="train") + added, rtol=1e-12)
        assert np.array_equal(table["Test_Loss"], one_run["loss"].sel(split="test"))
        assert np.allclose(table["Test_Accuracy"], 100 * one_run["accuracy"].sel(split="test"), rtol=1e-15)
        for label in range(10):
            assert np.allclose(
                table[f"Class_{label}_Accuracy"],
                100 * one_run["class_accuracy"].sel(split="test", label=label),
                rtol=1e-15,
                equal_nan=True,
            )


def test_the_regularised_loss_of_the_objective(store: Path, ds: xr.Dataset, tmp_path: Path) -> None:
    """Tables of the other definition are written again, and other files have no such definition."""
    for reg_loss, factor in (("full", 2), ("objective", 1), ("full", 2)):
        assert export(store, tmp_path, only=["accuracy"], reg_loss=reg_loss).files == 2
        assert export(store, tmp_path, only=["accuracy"], reg_loss=reg_loss).files == 0
        for run in (0, 1):
            table = pd.read_csv(tmp_path / f"Model-{run}_split_accuracy.csv")
            expected = ds["loss"].sel(run=run, split="train") + factor * ds["penalty"].sel(run=run)
            assert np.array_equal(table["Train_Reg_Loss"], expected)
    with pytest.raises(ExportError, match="'half' is not one of full, objective"):
        export(store, tmp_path, reg_loss="half")
    for options in ({"style": "tidy"}, {"only": ["weights"]}, {"format": "netcdf"}):
        with pytest.raises(ExportError, match="reg_loss: objective applies only to the tables of losses"):
            export(store, tmp_path / "x", reg_loss="objective", **options)


def test_eigenvalues_eigenvectors_and_gradients_read_back_bit_for_bit(
    store: Path, ds: xr.Dataset, tmp_path: Path
) -> None:
    export(store, tmp_path)
    for run in (0, 1):
        for l2 in L2:
            point = ds.sel(run=run, l2=float(l2))
            lines = (tmp_path / f"Hessian-eigenvalues-{run}-{l2}.csv").read_text().splitlines()
            assert [float(line) for line in lines] == point["eigenvalues"].values.tolist()
            with (tmp_path / f"Hessian-eigenvectors-{run}-{l2}.csv").open(newline="") as file:
                rows = np.array(list(csv.reader(file)), dtype=np.float32)
            assert np.array_equal(rows, point["eigenvectors"].values)
            loaded = np.loadtxt(tmp_path / f"Hessian-eigenvectors-{run}-{l2}.csv", delimiter=",", dtype=np.float32)
            assert np.array_equal(loaded, point["eigenvectors"].values)
            lines = (tmp_path / f"gradients-{run}-{l2}.csv").read_text().splitlines()
            names = [line.split(": ")[0] for line in lines]
            assert names == [f"dL/dfc{i}.{kind}" for i in (1, 2, 3) for kind in ("weight", "bias")]
            values = np.array(", ".join(line.split(": ")[1] for line in lines).split(", "), dtype=np.float32)
            assert np.array_equal(values, point["gradient"].values)


def test_weights_load_into_the_users_module(store: Path, ds: xr.Dataset, tmp_path: Path) -> None:
    export(store, tmp_path, only=["weights"], runs=[1], l2=[0.01])
    (file,) = tmp_path.glob("model_weights-*")
    state = torch.load(file, weights_only=True)
    module = MLP(64, (6, 5), 10)
    module.load_state_dict(state)
    theta = nn.utils.parameters_to_vector(module.parameters()).detach()
    assert np.array_equal(theta, ds["weights"].sel(run=1, l2=0.01))
    assert all(part.untyped_storage().nbytes() == part.nbytes for part in state.values())  # no shared, larger storage


def test_a_choice_of_files(store: Path, tmp_path: Path) -> None:
    summary = export(
        hesstore.open(store), tmp_path / "a" / "b", l2=[0.05, 0.001, 0.001], runs=[1], only=["gradients", "eigenvalues"]
    )
    assert sorted(file.name for file in (tmp_path / "a" / "b").glob("*.csv")) == [
        "Hessian-eigenvalues-1-0.00100.csv",
        "Hessian-eigenvalues-1-0.05000.csv",
        "gradients-1-0.00100.csv",
        "gradients-1-0.05000.csv",
    ]
    assert summary.files == 4


def test_nothing_is_overwritten_without_force(store: Path, tmp_path: Path) -> None:
    victim = tmp_path / "gradients-0-0.01000.csv"
    victim.write_text("mine")
    with pytest.raises(
        ExportError,
        match=r"1 of 34 files exist already and are not from this export \(such as gradients-0-0.01000.csv\).*--force",
    ):
        export(store, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [victim.name]
    assert victim.read_text() == "mine"
    export(store, tmp_path, force=True)
    assert victim.read_text().startswith("dL/dfc1.weight: ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"l2": [0.002]}, "λ = 0.002 is not in the store: the nearest is 0.001"),
        ({"runs": [2]}, "run 2 is not in the store: it has 0, 1"),
        ({"only": []}, "only: is empty"),
        ({"only": ["eigenvalue"]}, "'eigenvalue' is not one of accuracy, eigenvalues"),
    ],
)
def test_missing_choices_are_named(store: Path, tmp_path: Path, options: dict[str, list[object]], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        export(store, tmp_path / "out", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_a_part_of_a_dataset_keeps_its_run_ids(ds: xr.Dataset, tmp_path: Path) -> None:
    export(ds, tmp_path / "whole", runs=[1])
    for part in (ds.isel(run=[1]), ds.isel(run=[1, 0])):
        out = tmp_path / f"part{part.sizes['run']}"
        export(part, out, runs=[1])
        for file in (tmp_path / "whole").glob("*.csv"):
            assert (out / file.name).read_bytes() == file.read_bytes()


def test_missing_or_damaged_data_are_not_exported(store: Path, tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    shutil.copytree(store, path)
    (chunk,) = [f for f in (path / "weights" / "c" / "0" / "2").rglob("*") if f.is_file()]
    content = chunk.read_bytes()
    for damaged in (content[:-2] + b"xy", None):
        chunk.unlink()
        if damaged is not None:
            chunk.write_bytes(damaged)
        with pytest.raises(CorruptStoreError, match="weights"):
            export(path, tmp_path / "out", only=["weights"], force=True)


def test_only_complete_grid_points_are_exported(store: Path, tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    shutil.copytree(store, path)
    writer = SweepStore.open(path)
    for run, index, status in ((0, 1, Status.FITTED), (1, 0, Status.FAILED), (1, 3, Status.PENDING)):
        statuses = writer.status(writer.runs[run])
        statuses[index] = status
        writer.put_all("status", writer.runs[run], statuses)
        writer.seal_entries(writer.runs[run])
    summary = export(path, tmp_path / "out")
    assert summary.skipped == ((0, 0.001), (1, 0.0), (1, 0.05))
    assert not list((tmp_path / "out").glob("*-0-0.00100*"))
    assert pd.read_csv(tmp_path / "out" / "Model-1_split_accuracy.csv")["L2_strength"].tolist() == [0.001, 0.01]
    for each in writer.runs:
        writer.withdraw(each, range(4))
    with pytest.raises(ExportError, match="none of the 8 chosen grid points is complete"):
        export(path, tmp_path / "none")


def test_names_have_as_many_decimals_as_the_grid_needs() -> None:
    assert value_decimals(np.array([0.0, 0.0002]), "l2") == 5
    assert value_decimals(np.array([0.0, 0.000001]), "l2") == 6
    assert value_decimals(np.array([0.0, 1e-10]), "l2") == 10
    assert value_decimals(np.array([0.123456789, 0.123456788]), "l2") == 9


@given(hnp.arrays(np.float32, st.integers(1, 30), elements=st.floats(width=32, allow_nan=True)))
def test_float32_text_reads_back(values: np.ndarray) -> None:
    parts = bytes(number_text(values, b",")).decode().split(",")
    back = np.array(parts, dtype=np.float32)
    assert np.array_equal(back.view(np.int32)[~np.isnan(values)], values.view(np.int32)[~np.isnan(values)])
    assert np.array_equal(np.isnan(back), np.isnan(values))


@given(hnp.arrays(np.float64, st.integers(1, 30), elements=st.floats(allow_nan=True)))
def test_float64_text_reads_back(values: np.ndarray) -> None:
    back = np.array(bytes(number_text(values, b", ")).decode().split(", "), dtype=np.float64)
    assert np.array_equal(back, values, equal_nan=True)
    assert np.array_equal(np.signbit(back)[~np.isnan(values)], np.signbit(values)[~np.isnan(values)])


def test_export_without_torch_but_for_weights(store: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    code = (
        "import sys; from hesstore.exporting import export\n"
        "export(sys.argv[1], sys.argv[2], only=['accuracy', 'eigenvectors', 'gradients'])\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(store), str(tmp_path / "o")], check=True, env=environment)
