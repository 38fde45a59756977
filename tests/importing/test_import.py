from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import hesstore
from hesstore.dataset.opening import headline
from hesstore.errors import AnalysisError, HesstoreError, ImportFilesError, StoreError
from hesstore.importing import import_files
from hesstore.integrity.verify import verify
from hesstore.store import Status
from tests.support.command_line import RunHesstore

ROOT = Path(__file__).parents[2]
K, L2 = 3, (0.0, 0.0002, 0.0004)
SHAPES = {"fc1.weight": (2, 3), "fc1.bias": (2,), "fc2.weight": (2, 2), "fc2.bias": (2,)}
P = 14


class Original:
    """The files that the original scripts write: 9 decimals, eigenvalues in ascending order, no class columns."""

    def __init__(self, folder: Path) -> None:
        rng = np.random.default_rng(0)
        folder.mkdir()
        self.weights = rng.normal(size=(3, P)).astype(np.float32)
        self.gradient = (rng.normal(size=(3, P)) * 1e-8).astype(np.float32)
        self.eigenvalues = np.sort(rng.normal(size=(3, K)), axis=1)
        self.vectors = np.stack([np.linalg.qr(rng.normal(size=(P, K)))[0].T for _ in L2])
        rows = ["L2_strength,Train_Loss,Train_Reg_Loss,Test_Loss,Test_Accuracy"]
        for index, l2 in enumerate(L2):
            penalty = l2 * float(np.sum(self.weights[index].astype(np.float64) ** 2))  # as the authors define it
            rows.append(f"{l2 + 1e-17},{0.5:.9f},{0.5 + penalty:.9f},0.700000000,{90 - index / 3:.9f}")
            np.savetxt(folder / f"Hessian-eigenvalues-0-{l2:.5f}.csv", self.eigenvalues[index], fmt="%.9f")
            np.savetxt(folder / f"Hessian-eigenvectors-0-{l2:.5f}.csv", self.vectors[index], fmt="%.9f", delimiter=",")
            state, start, lines = {}, 0, []
            for name, shape in SHAPES.items():
                size = int(np.prod(shape))
                state[name] = torch.from_numpy(self.weights[index, start : start + size].reshape(shape).copy())
                values = ", ".join(f"{value:.9f}" for value in self.gradient[index, start : start + size])
                lines.append(f"dL/d{name}: {values}\n")
                start += size
            torch.save(state, folder / f"model_weights-0-{l2:.5f}.pth")
            (folder / f"gradients-0-{l2:.5f}.csv").write_text("".join(lines))
        (folder / "Model-0.csv").write_text("\n".join(rows) + "\n")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "test_data"


@pytest.fixture
def original(folder: Path) -> Original:
    return Original(folder)


