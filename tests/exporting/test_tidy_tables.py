from __future__ import annotations

import json
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
import xarray as xr

import hesstore
from hesstore.exporting.tidy_tables import LARGE, TABLES
from hesstore.store import Status
from hesstore.store.schema import variables
from tests.support.export_stores import SHAPES, make_store

ENDINGS = ("csv", "csv.gz", "csv.zst", "parquet")


@pytest.fixture(scope="module")
def ds(tmp_path_factory: pytest.TempPathFactory) -> xr.Dataset:
    path = tmp_path_factory.mktemp("tidy") / "s.zarr"
    nan = np.full((3, 17), 1.5, np.float32)
    nan[2] = np.nan  # an eigenpair that the solver did not find
    make_store(
        path,
        seeds=(3, 4),
        statuses={(1, 0): Status.PENDING},
        lowest=2,
        values={"eigenvectors": nan, "eigenvalues": np.array([2.0, -1e-300, np.nan]), "solver_message": 'a, "b"'},
    )
    return hesstore.open(path)


@pytest.fixture(scope="module")
def tables(ds: xr.Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    for ending in ENDINGS:
        compress = ending.partition(".")[2]
        options = {"format": "parquet"} if ending == "parquet" else {"style": "tidy", "compress": compress or None}
        hesstore.export(ds, folder / ending, **options)
    return folder


def polars_of(pattern: str) -> pl.DataFrame:
    return pl.read_parquet(pattern) if pattern.endswith("parquet") else pl.read_csv(pattern)


def pandas_of(pattern: str) -> pl.DataFrame:
    frame = pd.read_parquet(pattern) if pattern.endswith("parquet") else pd.read_csv(pattern)
    return pl.from_pandas(frame)


def duckdb_of(pattern: str) -> pl.DataFrame:
    relation = duckdb.sql(f"select * from '{pattern}'")  # noqa: S608 - a path that the test made
    table: pl.DataFrame = relation.pl()  # type: ignore[union-attr]
    return table


READERS = {"polars": polars_of, "pandas": pandas_of, "duckdb": duckdb_of}


PACKED = ("csv.gz", "csv.zst")
COLUMNS = {
    "eigenvalues": "eigenvalue",
    "lowest_eigenvalues": "eigenvalue",
    "lowest_residual_norm": "residual_norm",
    "lowest_converged": "converged",
}
KINDS = [kind for kind in TABLES if kind not in {"density", "blocks", "block_eigenvalues"}]
"""The tables of a store without a density and without blocks of layers."""


@pytest.mark.parametrize(
    "reader", ["polars", *(pytest.param(name, marks=pytest.mark.slow) for name in ("pandas", "duckdb"))]
)
@pytest.mark.parametrize(
    ("kind", "ending"),
    [*((kind, ending) for kind in KINDS for ending in ("csv", "parquet")), *(("classes", e) for e in PACKED)],
)
def test_small_tables(ds: xr.Dataset, tables: Path, kind: str, reader: str, ending: str) -> None:
    table = READERS[reader](str(tables / ending / f"{kind}.{ending}"))
    dims = TABLES[kind]
    sizes = int(np.prod([ds.sizes[dim] for dim in dims]))
    assert len(table) == 5 * sizes
    assert table["run"].to_list() == [0] * 3 * sizes + [1] * 2 * sizes
    expected = ds.stack(cell=("run", "l2")).isel(cell=[0, 1, 2, 4, 5])  # noqa: PD013 - xarray's own
    assert table["l2"].to_list() == np.repeat(expected["l2"].values, sizes).tolist()
    same_everywhere = {"status", "failure"}
    recorded = variables(json.loads(ds.attrs["identity"]))
    names = [each.name for each in recorded if each.dims[2:] == dims and not each.is_bookkeeping]
    names = [name for name in names if name not in same_everywhere]
    assert {"digest", "solver_message", "failure"}.isdisjoint(table.columns)
    for name in names:
        column = table[COLUMNS.get(name, name)].to_list()
        values = expected[name].transpose("cell", *dims).values.reshape(-1).tolist()
        assert column == [None if isinstance(value, float) and np.isnan(value) else value for value in values], name
    for dim in dims:
        assert table[dim].to_list()[:sizes] == expected[dim].broadcast_like(ds[dim]).values.tolist() or len(dims) > 1
    if dims == ("split", "label"):
        one = table.filter(
            (pl.col("run") == 1) & (pl.col("l2") == 0.01) & (pl.col("split") == "test") & (pl.col("label") == 1)
        )
        assert one["class_accuracy"].to_list() == [
            float(ds["class_accuracy"].sel(run=1, l2=0.01, split="test", label=1))
        ]
    if not dims:
        assert table["seed"].to_list() == [3, 3, 3, 4, 4]
        assert set(table["direction"].to_list()) == {"up"}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("kind", LARGE)
def test_one_value_per_parameter(ds: xr.Dataset, tables: Path, kind: str, ending: str) -> None:
    files = sorted((tables / ending / kind).iterdir())
    assert [file.name for file in files] == [
        f"{kind}-{cell}.{ending}" for cell in ("0-0.00000", "0-0.00020", "0-0.01000", "1-0.00020", "1-0.01000")
    ]
    table = duckdb_of(str(tables / ending / kind / f"*.{ending}")).sort("run", "l2", maintain_order=True)
    dim, modes = {"eigenvectors": ("mode", 3), "lowest_eigenvectors": ("lowest", 2)}.get(kind, ("", 1))
    assert table.columns == [
        "run",
        "l2",
        *([dim] if dim else []),
        "layer",
        "kind",
        "out_index",
        "in_index",
        "value",
    ]
    assert len(table) == 5 * modes * 17
    last = table.tail(modes * 17)
    cell = ds[LARGE[kind]].sel(run=1, l2=0.01).values
    values = last["value"].cast(pl.Float32).fill_null(np.nan).to_numpy().reshape(cell.shape)
    assert np.array_equal(values, cell, equal_nan=True)
    assert last["layer"].to_list()[:17] == ds["layer"].values.tolist()
    assert last["kind"].to_list()[:17] == ds["kind"].values.tolist()
    assert last["in_index"].to_list()[:17] == ds["in_index"].values.tolist()
    for reader in (polars_of, pandas_of):
        one = reader(str(files[-1]))
        assert one["value"].cast(pl.Float32).fill_nan(None).to_list() == last["value"].cast(pl.Float32).to_list()


def test_pandas_reads_a_folder_of_parquet(tables: Path) -> None:
    frame = pd.read_parquet(tables / "parquet" / "weights")
    assert len(frame) == 5 * 17
    assert frame["value"].dtype == np.float32


def test_one_row_group_per_eigenvector(tables: Path) -> None:
    file = pq.ParquetFile(tables / "parquet" / "eigenvectors" / "eigenvectors-0-0.00000.parquet")
    assert file.metadata.num_rows == 3 * sum(int(np.prod(shape)) for _, shape in SHAPES)
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"


def test_empty_tables_are_not_written(ds: xr.Dataset, tables: Path) -> None:
    assert not (tables / "csv" / "density.csv").exists()
