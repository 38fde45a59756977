"""Stores as users of xarray and pandas work with them."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

from hesstore.store import Run, Status, SweepStore
from hesstore.store.schema import VARIABLES
from tests.support.stores import IDENTITY, analysed, fitted, spec

BOOKKEEPING = {"digest", "entries_digest", "solver_message"}
GRID = {"run", "l2"}
WITH_LABELS = {"run", "l2", "seed", "direction"}


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two stores of different grids and seeds; in each one grid point is complete and one has failed."""
    folder, found = tmp_path_factory.mktemp("stores"), []
    for name, l2, seed in (("a", (0.0, 0.0006, 0.01), 4), ("b", (0.0, 0.0007, 0.01, 0.02), 5)):
        store = SweepStore.create(folder / f"{name}.zarr", spec(grid=l2, runs=(Run(0, seed, "up"),)))
        store.record(store.runs[0], 1, Status.FITTED, fitted(seed))
        store.record(store.runs[0], 1, Status.COMPLETE, analysed(seed))
        store.record(store.runs[0], 2, Status.FAILED, {"failure": "the loss is nan"})
        found.append(folder / f"{name}.zarr")
    return found


@pytest.mark.parametrize(
    ("names", "dims"),
    [
        (["loss", "accuracy"], {"split"}),
        (["class_accuracy"], {"split", "label"}),
        (["eigenvalues", "residual_norm", "converged"], {"mode"}),
        (["penalty", "trace", "weights_norm", "status", "failure"], set()),
        (["confusion"], {"split", "label", "pred"}),
    ],
)
def test_tables_have_the_dimensions_of_their_variables_alone(
    paths: list[Path], names: list[str], dims: set[str]
) -> None:
    ds = xr.open_zarr(paths[0])[names]
    frame = ds.to_dataframe()
    assert set(frame.index.names) == GRID | dims
    assert len(frame) == np.prod([ds.sizes[dim] for dim in GRID | dims])
    assert set(frame.reset_index().columns) == WITH_LABELS | dims | {*names}
    cell = ds.sel(run=0, l2=0.0006)
    assert len(cell.to_dataframe() if dims else cell.expand_dims("l2").to_dataframe()) == len(frame) // 3


def test_bookkeeping_is_marked(paths: list[Path]) -> None:
    ds = xr.open_zarr(paths[0])
    assert set(ds.filter_by_attrs(role="bookkeeping").data_vars) == BOOKKEEPING
    results = ds.filter_by_attrs(role=None)
    assert set(results.data_vars) == set(ds.data_vars) - BOOKKEEPING
    assert {"status", "failure"} <= {*results.data_vars}
    assert {variable.name for variable in VARIABLES if variable.is_bookkeeping} == BOOKKEEPING


def test_pure_numbers_have_no_unit(paths: list[Path]) -> None:
    ds = xr.open_zarr(paths[0])
    assert {str(array.attrs.get("units")) for array in ds.variables.values()} == {"None", "nat", "nat-1", "s"}
    assert "units" not in ds["accuracy"].attrs


def test_a_store_has_the_variables_that_its_settings_ask_for(tmp_path: Path) -> None:
    every = xr.open_zarr(SweepStore.create(tmp_path / "all.zarr", spec()).path)
    for setting, dim in (("lowest", "lowest"), ("response", "sign"), ("probes", None), ("density", "mu")):
        store = SweepStore.create(tmp_path / f"{setting}.zarr", spec(identity={**IDENTITY, setting: 0}))
        ds = xr.open_zarr(store.path)
        assert set(every.data_vars) - set(ds.data_vars) == {v.name for v in VARIABLES if v.setting == setting}
        assert set(every.dims) - set(ds.dims) == ({dim} if dim else set())
        assert set(every.coords) - set(ds.coords) == ({dim} if dim else set())
        assert json.loads(ds.attrs["identity"])[setting] == 0


def outer(paths: list[Path]) -> xr.Dataset:
    ds: xr.Dataset = xr.concat([xr.open_zarr(path) for path in paths], "run", join="outer")
    return ds


def opened_together(paths: list[Path]) -> xr.Dataset:
    ds: xr.Dataset = xr.open_mfdataset(paths, engine="zarr", combine="nested", concat_dim="run", join="outer")
    return ds


@pytest.mark.parametrize("combine", [outer, opened_together])
def test_stores_of_different_grids_concatenate(paths: list[Path], combine: object) -> None:
    assert callable(combine)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ds = combine(paths).load()
    assert ds["l2"].values.tolist() == [0, 0.0006, 0.0007, 0.01, 0.02]
    assert ds["seed"].values.tolist() == [4, 5]
    assert ds["direction"].values.tolist() == ["up", "up"]
    both = ds.isel(run=0).sel(l2=[0.0006, 0.0007])
    assert both["converged"].dtype.kind == "f"
    np.testing.assert_array_equal(both["converged"], [[1, 0, 1], [np.nan] * 3])
    assert both["status"].values[0] == Status.COMPLETE
    assert np.isnan(both["status"].values[1])
    assert both["solver_message"].values[0] == "converged"
    assert both["solver_message"].isnull().values.tolist() == [False, True]
    assert ds["failure"].isel(run=0).dropna("l2").values.tolist() == ["the loss is nan"]
    frame = ds[["loss", "accuracy", "status"]].to_dataframe()
    assert len(frame) == 2 * 5 * 2


def test_texts_are_objects_and_missing_ones_are_nan(paths: list[Path]) -> None:
    ds = xr.open_zarr(paths[0])
    for name in ("split", "direction", "layer", "kind", "failure", "solver_message"):
        assert ds[name].dtype == object, name
    assert ds["failure"].notnull().values.tolist() == [[False, False, True]]
    assert ds.sel(split="test").equals(ds.isel(split=1))


def test_other_readers_find_plain_types(paths: list[Path]) -> None:
    group = zarr.open_group(paths[0], mode="r")
    names = {json.loads((paths[0] / name / "zarr.json").read_text())["data_type"] for name, _ in group.arrays()}
    assert names == {"int8", "int32", "int64", "uint64", "float32", "float64", "string"}