def test_files_of_the_original_scripts(original: Original, folder: Path, tmp_path: Path) -> None:
    (folder / "readme.txt").write_text("mine")
    summary = import_files(folder, tmp_path / "s.zarr")
    assert (summary.files, summary.points, summary.complete) == (13, 3, 3)
    assert [path.name for path in summary.ignored] == ["readme.txt"]
    ds = hesstore.open(tmp_path / "s.zarr").load()
    assert ds["l2"].values.tolist() == list(L2)
    assert (ds["status"] == Status.COMPLETE).all()
    for index in range(3):
        point = ds.isel(run=0, l2=index)
        rank = np.argsort(-np.abs(np.round(original.eigenvalues[index], 9)), kind="stable")
        assert point["eigenvalues"].values.tolist() == np.round(original.eigenvalues[index], 9)[rank].tolist()
        expected = np.round(original.vectors[index], 9)[rank].astype(np.float32)
        expected *= np.sign(expected[np.arange(K), np.abs(expected).argmax(1)])[:, None]
        assert np.array_equal(point["eigenvectors"], expected)
        assert np.array_equal(point["gradient"], np.round(original.gradient[index].astype(float), 9).astype(np.float32))
        assert np.array_equal(point["weights"], original.weights[index])
        assert point["loss"].values.tolist() == [0.5, 0.7]
        assert float(point["accuracy"].sel(split="test")) == pytest.approx((90 - index / 3) / 100, abs=1e-11)
        expected_penalty = 0.5 * L2[index] * np.sum(original.weights[index] ** 2.0)
        assert float(point["penalty"]) == pytest.approx(expected_penalty, abs=1e-8)
    missing = ("class_accuracy", "residual_norm", "eigenvalue_bound", "class_curvature", "trace")
    for name in (*missing, "lowest_eigenvalues", "lowest_bound"):
        assert ds[name].isnull().all(), name
    assert headline(ds)[2].strip() == "all 3 spectra have no bound on further eigenvalues"
    assert (ds["confusion"] == -1).all()
    assert ds.sizes["label"] == 2
    assert list(ds["layer"].values) == ["fc1"] * 8 + ["fc2"] * 6
    assert json.loads(ds.attrs["config"])["penalty"] == "half"  # Train_Reg_Loss adds λ‖θ‖² in any case
    assert "9 decimals" in ds["eigenvectors"].attrs["provenance"]
    assert "5e-10" in ds["eigenvalues"].attrs["provenance"]
    assert "Model-0.csv" in ds["loss"].attrs["provenance"]
    assert "decimals" not in ds["weights"].attrs["provenance"]
    report = verify(tmp_path / "s.zarr")
    assert report.ok, report.problems


def test_some_missing_files(original: Original, folder: Path, tmp_path: Path) -> None:
    for name in (
        *("Hessian-eigenvectors-0-0.00020.csv", "model_weights-0-0.00000.pth", "gradients-0-0.00040.csv"),
        "Hessian-eigenvalues-0-0.00000.csv",
    ):
        (folder / name).unlink()
    rows = (folder / "Model-0.csv").read_text().splitlines(keepends=True)
    (folder / "Model-0.csv").write_text("".join(rows[:2]))
    import_files(folder, tmp_path / "s.zarr")
    ds = hesstore.open(tmp_path / "s.zarr").load().isel(run=0)
    there = {
        "eigenvectors": [1, 0, 1],
        "weights": [0, 1, 1],
        "gradient": [1, 1, 0],
        "eigenvalues": [0, 1, 1],
        "penalty": [1, 0, 0],
    }
    for name, expected in there.items():
        found = np.isfinite(ds[name].values.reshape(3, -1)).all(1)
        assert found.tolist() == [bool(each) for each in expected], name
    assert verify(tmp_path / "s.zarr").ok
    hesstore.export(tmp_path / "s.zarr", tmp_path / "out")
    names = {file.name for file in folder.iterdir()} - {"Model-0.csv"}
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        *names,
        "manifest.jsonl",
        "Model-0_split_accuracy.csv",
    }
    # Lost values are noticed, because the store knows which values the files lack.
    shutil.rmtree(tmp_path / "s.zarr" / "weights" / "c" / "0" / "1")
    assert not verify(tmp_path / "s.zarr").ok
    with pytest.raises(HesstoreError, match="weights/c/0/1/0: is missing or empty"):
        hesstore.export(tmp_path / "s.zarr", tmp_path / "out2")


