from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import xarray as xr

import hesstore
from hesstore import plots
from hesstore.analysis.refinement import refined_l2
from hesstore.config import SweepConfig
from hesstore.engine.sweep import run_sweep
from hesstore.errors import AnalysisError, ConfigError, ImportFilesError, StoreError
from hesstore.importing.checkpoints import _find
from hesstore.importing.file_names import parse_name
from hesstore.integrity.recheck import recheck
from hesstore.integrity.verify import verify
from hesstore.store.schema import Status, is_axis_name
from tests.support.toy import TOY

if TYPE_CHECKING:
    from tests.support.command_line import RunHesstore

K = {
    "dataset": TOY["dataset"],
    "hidden": TOY["hidden"],
    "k": 3,
    "probes": 0,
    "chunk_rows": 128,
    "device": "cpu",
}


def opened(path: Path) -> xr.Dataset:
    return hesstore.open(path, chunked=False)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small sweep, whose weights become checkpoints."""
    path = tmp_path_factory.mktemp("swept") / "s.zarr"
    run_sweep(SweepConfig.from_mapping({**TOY, **K, "l2": "0,0.01,0.05", "epochs": 3}), path)
    return path


@pytest.fixture(scope="module")
def folder(swept: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of the sweep as checkpoints of training steps."""
    folder = tmp_path_factory.mktemp("checkpoints")
    ds = opened(swept)
    for step, l2 in ((5, 0.0), (10, 0.01), (200, 0.05)):
        state = hesstore.to_state_dict(ds, l2=l2)
        wrapped = {"step": step, "state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}
        torch.save(wrapped, folder / f"net_lr0.1_step{step}.pt")
    (folder / "log.txt").write_text("")
    return folder


@pytest.fixture(scope="module")
def store(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("collection") / "c.zarr"
    summary = hesstore.analyse(folder, path, axis="step", from_name=True, settings=K)
    assert (summary.complete, summary.total, summary.computed) == (3, 3, 3)
    return path


def test_results_are_those_of_the_sweep_along_the_steps(store: Path, swept: Path) -> None:
    found, expected = opened(store), opened(swept)
    assert found["step"].values.tolist() == [5, 10, 200]
    assert found["eigenvectors"].dims == ("run", "step", "mode", "param")
    for name in ("weights", "gradient", "confusion", "loss", "weights_norm", "class_gradient_norm"):
        np.testing.assert_array_equal(found[name], expected[name], name)
    np.testing.assert_allclose(found["eigenvalues"], expected["eigenvalues"], rtol=2e-3)
    assert (found["penalty"] == 0).all()
    np.testing.assert_allclose(found["stationarity"], 1)  # λ is 0: the objective is E
    assert np.isfinite(found["class_curvature"]).all()


def test_every_check_passes(store: Path) -> None:
    findings = verify(store)
    assert findings.ok, findings.problems
    assert findings.counts == {Status.COMPLETE: 3}
    again = recheck(store, trust=True)
    assert not again.problems
    assert (again.axis, again.checked) == ("step", [(0, 5.0), (0, 10.0), (0, 200.0)])
    identity = json.loads(opened(store).attrs["identity"])
    assert "lr" not in identity
    assert (identity["axis"], identity["values"]) == ("step", [5.0, 10.0, 200.0])


def test_analyses_follow_the_axis_and_leave_its_name_free(store: Path) -> None:
    ds = opened(store)
    methods = ["track", "overlap_map", "layer_mass", "participation_ratio", "objective_index", "class_skill"]
    methods += ["clusters", "alignment", "spectral_measures", "sharpness", "sensitivity", "transitions"]
    methods += ["lost_classes", "rank_correlations", "complete"]
    names: set[str] = set()
    for method in methods:
        result = getattr(ds.hess, method)()
        along = [name for name, each in result.variables.items() if "step" in each.dims]
        names |= {str(name) for name in (result.variables if along else ())} - {"step"}
        assert not [name for name in result.variables if "l2" in str(name)], method
        assert not ["λ" for each in result.variables.values() if "along λ" in str(each.attrs)], method
        if "step" in result.dims:
            assert result["step"].attrs["long_name"] == "training step", method
        if method == "lost_classes":
            assert "lost_step" in result
    assert not [name for name in names - {"step_other"} if is_axis_name(name)]
    assert float(ds.hess.overlap(5, 10)["overlap"]) <= 1
    with pytest.raises(AnalysisError, match="the store has checkpoints along step, between which no network"):
        refined_l2(ds, 4)
    with pytest.raises(AnalysisError, match="step = 7 is not one of the 3 complete grid points of run 0: try 5"):
        ds.hess.overlap(7, 10)


def test_figures_and_files_follow_the_axis(store: Path, tmp_path: Path) -> None:
    ds = opened(store)
    for figure in (plots.spectrum(ds), plots.accuracy(ds), plots.losses(ds), plots.gradient(ds), plots.overlap(ds)):
        labels = [axes.get_xlabel() for axes in figure.axes]
        assert "training step" in labels
        assert not [label for label in labels if "λ" in label]
    assert "step = 10" in str(plots.classes(ds, l2=10).get_suptitle())
    hesstore.export(store, tmp_path / "csv")
    assert (tmp_path / "csv" / "Hessian-eigenvalues-0-200.csv").is_file()
    assert (tmp_path / "csv" / "Model-0_split_accuracy.csv").read_text().startswith("step,Train_Loss")
    with pytest.raises(ImportFilesError, match="the files lie along step, not along λ"):
        hesstore.import_files(tmp_path / "csv", tmp_path / "i.zarr")
    hesstore.export(store, tmp_path / "tables", style="tidy")
    assert (tmp_path / "tables" / "eigenvalues.csv").read_text().startswith("run,step,mode,")
    assert hesstore.compare(ds, ds).identical == 3


@pytest.mark.slow  # seconds
def test_a_run_is_continued_and_grows(store: Path, folder: Path, swept: Path, tmp_path: Path) -> None:
    calls = iter([False, False, False, *[True] * 99])
    path, own = tmp_path / "c.zarr", tmp_path / "own"
    own.mkdir()
    for file in folder.iterdir():
        (own / file.name).write_bytes(file.read_bytes())
    begun = hesstore.analyse(own, path, axis="step", from_name=True, settings=K, stop=lambda: next(calls))
    assert 0 < begun.pending < 3
    done = hesstore.analyse(f"{own}/*.pt", path, axis="step", from_name=True, settings=K)
    assert (done.complete, done.computed) == (3, begun.pending)
    assert hesstore.compare(opened(path), opened(store)).identical == 3
    torch.save(hesstore.to_state_dict(opened(swept), l2=0.01), own / "step_100.pth")
    with pytest.raises(StoreError, match="or --grow to extend the store"):
        hesstore.analyse(own, path, axis="step", from_name=True, settings=K)
    grown = hesstore.analyse(own, path, axis="step", from_name=True, settings=K, grow=True)
    assert (grown.complete, grown.computed) == (4, 1)
    ds = opened(path)
    assert ds["step"].values.tolist() == [5, 10, 100, 200]
    np.testing.assert_array_equal(ds["weights"].sel(step=10), ds["weights"].sel(step=100))
    with pytest.raises(StoreError, match="was made by `hesstore analyse`, which can continue it"):
        run_sweep(SweepConfig.from_mapping({**TOY, **K}), path)
    with pytest.raises(StoreError, match="was made by `hesstore sweep`, which can continue it"):
        hesstore.analyse(own, swept, axis="step", from_name=True, settings=K)


def test_lambda_of_the_checkpoints(swept: Path, folder: Path, tmp_path: Path) -> None:
    """Along l2 each checkpoint has its own λ, and the results are those of the sweep; else one λ holds for all."""
    paths = [folder / f"net_lr0.1_step{step}.pt" for step in (5, 10, 200)]
    hesstore.analyse(paths, tmp_path / "l2.zarr", axis="l2", values="0,0.01,0.05", settings=K)
    found, expected = opened(tmp_path / "l2.zarr"), opened(swept)
    for name in ("penalty", "confusion", "stationarity", "gradient"):
        np.testing.assert_array_equal(found[name], expected[name], name)
    hesstore.analyse(paths[1:2], tmp_path / "one.zarr", settings={**K, "l2": 0.01})
    one = opened(tmp_path / "one.zarr")
    assert one["checkpoint"].values.tolist() == [0]
    for name in ("penalty", "stationarity"):
        np.testing.assert_allclose(one[name][0, 0], expected[name][0, 1], rtol=1e-12)
    assert verify(tmp_path / "one.zarr").ok
    shifted = one.hess.objective_index()["smallest_eigenvalue"] - one["lowest_eigenvalues"][0, :, 0]
    assert float(shifted[0]) == pytest.approx(0.01)


def test_a_checkpoint_that_does_not_fit_is_refused_before_anything_is_written(folder: Path, tmp_path: Path) -> None:
    torch.save({"fc1.weight": torch.ones(2, 2)}, tmp_path / "step_7.pth")
    with pytest.raises(ImportFilesError, match=r"step_7\.pth: missing key 'fc1\.bias'"):
        hesstore.analyse([folder, tmp_path], tmp_path / "c.zarr", axis="step", from_name=True, settings=K)
    assert not (tmp_path / "c.zarr").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"axis": "step"}, "axis: each checkpoint needs its value of step: give --from-name, or --values"),
        ({"from_name": True}, "axis: say what the values are"),
        ({"axis": "mode", "from_name": True}, "axis: 'mode' can't be the name of the grid"),
        ({"axis": "index", "from_name": True}, "axis: 'index' can't be the name of the grid"),
        ({"axis": "my axis", "from_name": True}, "axis: 'my axis' can't be the name of the grid"),
        ({"axis": "step", "values": [1]}, "values: 1 values for 3 checkpoints"),
        ({"axis": "step", "values": "1,x,3"}, "values: 'x' is not a number"),
        ({"axis": "step", "values": "1,2,3", "from_name": True}, "values: contradicts from-name"),
        ({"settings": {"epochs": 3}}, "epochs: is a setting of training"),
        ({"settings": {"l2": "0,1"}}, "l2: 2 values were given, but all checkpoints have the same λ"),
        ({"settings": {"seeds": "1,2"}}, "seeds: 2 were given, but the checkpoints make 1 runs"),
    ],
)
def test_wrong_arguments(folder: Path, tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        hesstore.analyse(folder, tmp_path / "c.zarr", **arguments)


def test_the_order_of_checkpoints(tmp_path: Path) -> None:
    for name in ("step_2.pth", "step_10.pth", "b.ckpt", "log.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in _find([tmp_path])] == ["b.ckpt", "step_2.pth", "step_10.pth"]
    assert [path.name for path in _find([tmp_path / "step_10.pth", f"{tmp_path}/step_*"])] == [
        "step_10.pth",
        "step_2.pth",
    ]
    for name, message in (("nowhere", "no file matches it"), ("log.txt", "not a checkpoint")):
        with pytest.raises(ImportFilesError, match=message):
            _find([tmp_path / name])
    with pytest.raises(ImportFilesError, match=r"contains no checkpoints, files that end in \.pth"):
        _find([tmp_path.parent / "*" / "log.*"])


@pytest.mark.parametrize(
    ("name", "axis", "run", "value"),
    [
        ("epoch=3-step=1200.ckpt", "step", 0, "1200"),
        ("epoch=3-step=1200.ckpt", "epoch", 0, "3"),
        ("mlp_5_wd0.001_step20.pth", "step", 0, "20"),
        ("checkpoint-500.pt", "step", 0, "500"),
        ("l2_0.1_700_seed4.pth", "step", 4, "700"),
        ("width64_step9.pth", "width", 0, "64"),
        ("global_step_12.pth", "step", 0, "12"),
    ],
)
def test_names_with_steps(name: str, axis: str, run: int, value: str) -> None:
    assert parse_name(Path(name), axis) == (run, value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("step_10k.pth", "'10k' after 'step' in the name is not a number"),
        (
            "a_1_2.pth",
            "several numbers that could be the step: 1, 2: write step_ before the right one, or",
        ),
        ("epoch_3.pth", "no number that could be the step: rename the file, as in step_100.pth"),
    ],
)
def test_names_without_steps(name: str, message: str) -> None:
    with pytest.raises(ImportFilesError, match=message):
        parse_name(Path(name), "step")


def test_the_command(folder: Path, run_hesstore: RunHesstore) -> None:
    options = ["--axis", "step", "--from-name", *(f"--{name.replace('_', '-')}={value}" for name, value in K.items())]
    options = [option.replace("(", "").replace(")", "").replace(" ", "") for option in options]
    done = run_hesstore("analyse", folder, "-o", "c.zarr", *options, "--verbose")
    assert done.returncode == 0, done.stderr
    assert "3 grid points complete in c.zarr" in done.stderr
    assert "step = 200" in done.stderr
    rows = [line.split() for line in done.stderr.splitlines()[:4]]
    assert rows[0] == ["checkpoint", "seed", "step"]
    assert [Path(path).stem for path, _, _ in rows[1:]] == [f"net_lr0.1_step{value}" for value in (5, 10, 200)]
    assert [each[1:] for each in rows[1:]] == [["0", "5"], ["0", "10"], ["0", "200"]]
    shown = run_hesstore("info", "c.zarr").stdout
    assert "1 run × 3 grid points" in shown
    assert "  step  test accuracy" in shown
    assert "epochs=" not in shown
    assert "last: step = 200" in run_hesstore("status", "c.zarr").stdout
    assert json.loads(run_hesstore("status", "c.zarr", "--json").stdout)["runs"][0]["last"]["step"] == 200
    wrong = run_hesstore("analyse", folder, "-o", "d.zarr", *options[:3], "--seeds", "5", "--lowest", "1000000")
    assert wrong.returncode == 2
    assert wrong.stderr.split()[:3] == ["checkpoint", "number", "step"], "the number in a name is not the seed"
    wrong = run_hesstore("analyse", folder, "-o", "d.zarr", "--axis", "step")
    assert wrong.returncode == 2
    assert "give --from-name, or --values" in wrong.stderr
