"""Sweeps with k = 0, which only train; their weights are analysed later, without training again."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import hesstore
from hesstore import analysis
from hesstore.config import SweepConfig
from hesstore.engine.sweep import plan_sweep, run_sweep
from hesstore.errors import AnalysisError, ConfigMismatchError, ExportError
from hesstore.integrity.recheck import recheck
from hesstore.integrity.verify import verify
from hesstore.store import Status
from hesstore.store.schema import AT_FIT
from tests.support.command_line import RunHesstore
from tests.support.killed_commands import kill_during
from tests.support.sweeps import Stop, results, stop_at

MakeConfig = Callable[..., SweepConfig]


@pytest.mark.slow
@pytest.mark.parametrize(
    "values",
    [{}, {"path": "independent", "models": 3}, {"direction": "both"}],
)
def test_it_stores_the_fits_of_a_whole_sweep_and_grows_into_it(
    toy_config: MakeConfig, tmp_path: Path, values: dict[str, object]
) -> None:
    run_sweep(toy_config(**values), tmp_path / "whole.zarr")
    summary = run_sweep(toy_config(k=0, **values), tmp_path / "s.zarr")
    assert summary.complete == summary.computed == summary.total
    whole, fits = results(tmp_path / "whole.zarr"), results(tmp_path / "s.zarr")
    names = sorted({*whole.data_vars} & AT_FIT)
    assert {*fits.data_vars} == {*names, "status", "digest"}
    xr.testing.assert_identical(fits[names], whole[names].drop_vars({*whole.coords} - {*fits.coords}, errors="ignore"))
    squares = (fits["weights"].astype(np.float64) ** 2).sum("param")
    np.testing.assert_allclose(fits["weights_norm"], np.sqrt(squares), rtol=1e-12)
    assert verify(tmp_path / "s.zarr").ok
    assert not recheck(tmp_path / "s.zarr", trust=True).problems

    phases: list[str] = []
    grown = run_sweep(
        toy_config(**values), tmp_path / "s.zarr", grow=True, observer=lambda event: phases.append(event.phase)
    )
    assert grown.computed == summary.total
    assert "fitting" not in phases
    xr.testing.assert_identical(results(tmp_path / "s.zarr"), whole)


def test_what_grows_and_what_does_not(toy_config: MakeConfig, tmp_path: Path) -> None:
    """Settings of a spectrum that was never computed may change; weights stay, and new grid points are fitted."""
    run_sweep(toy_config(k=0, l2="0,0.01"), tmp_path / "s.zarr")
    with pytest.raises(ConfigMismatchError, match=r"k is 0 in the store, 6 in the config.*--grow"):
        run_sweep(toy_config(l2="0,0.01"), tmp_path / "s.zarr")
    assert run_sweep(toy_config(k=0, l2="0,0.01", tol=1e-2), tmp_path / "s.zarr", grow=True).computed == 0
    assert run_sweep(toy_config(k=0, l2="0,0.01,0.02", tol=1e-2), tmp_path / "s.zarr", grow=True).computed == 1
    plan = plan_sweep(toy_config(k=3, l2="0,0.01,0.02", lowest=0), tmp_path / "s.zarr", grow=True)
    assert (plan.fits, plan.analyses) == (0, 3)
    run_sweep(toy_config(k=3, l2="0,0.01,0.02", lowest=0), tmp_path / "s.zarr", grow=True)
    assert "lowest_eigenvalues" not in hesstore.open(tmp_path / "s.zarr")
    with pytest.raises(ConfigMismatchError, match="has k = 3, which k = 0 would reduce"):
        run_sweep(toy_config(k=0, l2="0,0.01,0.02", lowest=0), tmp_path / "s.zarr", grow=True)


def test_a_plan_counts_no_products(toy_config: MakeConfig, tmp_path: Path) -> None:
    plan = plan_sweep(toy_config(k=0, hidden=(6,), response=0))
    assert (plan.unfinished, plan.fits, plan.analyses, plan.products.most) == (4, 4, 0, 0)
    assert plan.seconds is not None
    assert plan.seconds.most > 0
    assert "product" not in plan.basis
    with pytest.raises(Stop):
        run_sweep(toy_config(k=0), tmp_path / "s.zarr", observer=stop_at(12))
    assert 0 < plan_sweep(toy_config(k=0), tmp_path / "s.zarr").unfinished < 4


@pytest.mark.slow  # seconds
def test_every_command_reads_it_or_says_what_is_missing(
    run_hesstore: RunHesstore, toy_arguments: list[str], tmp_path: Path
) -> None:
    arguments = [*toy_arguments, "--k", "0"]
    assert "2 epochs" in run_hesstore("plan", *arguments, "--epochs", "2").stdout
    assert run_hesstore("sweep", "s.zarr", *arguments).returncode == 0
    assert "no spectra: made without analyses (k = 0)" in run_hesstore("info", "s.zarr").stdout
    for command in (
        ("info", "s.zarr", "--json"), ("status", "s.zarr"), ("status", "s.zarr", "--json"), ("verify", "s.zarr"),
        ("verify", "s.zarr", "--deep", "--trust"), ("transitions", "s.zarr"), ("diff", "s.zarr", "s.zarr"),
        ("report", "s.zarr", "-o", "r.html"), ("plot", "accuracy", "s.zarr", "-o", "a.png"),
        ("plot", "summary", "s.zarr", "-o", "s.png"), ("export", "s.zarr"), ("export", "s.zarr", "--format", "parquet"),
        ("export", "s.zarr", "--format", "netcdf"), ("export", "s.zarr", "--format", "zip"), ("info", "s.zarr.zip"),
        ("export", "s.zarr", "--format", "zip", "--no-vectors", "-o", "small.zip"), ("info", "small.zip"),
        ("sweep", "s.zarr", *arguments),
    ):  # fmt: skip
        assert run_hesstore(*command).returncode == 0, command
    names = sorted(file.name for file in (tmp_path / "test_data").iterdir())
    assert names[:2] == ["Model-0_split_accuracy.csv", "manifest.jsonl"]
    assert all(name.startswith("model_weights-0-") for name in names[2:])
    advice = "which was made without analyses (k = 0): analyse its weights with `hesstore sweep STORE … --k 30 --grow`"
    for kind in ("spectrum", "classes", "overlap", "index", "gradient", "measures", "alignment", "density"):
        refused = run_hesstore("plot", kind, "s.zarr", "-o", "b.png")
        assert refused.returncode == 2
        assert advice in refused.stderr
        assert refused.stderr.count("\n") == 1
    assert advice in run_hesstore("transitions", "s.zarr", "--quantity", "overlap").stderr
    ds = hesstore.open(tmp_path / "s.zarr")
    assert "eigenpairs" not in repr(ds)
    with pytest.raises(AnalysisError, match=re.escape(advice)):
        analysis.spectral_measures(ds)
    with pytest.raises(ExportError, match=re.escape("without analyses (k = 0)")):
        hesstore.export(tmp_path / "s.zarr", tmp_path / "out", only=["eigenvalues"])


def test_a_wrong_norm_is_found(toy_config: MakeConfig, tmp_path: Path) -> None:
    run_sweep(toy_config(k=0, l2="0.01"), tmp_path / "s.zarr")
    store = hesstore.store.SweepStore.open(tmp_path / "s.zarr")
    (run,) = store.runs
    store.put_all("weights_norm", run, np.array([2.0]))
    store.seal_entries(run)
    assert [problem.what for problem in verify(tmp_path / "s.zarr").problems] == [
        "weights_norm: does not match the weights"
    ]


@pytest.mark.slow
def test_kill_9_and_resume(
    toy_config: MakeConfig, toy_arguments: list[str], tmp_path: Path, environment: dict[str, str]
) -> None:
    """While fits are recorded, while the store grows, and while its weights are analysed."""
    fits = ["sweep", "s.zarr", *toy_arguments, "--k", "0"]
    for place, count in (("weights/c", 2), ("/status/c", 1)):
        kill_during(place, count, tmp_path, environment, *fits)
        assert verify(tmp_path / "s.zarr").ok
    run_sweep(toy_config(k=0), tmp_path / "s.zarr")
    for place, count in (("eigenvectors/c", 1), ("/status/c", 2)):
        kill_during(place, count, tmp_path, environment, "sweep", "s.zarr", *toy_arguments, "--grow")
        assert verify(tmp_path / "s.zarr").ok
        assert (hesstore.open(tmp_path / "s.zarr")["status"] >= Status.FITTED).all()
    run_sweep(toy_config(), tmp_path / "s.zarr", grow=True)
    run_sweep(toy_config(), tmp_path / "whole.zarr")
    xr.testing.assert_identical(results(tmp_path / "s.zarr"), results(tmp_path / "whole.zarr"))


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_on_workers(
    toy_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", environment["PYTHONPATH"])
    run_sweep(toy_config(k=0), tmp_path / "s.zarr", workers=2)  # as below: one worker would have two threads
    run_sweep(toy_config(), tmp_path / "s.zarr", workers=2, grow=True)
    run_sweep(toy_config(), tmp_path / "whole.zarr")
    xr.testing.assert_identical(results(tmp_path / "s.zarr"), results(tmp_path / "whole.zarr"))