@pytest.mark.parametrize("kept", ["Hessian-eigenvalues", "Hessian-eigenvectors", "gradients", "model_weights", "Model"])
def test_one_kind_alone(original: Original, folder: Path, tmp_path: Path, kept: str) -> None:
    for file in folder.iterdir():
        if not file.name.startswith(kept + "-"):
            file.unlink()
    import_files(folder, tmp_path / "s.zarr")
    assert verify(tmp_path / "s.zarr").ok
    hesstore.export(tmp_path / "s.zarr", tmp_path / "out")
    assert len(list((tmp_path / "out").glob(f"{kept}-*"))) == len(list(folder.iterdir()))
    ds = hesstore.open(tmp_path / "s.zarr")
    if kept == "gradients":
        assert json.loads(ds.attrs["identity"])["parameters"] == [[name, list(shape)] for name, shape in SHAPES.items()]
    with pytest.raises(AnalysisError, match="the store was imported without confusion counts"):
        ds.hess.lost_classes()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("Hessian-eigenvalues-0-0.00040.csv", "1\n2\n", "expected 3 lines, one per eigenpair, found 2"),
        ("Hessian-eigenvalues-0-0.00040.csv", "1\n2\n3\n4\n", "expected 3 lines, one per eigenpair, found 4"),
        ("Hessian-eigenvectors-0-0.00040.csv", "1,2\n", "line 1: expected 14 values, found 2"),
        ("Hessian-eigenvectors-0-0.00040.csv", ("1" + ",0" * (P - 1) + "\n") * 4, "line 4: expected only 3 lines"),
        (
            "Hessian-eigenvectors-0-0.00040.csv",
            ("1" + ",0" * (P - 1) + "\n") * 3,
            "lines 1 and 2 have the scalar product 1",
        ),
        (
            "gradients-0-0.00040.csv",
            "dL/dfc3.weight: 1\n",
            "line 1: expected fc1.weight, found the parameter 'fc3.weight'",
        ),
        ("Model-0.csv", "L2_strength,Test_Accuracy\n0.0004,200\n", "line 2: 200 is not an accuracy"),
        ("model_weights-0-0.00040.pth", "not a zip", "cannot be loaded"),
    ],
)
def test_nothing_is_half_imported(
    original: Original, folder: Path, tmp_path: Path, name: str, text: str, message: str
) -> None:
    (folder / name).write_text(text)
    with pytest.raises(ImportFilesError, match=message) as caught:
        import_files(folder, tmp_path / "s.zarr")
    assert str(folder / name) in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["test_data"]


def test_settings_and_files_that_contradict_each_other(original: Original, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ImportFilesError, match="k: 5 was given, but the files have 3 eigenpairs"):
        import_files(folder, tmp_path / "s.zarr", settings={"k": 5})
    (folder / "gradients-2-0.00040.csv").write_text((folder / "gradients-0-0.00040.csv").read_text())
    with pytest.raises(ImportFilesError, match="run ID 2 has files, but seeds and direction make only 2 runs"):
        import_files(folder, tmp_path / "s.zarr", settings={"seeds": "5,6"})
    import_files(folder, tmp_path / "s.zarr", settings={"seeds": "5,6", "direction": "both", "penalty": "half"})
    ds = hesstore.open(tmp_path / "s.zarr")
    assert ds["seed"].values.tolist() == [5, 5, 6, 6]
    assert (ds["status"].values == Status.COMPLETE).sum(1).tolist() == [3, 0, 1, 0]
    assert json.loads(ds.attrs["config"])["penalty"] == "half"


