"""Several stores in one Dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import hesstore
from hesstore.errors import AnalysisError
from hesstore.store import Status
from tests.support.export_stores import make_store


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two stores with other seeds, grids and settings."""
    folder = tmp_path_factory.mktemp("several")
    make_store(folder / "a.zarr", seeds=(0, 1), k=3)
    make_store(folder / "b.zarr", seeds=(5,), k=2, l2=(0.0, 0.0001, 0.01), penalty="full", seed=1)
    return [folder / "a.zarr", folder / "b.zarr"]


@pytest.mark.parametrize("chunked", [True, False])
def test_each_run_has_the_numbers_of_its_store(paths: list[Path], *, chunked: bool) -> None:
    ds = hesstore.open(paths, chunked=chunked)
    assert ds["store"].values.tolist() == ["a", "a", "b"]
    assert ds["store_run"].values.tolist() == [0, 1, 0]
    assert ds["run"].values.tolist() == [0, 1, 2]
    assert ds["seed"].values.tolist() == [0, 1, 5]
    assert ds["l2"].values.tolist() == [0.0, 0.0001, 0.0002, 0.01]
    assert ds["config_penalty"].values.tolist() == ["half", "half", "full"]
    assert ds["config_k"].values.tolist() == [3, 3, 2]
    assert "config_lr" not in ds
    assert ("weights" in ds) == chunked
    pending = ds["status"].values == Status.PENDING
    assert np.argwhere(pending).tolist() == [[0, 1], [1, 1], [2, 2]]
    for path, runs in zip(paths, ([0, 1], [2]), strict=True):
        one = xr.open_zarr(path)
        modes = {"mode": one["mode"].values} if "mode" in one else {}
        part = ds.sel(run=runs, l2=one["l2"].values).sel(modes)
        for name in ("accuracy", "eigenvalues", "confusion", "epochs", "trace", *(["weights"] if chunked else [])):
            np.testing.assert_array_equal(part[name].values, one[name].values, err_msg=name)


def test_the_repr_analyses_and_table_know_the_stores(paths: list[Path]) -> None:
    ds = hesstore.open(paths)
    assert repr(ds).splitlines()[:2] == [
        "hesstore: 2 stores, 3 runs, 4 λ in [0, 0.01]: a, b",
        "          they differ in penalty, k",
    ]
    table = ds.hess.table()
    assert len(table) == 3 * 4
    assert table["store"].tolist() == ["a"] * 8 + ["b"] * 4
    row = table[(table["store"] == "b") & (table["l2"] == 0.01)].iloc[0]
    one = xr.open_zarr(paths[1]).isel(run=0).sel(l2=0.01)
    assert (row["seed"], row["status"], row["epochs"]) == (5, "complete", int(one["epochs"]))
    assert row["loss_test"] == float(one["loss"].sel(split="test"))
    assert row["first_eigenvalue"] == float(one["eigenvalues"][0])
    missing = table[table["status"] == "pending"]
    assert missing[["loss_test", "epochs"]].isna().all().all()
    assert ds.hess.transitions().sizes["quantity"] == 2
    with pytest.raises(AnalysisError, match="penalty"):  # the penalties differ
        ds.hess.objective_index()
    results = ds.hess.results()
    assert {"digest", "entries_digest", "solver_message"}.isdisjoint(results.data_vars)
    assert results.sizes["l2"] == 4


def test_other_networks_share_what_has_no_parameters(paths: list[Path], tmp_path: Path) -> None:
    make_store(tmp_path / "c.zarr", shapes=(("w", (2, 4)), ("b", (2,))))
    ds = hesstore.open([paths[0], tmp_path / "c.zarr"])
    assert "param" not in ds.dims
    assert ds.sizes["run"] == 3


def test_bad_input(paths: list[Path]) -> None:
    with pytest.raises(AnalysisError, match=r"a\.zarr is given twice"):
        hesstore.open([paths[0], paths[0]])
    with pytest.raises(AnalysisError, match="no store is given"):
        hesstore.open([])
    with pytest.raises(hesstore.HesstoreError, match="no such store"):
        hesstore.open([paths[0], "none.zarr"])


def test_plain_xarray_opens_them_too(paths: list[Path]) -> None:
    """As docs/guide.md says."""
    how: dict[str, Any] = {"join": "outer", "data_vars": "all", "coords": "minimal", "compat": "override"}
    opened = xr.open_mfdataset(
        paths, engine="zarr", combine="nested", concat_dim="run", combine_attrs="override", **how
    )
    joined = xr.concat([xr.open_zarr(path) for path in paths], dim="run", combine_attrs="override", **how)
    ours = hesstore.open(paths)
    for ds in (opened, joined):
        np.testing.assert_array_equal(ds["eigenvalues"].values, ours["eigenvalues"].values)
        np.testing.assert_array_equal(ds["seed"].values, ours["seed"].values)
