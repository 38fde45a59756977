"""Grids with more points than one chunk of a small variable holds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from hesstore import durable_files
from hesstore.config import SweepConfig
from hesstore.errors import CorruptStoreError
from hesstore.integrity.repair import repair
from hesstore.integrity.verify import verify
from hesstore.store import Status, SweepStore
from hesstore.store.chunk_files import blocks, chunk_file, chunk_files
from hesstore.store.growing import grow_store
from hesstore.store.metadata import read_metadata, rebuild_spec
from hesstore.store.schema import BY_NAME
from tests.support.export_stores import consistent_values, make_store

COUNT = 600
L2 = tuple(index / 10_000 for index in range(COUNT))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store of one run whose grid points have all failed: nothing large is in it."""
    store = make_store(tmp_path / "s.zarr", l2=L2, statuses={(0, index): Status.PENDING for index in range(COUNT)})
    (run,) = store.runs
    store.put_all("failure", run, np.array([f"reason {index}" for index in range(COUNT)], dtype=object))
    store.put_all("status", run, np.full(COUNT, Status.FAILED, np.int8))
    store.seal_entries(run)
    return tmp_path / "s.zarr"


def test_blocks_cover_the_grid() -> None:
    assert blocks(1) == [slice(0, 1)]
    assert blocks(256) == [slice(0, 256)]
    assert blocks(COUNT) == [slice(0, 256), slice(256, 512), slice(512, 600)]
    assert chunk_files(BY_NAME["loss"], 3, COUNT) == [f"loss/c/3/{block}/0" for block in range(3)]
    assert chunk_file(BY_NAME["loss"], 0, 511) == "loss/c/0/1/0"
    assert chunk_file(BY_NAME["weights"], 0, 511) == "weights/c/0/511/0"


def test_a_whole_store_is_clean(path: Path) -> None:
    report = verify(path)
    assert (report.problems, report.remarks) == ([], [])
    assert report.counts == {Status.FAILED: COUNT}
    assert {file.name for file in (path / "status/c/0").iterdir() if not file.name.startswith(".")} == {"0", "1", "2"}


@pytest.mark.parametrize("claimed", [False, True])
def test_recording_a_grid_point_rewrites_its_chunks_alone(
    path: Path, monkeypatch: pytest.MonkeyPatch, *, claimed: bool
) -> None:
    written: set[str] = set()
    real = durable_files.write_file

    def spy(target: Path, data: bytes, *, within: Path) -> None:
        real(target, data, within=within)
        written.add(target.relative_to(path).as_posix())

    store = SweepStore.open(path)
    (run,) = store.runs
    values = consistent_values(rebuild_spec(read_metadata(path)), np.random.default_rng(0), L2[530])
    monkeypatch.setattr("hesstore.store.places.durable_store.write_file", spy)
    if claimed:
        with store.claim(run):
            assert store.status(run)[530] == Status.FAILED
            store.record(run, 530, Status.COMPLETE, values)
            assert store.status(run)[530] == Status.COMPLETE
            assert float(store.read("loss", run, 530)[1]) == values["loss"][1]
    else:
        store.record(run, 530, Status.COMPLETE, values)
    assert {file for file in written if file.startswith(("status/", "loss/", "failure/"))} == {
        "status/c/0/2", "loss/c/0/2/0", "failure/c/0/2"
    }  # fmt: skip
    ds = xr.open_zarr(path)
    assert (ds["status"] == Status.FAILED).sum() == COUNT - 1
    np.testing.assert_array_equal(ds["loss"].sel(run=0, l2=L2[530]), values["loss"])
    assert str(ds["failure"].sel(run=0, l2=L2[531]).values) == "reason 531"


def test_a_damaged_chunk_withdraws_its_grid_points_alone(path: Path) -> None:
    file = path / "failure/c/0/1"
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(CorruptStoreError, match=r"failure of run 0: failure/c/0/1 is damaged"):
        SweepStore.open(path).entries("failure", SweepStore.open(path).runs[0])
    report = verify(path)
    assert report.bad == {(0, index) for index in range(256, 512)}
    assert report.damaged_files == ["failure/c/0/1"]
    done = repair(path)
    assert done.after.ok
    assert done.after.counts == {Status.FAILED: COUNT - 256, Status.PENDING: 256}
    assert str(SweepStore.open(path).read("failure", SweepStore.open(path).runs[0], 512)) == "reason 512"


@pytest.mark.parametrize("name", ["status", "entries_digest"])
def test_a_damaged_promise_is_withdrawn_by_chunk(path: Path, name: str) -> None:
    file = path / f"{name}/c/0/2"
    file.write_bytes(file.read_bytes()[:-3])
    assert verify(path).bad == {(0, index) for index in range(512, COUNT)}
    done = repair(path)
    assert done.after.ok
    assert done.after.counts == {Status.FAILED: 512, Status.PENDING: COUNT - 512}


def test_withdrawn_grid_points(path: Path) -> None:
    store = SweepStore.open(path)
    (run,) = store.runs
    with store.claim(run):
        store.withdraw(run, [3, 255, 256])
        assert np.flatnonzero(store.status(run) == Status.PENDING).tolist() == [3, 255, 256]
    assert np.flatnonzero(SweepStore.open(path).status(run) == Status.PENDING).tolist() == [3, 255, 256]
    assert verify(path).ok
    store.withdraw(run, range(256))
    assert not (path / "status/c/0/0").exists()  # nothing but fill values
    assert verify(path).ok


def test_a_grid_that_grows_over_chunks(path: Path) -> None:
    spec = rebuild_spec(read_metadata(path))
    l2 = sorted([*L2, *(value + 0.00005 for value in L2)])
    config = SweepConfig.from_mapping({"l2": l2, "seeds": [3], "k": 3})
    identity = {**spec.identity, **config.identity()}
    attrs = {**spec.attrs, "config": json.dumps(config.to_mapping())}
    grown = grow_store(SweepStore.open(path), replace(spec, grid=config.l2, identity=identity, attrs=attrs))
    (run,) = grown.runs
    assert grown.status(run).tolist() == [Status.FAILED, Status.PENDING] * COUNT
    assert str(grown.read("failure", run, 2 * 599)) == "reason 599"
    assert verify(path).ok