def test_paths_where_no_store_can_be_created(original: Original, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(StoreError, match="is not a Zarr store"):
        import_files(folder, tmp_path / "full")
    with pytest.raises(StoreError, match="cannot hold an import, which needs a local folder"):
        import_files(folder, "s3://bucket/s.zarr")
    import_files(folder, tmp_path / "s.zarr")
    again = import_files(folder, tmp_path / "s.zarr")  # it exists already and is complete
    assert again.complete == 3
    (folder / "gradients-0-0.00040.csv").unlink()
    with pytest.raises(StoreError, match="this store was imported from other files"):
        import_files(folder, tmp_path / "s.zarr")


def test_the_command(original: Original, folder: Path, tmp_path: Path, run_hesstore: RunHesstore) -> None:
    done = run_hesstore("import", folder, "s.zarr")
    assert done.returncode == 0
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith(
        "13 files imported into s.zarr, 3 grid points; missing values are NaN: --recompute"
    )
    lines = done.stderr.splitlines()
    assert "Model-0.csv                         accuracy      0    in its rows" in lines
    assert "gradients-0-0.00040.csv             gradients     0    0.0004" in lines
    assert "converted: eigenvalues: sorted by descending |μ|" in lines
    assert (
        "converted: weights: all tensors are parameters, 14 values: fc1.weight (2, 3), fc1.bias (2,), "
        "fc2.weight (2, 2), fc2.bias (2,); only --recompute compares them with a network"
    ) in lines
    assert any("eigenvectors: the files round to 9 decimals" in line for line in lines)
    provenance = run_hesstore("info", "s.zarr", "--provenance").stdout
    assert "eigenvalues: sorted by descending |μ|; eigenvectors: in the order of their eigenvalues" in provenance
    shown = run_hesstore("info", "s.zarr").stdout
    assert "imported from classic files" in shown
    assert "–" in shown
    for refused, status in (
        (run_hesstore("sweep", "s.zarr", "--l2", "0,0.0002,0.0004"), 2),
        (run_hesstore("sweep", "s.zarr", "--l2", "0,0.0002,0.0004", "--grow"), 2),
        (run_hesstore("verify", "s.zarr", "--deep"), 2),
        (run_hesstore("import", folder, "t.zarr", "--k", "7"), 2),
        (run_hesstore("import", tmp_path / "nowhere", "t.zarr"), 2),
        (run_hesstore("import", folder / "model_weights-0-0.00000.pth", "t.zarr", "--l2", "0,1"), 2),
        (run_hesstore("import", folder), 2),
    ):
        assert refused.returncode == status
        assert len(refused.stderr.splitlines()) == 1, refused.stderr
    assert not (tmp_path / "t.zarr").exists()
    assert run_hesstore("plot", "spectrum", "s.zarr", "-o", "x.png").returncode == 0


def test_a_dry_run_reads_everything_and_writes_nothing(
    original: Original, folder: Path, tmp_path: Path, run_hesstore: RunHesstore
) -> None:
    before = sorted(tmp_path.rglob("*"))
    done = run_hesstore("import", folder, "s.zarr", "--dry-run")
    assert done.returncode == 0
    assert done.stderr.splitlines()[-1] == (
        "13 files can be imported, 3 grid points; nothing was written: leave out --dry-run to create s.zarr"
    )
    assert [line.split()[-1] for line in done.stdout.splitlines() if " eigenvectors " in line] == [
        "0",
        "0.0002",
        "0.0004",
    ]
    assert sorted(tmp_path.rglob("*")) == before
    account = import_files(folder, tmp_path / "s.zarr").account
    origin = json.loads(hesstore.open(tmp_path / "s.zarr").attrs["origin"])
    assert [tuple(file) for file in origin["read"]] == list(account.files)
    assert tuple(origin["conversions"]) == account.conversions
    assert ("gradients-0-0.00020.csv", "gradients", 0, 0.0002) in account.files
    (folder / "gradients-0-0.00040.csv").write_text("dL/dfc1.weight: 1 2\n")
    refused = run_hesstore("import", folder, "t.zarr", "--dry-run")
    assert refused.returncode == 2
    assert "gradients-0-0.00040.csv: line 1: value 1: '1 2' is not a number" in refused.stderr


def test_names_cannot_control_a_terminal(tmp_path: Path, run_hesstore: RunHesstore) -> None:
    (tmp_path / "\x1b[2J_1.csv").write_text("L2_strength,Test_Accuracy\n0,97.3\n")
    done = run_hesstore("import", tmp_path, "s.zarr", "--dry-run")
    assert done.stdout.splitlines()[1].split()[:3] == ["\\x1b[2J_1.csv", "accuracy", "0"]


def test_two_spellings_of_one_l2(original: Original, folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "gradients-0-0.00040.csv", folder / "gradients-0-0.0004.csv")
    with pytest.raises(ImportFilesError, match="has the same run and λ as"):
        import_files(folder, tmp_path / "s.zarr")


def test_round_trip_of_a_table_with_few_columns(tmp_path: Path) -> None:
    (tmp_path / "Model-0.csv").write_text("L2_strength,Test_Accuracy\n0,97.3\n0.1,11.35\n")
    import_files(tmp_path / "Model-0.csv", tmp_path / "s.zarr")
    hesstore.export(tmp_path / "s.zarr", tmp_path / "out")
    rows = (tmp_path / "out" / "Model-0_split_accuracy.csv").read_text().splitlines()
    assert rows[1].startswith("0.0,nan,nan,nan,97.3,nan")
    assert rows[2].startswith("0.1,nan,nan,nan,11.35,nan")
    hesstore.export(tmp_path / "s.zarr", tmp_path / "tables", style="tidy")
    assert not (tmp_path / "tables" / "lowest_eigenvectors").exists()  # no file has any
    with pytest.raises(HesstoreError, match="there is nothing to export"):
        hesstore.export(tmp_path / "s.zarr", tmp_path / "pth", format="pth")
    assert not (tmp_path / "pth").exists()


def test_rounded_l2_in_names(tmp_path: Path) -> None:
    """λ itself comes first; then the only λ that rounds to the name; several are an error that names them."""
    folder = tmp_path / "files"
    folder.mkdir()
    table = folder / "Model-0_split_accuracy.csv"
    table.write_text("L2_strength,Test_Accuracy\n0,97\n0.002,96\n0.004,95\n0.012,90\n")
    (folder / "Hessian-eigenvalues-0-0.0.csv").write_text("7\n")
    (folder / "Hessian-eigenvalues-0-0.01.csv").write_text("5\n")
    import_files(folder, tmp_path / "s.zarr")
    ds = hesstore.open(tmp_path / "s.zarr").load()
    assert ds["l2"].values.tolist() == [0, 0.002, 0.004, 0.012]
    assert ds["eigenvalues"].sel(l2=[0, 0.012]).values.ravel().tolist() == [7, 5]
    assert ds["eigenvalues"].sel(l2=[0.002, 0.004]).isnull().all()
    table.write_text("L2_strength,Test_Accuracy\n0.002,96\n0.004,95\n0.012,90\n")
    with pytest.raises(ImportFilesError, match=r"to 0\.0, which could be any of 0\.002, 0\.004, 0\.012: rename"):
        import_files(folder, tmp_path / "t.zarr")


def test_a_table_in_the_published_form(tmp_path: Path) -> None:
    (tmp_path / "lr=0.0015_1.csv").write_text(
        ",L2_strength,Train_Loss,Train_Reg_Loss,Test_Loss,Test_Accuracy,r0\n"
        "0,0.0,0.25,0.25,0.5,97.7,89.5\n1,0.0002,2.3,2.31,2.3,10.28,\n"
    )
    summary = import_files(tmp_path / "lr=0.0015_1.csv", tmp_path / "s.zarr")
    assert (summary.files, summary.points) == (1, 2)
    assert "lr=0.0015_1.csv: is the table of run 0, with seed 1" in summary.account.conversions
    ds = hesstore.open(tmp_path / "s.zarr").load()
    assert ds["seed"].values.tolist() == [1]
    assert "distance" not in ds
    ds = ds.sel(run=0)
    assert ds["weights_norm"].values[0] == 89.5
    assert np.isnan(ds["weights_norm"].values[1])
    assert ds["accuracy"].sel(split="test").values.tolist() == [0.977, 0.1028]
    assert verify(tmp_path / "s.zarr").ok


def test_a_last_tensor_without_axes(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(3), "scale": torch.tensor(2.0)}, tmp_path / "model_weights-0-0.1.pth")
    import_files(tmp_path, tmp_path / "s.zarr")
    assert hesstore.open(tmp_path / "s.zarr")["weights"].values.ravel().tolist() == [1, 1, 1, 2]


