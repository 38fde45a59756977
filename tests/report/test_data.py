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
from hesstore.errors import AnalysisError, CorruptStoreError
from hesstore.linalg.eigenpairs import tolerances
from hesstore.report.data import EXACT, IN_DIGITS, SERIES, of_run, overview
from hesstore.report.provenance import flat
from hesstore.report.rounding import in_thousandths, listed, significant
from hesstore.store import Status
from hesstore.store.schema import BY_NAME
from tests.support.export_stores import make_store
from tests.support.plot_datasets import store, with_holes, without_options
from tests.support.report_pages import HALF_L2, HALF_STATUS

COMPLETE = [index for index in range(len(HALF_L2)) if (0, index) not in HALF_STATUS]


def numbers(values: Any) -> NDArray[np.float64]:
    """Nested lists with None → NaN."""
    return np.array(values, dtype=np.float64)


def test_overview(half: Path) -> None:
    facts = overview(hesstore.open(half))
    assert facts["l2"] == list(HALF_L2)
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


@pytest.mark.parametrize("run", [0, 1])
def test_numbers_are_those_of_the_store(half: Path, run: int) -> None:
    ds = hesstore.open(half)
    found = of_run(ds, run)
    part = ds.sel(run=run)
    there = np.flatnonzero(part["status"].values == Status.COMPLETE)
    assert found["status"] == part["status"].values.tolist()
    for name in (*EXACT, *IN_DIGITS):
        expected = part[name].transpose("l2", *BY_NAME[name].dims[2:]).values.astype(np.float64)
        tolerance = 0 if name in EXACT else 5.1e-4
        assert np.allclose(numbers(found[name])[there], expected[there], rtol=tolerance, atol=0, equal_nan=True), name
    for split in (0, 1):
        classes = analysis.sensitivity(ds, run, ["train", "test"][split]).transpose("l2", "label", "mode")
        shares, slopes = (numbers(found[name])[there, split] for name in ("curvature_share", "slope"))
        assert np.allclose(shares, classes["curvature_share"], rtol=1e-12, atol=0.00051)
        off = np.abs(slopes - classes["slope"].values).reshape(len(there), -1).max(1)
        assert (off <= 0.00051 * np.abs(numbers(found["slope"])[there]).reshape(len(there), -1).max(1)).all()
        skill = analysis.class_skill(ds, ["train", "test"][split])["class_skill"].sel(run=run)
        assert np.allclose(numbers(found["class_skill"])[:, split], skill, rtol=5.1e-4, equal_nan=True)
    response = part["class_response"].transpose("l2", "sign", "label", "mode").values
    assert np.allclose(numbers(found["response"])[there], response[there], rtol=1e-12, atol=0.00051)


def test_what_is_not_complete_has_no_numbers(half: Path) -> None:
    found = of_run(hesstore.open(half), 0)
    for name in SERIES:
        by_l2 = numbers(found[name]).reshape(len(HALF_L2), -1)
        assert np.isnan(np.delete(by_l2, COMPLETE, axis=0)).all(), name
        assert np.isfinite(by_l2[COMPLETE]).any(1).all(), name
    assert found["failure"][2] == "text"
    assert found["start"] in COMPLETE
    nothing = of_run(hesstore.open(half), 3)
    assert all(nothing[name] is None for name in (*SERIES, "last_known"))


def test_where_classes_are_lost() -> None:
    ds = with_holes(store(16), {0: [3, 9], 1: []})
    found = of_run(ds, 0)
    onsets = analysis.transitions(ds, split="test")["onset"].sel(run=0).values
    assert found["last_known"][1] == onsets.tolist()
    assert ds["l2"].values[found["start"]] == onsets.min()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tolerance_is_that_of_the_solver(dtype: str) -> None:
    config = {"which": "LM", "tol": 1e-5, "dtype": dtype}
    ds = store(3).assign_attrs(config=json.dumps(config))
    ds["eigenvalues"].values[0, :, 5:] *= 1e-9
    ds["eigenvalues"].values[0, 1, 9:] = np.nan
    found = numbers(of_run(ds, 0)["tolerance"])
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
def test_a_tolerance_that_the_store_can_not_tell(attrs: dict[str, str]) -> None:
    assert of_run(store(3).assign_attrs(attrs), 0)["tolerance"] is None


def test_stores_that_lack_things() -> None:
    lacking = store(4).assign(residual_norm=store(4)["eigenvalues"] * 0, converged=store(4)["eigenvalues"] > 1)
    lacking["residual_norm"].values[0, :, 1:] = np.nan
    assert of_run(lacking, 0)["converged"] == [[1, *[None] * 11]] * 4
    found = of_run(without_options(store(4)), 0)
    assert found["response"] is found["epochs"] is None
    assert numbers(found["curvature_share"]).shape == numbers(found["slope"]).shape == (4, 2, 10, 12)
    assert of_run(store(4).drop_vars("class_slope"), 0)["curvature_share"] is None
    assert numbers(found["class_skill"]).shape == (4, 2, 10)
    uncounted = store(4)
    uncounted["confusion"].values[0] = -1
    found = of_run(uncounted, 0)
    assert found["confusion"] is found["class_skill"] is found["curvature_share"] is None
    assert found["start"] == 0
    assert numbers(found["response"]).shape == (4, 2, 10, 12)
    assert of_run(uncounted, 1)["class_skill"] is not None


def test_nothing_large_is_read_and_damage_is_told(tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    make_store(path, k=2)
    spoil(path, "eigenvectors")
    spoil(path, "weights")
    assert of_run(hesstore.open(path), 0)["eigenvalues"]
    spoil(path, "class_slope")
    with pytest.raises(CorruptStoreError, match="class_slope"):
        of_run(hesstore.open(path), 0)


def spoil(path: Path, name: str) -> None:
    for file in (path / name / "c").rglob("*"):
        if file.is_file():
            file.write_bytes(b"x" * file.stat().st_size)


def test_progress() -> None:
    calls: list[tuple[int, int]] = []
    of_run(store(70), 0, lambda done, total: calls.append((done, total)))
    assert calls == [(32, 70), (64, 70), (70, 70)]


@pytest.mark.parametrize(
    ("ds", "message"),
    [
        (with_holes(store(2), {0: [0, 1], 1: [0, 1]}), "no λ of any run is complete"),
        (xr.Dataset({"loss": ("run", [1.0])}), "pass a whole store"),
    ],
)
def test_nothing_to_show(ds: xr.Dataset, message: str) -> None:
    with pytest.raises(AnalysisError, match=message):
        overview(ds)


def test_rounding() -> None:
    values = np.array([[0.0123456, -98765.4], [0.0, math.nan], [3e-30, -1e-33]])
    assert significant(values, 3).ravel().tolist()[:3] == [0.0123, -98800.0, 0.0]
    rounded = in_thousandths(values)
    assert rounded[0].tolist() == [0.0, -98770.0]
    assert rounded[1, 0] == 0
    assert np.isnan(rounded[1, 1])
    assert np.allclose(rounded[2], [3e-30, -1e-33], rtol=1e-9)
    assert listed(np.array([[1.0, math.nan], [-2.0, math.inf]])) == [[1, None], [-2, None]]
    assert listed(np.array([0.5, 2.0])) == [0.5, 2.0]
    assert listed(np.array([1e300])) == [1e300]


def test_flat() -> None:
    assert flat({"a": 1, "b": {"c": [1, 2], "d": ""}, "e": "λ"}) == {"a": "1", "b.c": "[1, 2]", "e": "λ"}
