from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from numpy.typing import NDArray

import hesstore
from hesstore import analysis
from hesstore.dataset.completeness import SpectrumSettings
from hesstore.errors import AnalysisError, CorruptStoreError
from hesstore.linalg.eigenpairs import tolerances
from hesstore.report import overlaps
from hesstore.report.losses import mean_losses
from hesstore.report.page_data import EXACT, ROUNDED, SERIES, run_data, store_data
from hesstore.report.provenance import flatten
from hesstore.report.rounding import json_list, round_to_digits, round_to_thousandths
from hesstore.store import Status
from hesstore.store.schema import BY_NAME
from tests.support.export_stores import make_store
from tests.support.plot_datasets import store, with_holes, without_options
from tests.support.report_pages import HALF_L2, HALF_STATUS

COMPLETE = [index for index in range(len(HALF_L2)) if (0, index) not in HALF_STATUS]


def numbers(values: Any) -> NDArray[np.float64]:
    """Nested lists with None → NaN."""
    return np.array(values, dtype=np.float64)


def test_store_data(half: Path) -> None:
    facts = store_data(hesstore.open(half))
    assert facts["mode_label"] == "mode, by |eigenvalue|"
    assert facts["grid"] == list(HALF_L2)
    assert facts["axis"] == {"name": "l2", "symbol": "λ", "label": "L2 regularisation strength λ"}
    assert facts["labels"] == ["0", "1", "2"]
    assert facts["modes"] == 4
    assert [(run["seed"], run["direction"]) for run in facts["runs"]] == [
        (0, "up"),
        (0, "down"),
        (7, "up"),
        (7, "down"),
    ]
    assert facts["runs"][0]["counts"] == {"pending": 1, "fitted": 1, "complete": 3, "failed": 1}
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert {run["store"] for run in facts["runs"]} == {""}


def test_runs_of_several_stores_name_their_store(half: Path, tmp_path: Path) -> None:
    make_store(tmp_path / "other.zarr", l2=(0.0, 0.001), k=4, classes=3)
    facts = store_data(hesstore.open([half, tmp_path / "other.zarr"]))
    assert [run["store"] for run in facts["runs"]][3:] == ["half", "other"]


@pytest.mark.parametrize("run", [0, 1])
def test_numbers_are_those_of_the_store(half: Path, run: int) -> None:
    ds = hesstore.open(half)
    found = run_data(ds, run)
    part = ds.sel(run=run)
    complete = np.flatnonzero(part["status"].values == Status.COMPLETE)
    assert found["status"] == part["status"].values.tolist()
    for name in (*EXACT, *ROUNDED):
        expected = part[name].transpose("l2", *BY_NAME[name].dims[2:]).values.astype(np.float64)
        tolerance = 0 if name in EXACT else 5.1e-4
        assert np.allclose(
            numbers(found[name])[complete], expected[complete], rtol=tolerance, atol=0, equal_nan=True
        ), name
    for split in (0, 1):
        classes = analysis.sensitivity(ds, run, ["train", "test"][split]).transpose("l2", "label", "mode")
        shares, slopes = (numbers(found[name])[complete, split] for name in ("curvature_share", "slope"))
        assert np.allclose(shares, classes["curvature_share"], rtol=1e-12, atol=0.00051)
        off = np.abs(slopes - classes["slope"].values).reshape(len(complete), -1).max(1)
        assert (off <= 0.00051 * np.abs(numbers(found["slope"])[complete]).reshape(len(complete), -1).max(1)).all()
        skill = analysis.class_skill(ds, ["train", "test"][split])["class_skill"].sel(run=run)
        assert np.allclose(numbers(found["class_skill"])[:, split], skill, rtol=5.1e-4, equal_nan=True)
    settings = SpectrumSettings.of(ds.attrs)
    assert settings is not None
    spectra = settings.spectra(part)
    assert [found["spectrum"][index] for index in complete] == [each.text for each in spectra]
    assert [found["complete_to"][index] for index in complete] == [each.fraction for each in spectra]
    summary = settings.summary(spectra)
    assert summary is not None
    assert store_data(ds)["runs"][run]["spectra"] == summary.text
    response = part["class_response"].transpose("l2", "sign", "label", "mode").values
    assert np.allclose(numbers(found["response"])[complete], response[complete], rtol=1e-12, atol=0.00051)