def test_five_minima_at_one_l2(tmp_path: Path) -> None:
    for run in range(5):
        torch.save({"fc1.weight": torch.full((2, 2), float(run))}, tmp_path / f"model_weights-{run}-0.00000.pth")
    assert import_files(tmp_path, tmp_path / "s.zarr").points == 5
    ds = hesstore.open(tmp_path / "s.zarr").load()
    assert ds["weights"].isel(l2=0, param=0).values.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.slow
def test_spectra_join_the_table_of_their_run(tmp_path: Path) -> None:
    """As the authors publish them: the table is the first one, and the spectra, in ascending order, have the ID 0."""
    rng = np.random.default_rng(0)
    table, folder = tmp_path / "lr=0.0015_1.csv", tmp_path / "eigenvalues"
    rows = [f"{index},{index * 0.0002},0.1,0.2,0.3,50,\n" for index in range(300)]
    table.write_text(",L2_strength,Train_Loss,Train_Reg_Loss,Test_Loss,Test_Accuracy,r0\n" + "".join(rows))
    folder.mkdir()
    spectra = np.sort(rng.normal(size=(270, 50)), axis=1).round(9)
    for index, values in enumerate(spectra):
        np.savetxt(folder / f"Hessian-eigenvalues-0-{index * 0.0002:.5f}.csv", values, fmt="%.9f")
    import_files([table, folder], tmp_path / "s.zarr")
    ds = hesstore.open(tmp_path / "s.zarr").load()
    assert dict(ds.sizes)["run"] == 1
    assert ds["seed"].values.tolist() == [1]
    found = ds["eigenvalues"].values[0]
    assert np.array_equal(np.sort(found[:270], axis=1), spectra)
    assert (np.diff(np.abs(found[:270]), axis=1) <= 0).all()
    assert np.isnan(found[270:]).all()
    assert (ds["accuracy"].sel(split="test") == 0.5).all()
    assert not list((tmp_path / "s.zarr").glob("*/c/0/299*"))  # no file for values that no file has
    assert len(list((tmp_path / "s.zarr").rglob("*"))) < 400
    report = verify(tmp_path / "s.zarr")
    assert report.ok, report.problems
    np.savetxt(folder / "Hessian-eigenvalues-0-0.05600.csv", spectra[0][:30], fmt="%.9f")
    with pytest.raises(ImportFilesError, match=r"0\.05600\.csv: expected 50 lines, one per eigenpair, found 30"):
        import_files([table, folder], tmp_path / "t.zarr")


