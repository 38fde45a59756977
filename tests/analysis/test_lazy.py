"""The analyses of a store on disk, with and without Dask."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

from hesstore import analysis
from tests.support.analysis_datasets import Classes, spectra


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one file per grid point and one chunk per eigenvector."""
    ds = Classes().ds
    ds["status"][0, 3] = 0
    layers = spectra(ds.eigenvectors.values[0]).layer
    path = tmp_path_factory.mktemp("lazy") / "small.zarr"
    ds = ds.assign_coords(layer=layers)
    _, _, modes, size = ds.eigenvectors.shape
    encoding = {"eigenvectors": {"chunks": (1, 1, 1, size), "shards": (1, 1, modes, size)}}
    ds.to_zarr(path, zarr_format=3, consolidated=False, encoding=encoding)
    return path


@pytest.mark.parametrize("chunks", [None, {}])
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("overlap", (0.0, 0.02, 2)),
        ("overlap_map", ()),
        ("track", ()),
        ("layer_mass", ()),
        ("participation_ratio", ()),
        ("sensitivity", ()),
    ],
)
def test_lazy_stores_give_what_memory_gives(path: Path, chunks: Any, name: str, arguments: tuple[float, ...]) -> None:
    ds = xr.open_zarr(path, chunks=chunks, consolidated=False)
    assert (ds.eigenvectors.chunks is None) == (chunks is None)
    found = getattr(analysis, name)(ds, *arguments)
    xr.testing.assert_identical(found, getattr(analysis, name)(ds.load(), *arguments))
    assert found.sizes.get("l2", 4) == 4
    assert not any(variable.chunks for variable in found.variables.values())


@pytest.mark.parametrize(("name", "arguments"), [("lost_classes", ()), ("transitions", ("overlap",))])
def test_series_of_a_lazy_store(path: Path, name: str, arguments: tuple[str, ...]) -> None:
    options: list[Any] = [None, {}]
    for chunks in options:
        ds = xr.open_zarr(path, chunks=chunks, consolidated=False)
        found = getattr(analysis, name)(ds, *arguments)
        assert not any(variable.chunks for variable in found.variables.values())
        xr.testing.assert_identical(found, getattr(analysis, name)(ds.load(), *arguments))


def test_complete_reads_no_vectors(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    whole = zarr.Array.__getitem__

    def counted(self: zarr.Array[Any], key: Any) -> Any:
        read.append(self.name)
        return whole(self, key)

    monkeypatch.setattr(zarr.Array, "__getitem__", counted)
    ds = xr.open_zarr(path, chunks=None, consolidated=False)
    part = analysis.complete(ds)
    assert "/eigenvectors" not in read
    assert np.isfinite(part.eigenvectors.values).all()