def test_grid_points_that_are_not_complete_have_no_numbers(half: Path) -> None:
    found = run_data(hesstore.open(half), 0)
    for name in SERIES:
        by_l2 = numbers(found[name]).reshape(len(HALF_L2), -1)
        assert np.isnan(np.delete(by_l2, COMPLETE, axis=0)).all(), name
        assert np.isfinite(by_l2[COMPLETE]).any(1).all(), name
    assert found["failure"][2] == "text"
    assert found["start"] in COMPLETE
    nothing = run_data(hesstore.open(half), 3)
    assert all(nothing[name] is None for name in (*SERIES, "lost"))


def test_where_classes_are_lost() -> None:
    ds = with_holes(store(16), {0: [3, 9], 1: []})
    found = run_data(ds, 0)
    losses = analysis.lost_classes(ds).sel(run=0)
    rows = numbers([row[:3] for row in found["lost"][1]])
    for at, name in enumerate(("lost_l2", "low", "high")):
        assert np.array_equal(rows[:, at], losses[name].values, equal_nan=True)
    assert [row[3] for row in found["lost"][1]] == losses["censored"].values.tolist() == [""] * 10
    assert len(found["lost"][0]) == 10
    assert ds["l2"].values[found["start"]] == losses["lost_from"].min()


def test_mean_losses_are_over_the_finished_runs_of_a_direction() -> None:
    runs = ((0, "up"), (1, "up"), (2, "up"), (0, "down"))
    ds = with_holes(store(16, runs=runs), {2: [5]})
    found = mean_losses(ds)
    assert [*found] == ["up"]
    assert found["up"]["runs"] == 2
    expected = analysis.lost_classes(ds.isel(run=[0, 1]), split="train").sel(direction="up")
    for at, name in enumerate(("lost_l2_mean", "lost_l2_mean_low", "lost_l2_mean_high")):
        assert np.array_equal(numbers(found["up"]["means"][0])[:, at], expected[name].values, equal_nan=True)
    ds["confusion"].values[1] = -1  # an import without counts
    assert mean_losses(ds) == {}


def test_overlaps_are_those_of_some_grid_points(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlaps, "MAX_POINTS", 5)
    ds = with_holes(store(12), {0: [3, 4]})
    ds["eigenvalues"].values[0, 11, 3:] = np.nan
    calls: list[tuple[int, int]] = []
    found = overlaps.overlap_data(ds, 0, lambda *done: calls.append(done))
    assert found is not None
    assert (found["k"], found["complete"], found["indices"]) == (9, 10, [0, 2, 6, 9, 11])
    expected = analysis.overlap_map(ds, 9)["overlap"].sel(l2=ds["l2"].values[found["indices"]])
    for at, row in enumerate(found["rows"]):
        others = ds["l2"].values[found["indices"][: at + 1]]
        assert np.allclose(numbers(row) / 1000, expected[at].sel(l2_other=others), atol=0.00051, equal_nan=True)
    assert calls[-1] == (10, 10)
    assert overlaps.overlap_data(with_holes(store(2), {0: [0]}), 0) is None
    assert overlaps.overlap_data(ds.drop_vars("eigenvectors"), 0) is None


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tolerance_is_that_of_the_solver(dtype: str) -> None:
    config = {"which": "LM", "tol": 1e-5, "dtype": dtype}
    ds = store(3).assign_attrs(config=json.dumps(config))
    ds["eigenvalues"].values[0, :, 5:] *= 1e-9
    ds["eigenvalues"].values[0, 1, 9:] = np.nan
    found = numbers(run_data(ds, 0)["tolerance"])
    for index, mu in enumerate(ds["eigenvalues"].values[0]):
        known = torch.from_numpy(mu[np.isfinite(mu)])
        expected = tolerances(known, 1e-5, getattr(torch, dtype)).numpy()
        assert np.allclose(found[index, : len(known)], expected, rtol=5.1e-4, atol=0)
        assert np.isnan(found[index, len(known) :]).all()