def test_a_table_that_another_one_replaces(tmp_path: Path) -> None:
    """In the published ones, the class accuracies are of another training than the other values."""
    head = ",L2_strength,Train_Loss,Test_Loss,Test_Accuracy"
    (tmp_path / "x_1.csv").write_text(f"{head}\n0,0,1,2,50\n1,0.1,1,2,60\n2,0.2,1,2,70\n")
    split = tmp_path / "x_1_split_accuracies.csv"
    split.write_text(f"{head},Class_0_Accuracy\n0,0,1,2,50,4\n1,0.1,1,3,60,5\n")
    summary = import_files(tmp_path, tmp_path / "s.zarr")
    assert [path.name for path in summary.ignored] == ["x_1.csv"]
    assert summary.account.conversions[-1] == (
        "x_1.csv: was not used, because x_1_split_accuracies.csv has the class accuracies of run 0; the losses and "
        "accuracies of the two differ at 1 of 2 λ; 1 λ are only in x_1.csv: import x_1.csv alone to keep it"
    )
    ds = hesstore.open(tmp_path / "s.zarr").load()
    assert ds["loss"].sel(split="test").values.tolist() == [[2, 3]]
    (tmp_path / "x_1.csv").write_text("L2_strength,Test_Loss\n0,a\n")
    with pytest.raises(ImportFilesError, match=r"x_1\.csv: line 2: Test_Loss: 'a' is not a number"):
        import_files(tmp_path, tmp_path / "t.zarr")


@pytest.mark.slow
def test_a_killed_import_leaves_no_store(original: Original, folder: Path, tmp_path: Path) -> None:
    """At each of four moments; then the same import finishes."""
    command = [sys.executable, "-m", "tests.support.killed_imports", str(folder), str(tmp_path / "s.zarr")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = verify(tmp_path / "s.zarr")
    assert report.ok, report.problems
    assert len(list(tmp_path.glob(".s.zarr.*.partial"))) == len(report.leftovers) == 4