@pytest.mark.parametrize(
    "attrs",
    [
        {},
        {"config": '{"which": "SA", "tol": 0.001, "dtype": "float32"}'},
        {"config": '{"which": "LM", "tol": 0.001, "dtype": "float32"}', "origin": '{"files": "classic"}'},
    ],
)
def test_no_tolerance_without_what_it_depends_on(attrs: dict[str, str]) -> None:
    assert run_data(store(3).assign_attrs(attrs), 0)["tolerance"] is None


def test_stores_that_lack_variables() -> None:
    lacking = store(4).assign(residual_norm=store(4)["eigenvalues"] * 0, converged=store(4)["eigenvalues"] > 1)
    lacking["residual_norm"].values[0, :, 1:] = np.nan
    assert run_data(lacking, 0)["converged"] == [[1, *[None] * 11]] * 4
    found = run_data(without_options(store(4)), 0)
    assert found["response"] is found["epochs"] is None
    assert numbers(found["curvature_share"]).shape == numbers(found["slope"]).shape == (4, 2, 10, 12)
    assert run_data(store(4).drop_vars("class_slope"), 0)["curvature_share"] is None
    assert numbers(found["class_skill"]).shape == (4, 2, 10)
    uncounted = store(4)
    uncounted["confusion"].values[0] = -1
    found = run_data(uncounted, 0)
    assert found["confusion"] is found["class_skill"] is found["curvature_share"] is None
    assert found["start"] == 2
    assert numbers(found["response"]).shape == (4, 2, 10, 12)
    assert run_data(uncounted, 1)["class_skill"] is not None


def test_no_large_variable_is_read_and_damage_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    make_store(path, k=2)
    spoil(path, "eigenvectors")
    spoil(path, "weights")
    assert run_data(hesstore.open(path), 0)["eigenvalues"]
    with pytest.raises(CorruptStoreError, match="eigenvectors"):
        overlaps.overlap_data(hesstore.open(path), 0)
    spoil(path, "class_slope")
    with pytest.raises(CorruptStoreError, match=r"class_slope/c/\S+ is damaged"):
        run_data(hesstore.open(path), 0)


def spoil(path: Path, name: str) -> None:
    for file in (path / name / "c").rglob("*"):
        if file.is_file():
            file.write_bytes(b"x" * file.stat().st_size)


def test_progress() -> None:
    calls: list[tuple[int, int]] = []
    run_data(store(70), 0, lambda done, total: calls.append((done, total)))
    assert calls == [(32, 70), (64, 70), (70, 70)]


@pytest.mark.parametrize(
    ("ds", "message"),
    [
        (with_holes(store(2), {0: [0, 1], 1: [0, 1]}), "no grid point of the store is complete"),
        (xr.Dataset({"loss": ("run", [1.0])}), "pass a whole store"),
    ],
)
def test_nothing_to_show(ds: xr.Dataset, message: str) -> None:
    with pytest.raises(AnalysisError, match=message):
        store_data(ds)


def test_rounding() -> None:
    values = np.array([[0.0123456, -98765.4], [0.0, math.nan], [3e-30, -1e-33]])
    assert round_to_digits(values, 3).ravel().tolist()[:3] == [0.0123, -98800.0, 0.0]
    rounded = round_to_thousandths(values)
    assert rounded[0].tolist() == [0.0, -98770.0]
    assert rounded[1, 0] == 0
    assert np.isnan(rounded[1, 1])
    assert np.allclose(rounded[2], [3e-30, -1e-33], rtol=1e-9)
    assert json_list(np.array([[1.0, math.nan], [-2.0, math.inf]])) == [[1, None], [-2, None]]
    assert json_list(np.array([0.5, 2.0])) == [0.5, 2.0]
    assert json_list(np.array([1e300])) == [1e300]


def test_flatten() -> None:
    assert flatten({"a": 1, "b": {"c": [1, 2], "d": ""}, "e": "λ"}) == {"a": "1", "b.c": "[1, 2]", "e": "λ"}
