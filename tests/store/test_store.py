from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

import hesstore
from hesstore import durable_files
from hesstore.errors import ConfigMismatchError, StoreBusyError, StoreError
from hesstore.store import Status, SweepStore
from hesstore.store.arrays import Arrays
from hesstore.store.digest import digest
from hesstore.store.places.location import local_path
from hesstore.store.schema import BY_NAME, VARIABLES, variables
from tests.support.stores import IDENTITY, LARGE, K, P, analysed, fitted, spec


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s.zarr"


@pytest.fixture
def store(path: Path) -> SweepStore:
    return SweepStore.create(path, spec())


def test_an_empty_template_reads_as_nothing_done(store: SweepStore, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ds = xr.open_zarr(path)
    assert set(ds.data_vars) == {variable.name for variable in variables(IDENTITY)}
    assert (ds["status"] == Status.PENDING).all()
    assert ds["eigenvalues"].isnull().all()
    assert ds["eigenvectors"].isnull().all()
    assert (ds["confusion"] == -1).all()
    assert "_FillValue" not in ds["confusion"].encoding
    assert "_FillValue" not in ds["confusion"].attrs
    assert ds["status"].attrs["flag_meanings"] == "pending fitted complete failed"
    assert ds["status"].attrs["flag_values"] == [0, 1, 2, 3]
    for variable in variables(IDENTITY):
        assert ds[variable.name].dims == variable.dims
        assert ds[variable.name].attrs["long_name"]


def test_what_is_recorded_is_read_by_label(store: SweepStore, path: Path) -> None:
    run = store.runs[1]
    store.record(run, 1, Status.FITTED, fitted(0))
    store.record(run, 1, Status.COMPLETE, analysed(0))
    ds = hesstore.open(path)
    assert ds.load().identical(xr.open_zarr(path).load())
    cell = ds.sel(run=1, l2=0.0006)
    for name, value in {**fitted(0), **analysed(0)}.items():
        assert np.array_equal(cell[name].values, np.asarray(value)), name
    assert int(cell["status"]) == Status.COMPLETE
    assert (ds["status"].sum()) == Status.COMPLETE
    assert str(cell["direction"].values) == "down"
    assert int(cell["seed"]) == 4
    halves = cell["eigenvectors"].sel(mode=0).groupby("layer").map(lambda part: (part**2).sum())
    vector = analysed(0)["eigenvectors"][0]
    assert halves.sel(layer="fc1") == pytest.approx(float((vector[:8] ** 2).sum()))


def test_large_variables_have_one_file_per_grid_point(store: SweepStore, path: Path) -> None:
    for index in range(3):
        store.record(store.runs[0], index, Status.FITTED, fitted(index))
        store.record(store.runs[0], index, Status.COMPLETE, analysed(index))
    for name in ("eigenvectors", "weights", "gradient"):
        assert len([file for file in (path / name / "c").rglob("*") if file.is_file()]) == 3
    for name in ("eigenvalues", "confusion", "loss", "digest"):
        assert len([file for file in (path / name / "c").rglob("*") if file.is_file()]) == 1
    array = zarr.open_group(path, mode="r")["eigenvectors"]
    assert isinstance(array, zarr.Array)
    assert array.shards == (1, 1, K, P)
    assert array.chunks == (1, 1, 1, P)


def test_a_flipped_bit_never_reads_as_a_number(store: SweepStore, path: Path) -> None:
    store.record(store.runs[0], 0, Status.FITTED, fitted(0))
    store.record(store.runs[0], 0, Status.COMPLETE, analysed(0))
    rng = np.random.default_rng(0)
    for name in ("eigenvectors", "weights", "eigenvalues", "confusion"):
        (file,) = [file for file in (path / name / "c" / "0").rglob("*") if file.is_file()] or [path / name / "c" / "0"]
        good = file.read_bytes()
        for position in rng.integers(0, len(good), 4):
            bad = bytearray(good)
            bad[position] ^= 1 << int(rng.integers(8))
            file.write_bytes(bad)
            with pytest.raises((ValueError, RuntimeError)):
                xr.open_zarr(path)[name].isel(run=0, l2=0).load()
        file.write_bytes(good)


def test_the_status_follows_everything_else(store: SweepStore, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The large arrays are on disk before the first entry, entries before the digests; the status is the last one."""
    written: list[str] = []
    real = durable_files.write_file

    def spy(target: Path, data: bytes, *, within: Path) -> None:
        real(target, data, within=within)
        written.append(target.relative_to(path).parts[0])

    monkeypatch.setattr("hesstore.store.places.durable_store.write_file", spy)
    store.record(store.runs[0], 0, Status.FITTED, fitted(0))
    store.record(store.runs[0], 0, Status.COMPLETE, analysed(0))
    cut = written.index("status") + 1
    analysis = set(LARGE) - {"weights"}
    for phase, large in ((written[:cut], {"weights"}), (written[cut:], analysis)):
        assert phase[-3:] == ["entries_digest", "digest", "status"]
        assert set(phase[: len(large)]) == large


@pytest.mark.parametrize("stop_at", [0, 4, 9])
def test_a_write_that_fails_half_way_leaves_the_old_status(
    store: SweepStore, path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    store.record(store.runs[0], 0, Status.FITTED, fitted(0))
    real, count = durable_files.write_file, 0

    def failing(target: Path, data: bytes, *, within: Path) -> None:
        nonlocal count
        if count == stop_at:
            raise OSError(28, "No space left on device", str(target))
        count += 1
        real(target, data, within=within)

    monkeypatch.setattr("hesstore.store.places.durable_store.write_file", failing)
    with pytest.raises(OSError, match="No space"):
        store.record(store.runs[0], 0, Status.COMPLETE, analysed(0))
    monkeypatch.setattr("hesstore.store.places.durable_store.write_file", real)
    assert int(xr.open_zarr(path)["status"][0, 0]) == Status.FITTED
    SweepStore.open(path).record(store.runs[0], 0, Status.COMPLETE, analysed(0))
    ds = xr.open_zarr(path)
    assert int(ds["status"][0, 0]) == Status.COMPLETE
    assert np.array_equal(ds["eigenvectors"][0, 0], analysed(0)["eigenvectors"])


def test_digest_is_that_of_the_large_arrays_in_their_place(store: SweepStore) -> None:
    run = store.runs[0]
    store.record(run, 1, Status.FITTED, fitted(0))
    weights = {"weights": fitted(0)["weights"]}
    assert store.read("digest", run, 1) == digest(run, 0.0006, weights)
    store.record(run, 1, Status.COMPLETE, analysed(0))
    arrays = {**weights, **{name: analysed(0)[name] for name in LARGE if name != "weights"}}
    stored = int(store.read("digest", run, 1))
    assert stored == digest(run, 0.0006, arrays)
    assert stored != digest(run, 0.01, arrays)
    assert stored != digest(store.runs[1], 0.0006, arrays)
    arrays["gradient"] = np.nextafter(arrays["gradient"], np.float32(1))
    assert stored != digest(run, 0.0006, arrays)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("weights", np.zeros(P + 1, np.float32), r"shape \(13,\) is not the store's \(12,\)"),
        ("weights", np.zeros(P, np.complex64), "dtype complex64 does not fit"),
        ("confusion", np.zeros((2, 2, 2)), "dtype float64 does not fit"),
    ],
)
def test_values_that_do_not_fit_are_refused(store: SweepStore, name: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        store.record(store.runs[0], 0, Status.FITTED, {**fitted(0), name: value})
    assert int(store.status(store.runs[0])[0]) == Status.PENDING


def test_another_config_is_refused_with_the_differing_keys(store: SweepStore, path: Path) -> None:
    SweepStore.open(path).require(IDENTITY)
    SweepStore.open(path).require({"lr": 0.1}, partly=True)
    words = r"lr is 0\.1 in the store, 0\.2 in the config; new is None in the store, 1 in the config"
    with pytest.raises(ConfigMismatchError, match=words) as caught:
        SweepStore.open(path).require({**IDENTITY, "lr": 0.2, "new": 1})
    assert caught.value.differences == {"lr": ("0.1", "0.2"), "new": ("None", "1")}


def test_paths_that_are_not_stores(tmp_path: Path, store: SweepStore, path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "x").touch()
    zarr.create_group(tmp_path / "other.zarr")
    for location, message in (
        (tmp_path / "none.zarr", "no such store"),
        (file, "is a file"),
        (folder, "not a Zarr store"),
        (tmp_path / "other.zarr", "not one of hesstore"),
        ("gs://bucket/x.zarr", "a store is a local folder, on S3, or on a web server"),
    ):
        with pytest.raises(StoreError, match=message):
            hesstore.open(location)
    for location, message in (
        (file, "is a file"),
        (folder, "other contents"),
        (path, "other contents"),
        (tmp_path / "a" / "b.zarr", "does not exist"),
        (Path("/proc/x.zarr"), "can't write in /proc"),
    ):
        with pytest.raises(StoreError, match=message):
            SweepStore.create(location, spec())
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder", "other.zarr", "s.zarr"]


def test_file_urls_are_paths(store: SweepStore, path: Path) -> None:
    assert hesstore.open(path.as_uri()).load().identical(xr.open_zarr(path).load())
    assert local_path("file://localhost/a%20b/%23c%3F+d%E2%82%AC/50%") == Path("/a b/#c?+d€/50%")
    assert local_path("a?b#c") == Path("a?b#c")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("file://server/p", "is on the server 'server': give file:///PATH"),
        ("file://p", "the server 'p'"),
        ("file:///a#b", r"has \? or #"),
        ("file:///a?b", r"has \? or #, which end the path of a URL: write %3F or %23"),
        ("file:///", "does not name a path"),
        ("file:///a%00b", "does not name a path"),
        ("~nosuchuser/x", "the home folder that ~ stands for is not known: write the whole path"),
    ],
)
def test_urls_and_homes_that_name_no_path(url: str, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        local_path(url)


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def expanduser(_: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", expanduser)
    with pytest.raises(StoreError, match=r"~/s\.zarr: the home folder that ~ stands for is not known"):
        hesstore.open("~/s.zarr")


def test_another_schema_is_refused(store: SweepStore, path: Path) -> None:
    metadata = json.loads((path / "zarr.json").read_text())
    metadata["attributes"]["schema_version"] = 99
    (path / "zarr.json").write_text(json.dumps(metadata))
    with pytest.raises(StoreError, match="has schema 99, but this hesstore reads only schema 1: use the version"):
        hesstore.open(path)


def test_broken_metadata_is_named(store: SweepStore, path: Path) -> None:
    (path / "zarr.json").write_text("{")
    with pytest.raises(StoreError, match=r"zarr\.json cannot be read"):
        hesstore.open(path)


def test_one_driver_a_run(store: SweepStore) -> None:
    first, second = store.runs
    with store.claim(first), store.claim(second):
        with pytest.raises(StoreBusyError, match=f"run 0 .* by process {os.getpid()} on"), store.claim(first):
            pass
    with store.claim(first):
        pass


def test_a_dead_driver_does_not_hold_its_run(store: SweepStore, path: Path, environment: dict[str, str]) -> None:
    code = (
        "import sys, time, pathlib; from hesstore.store import SweepStore\n"
        "store = SweepStore.open(pathlib.Path(sys.argv[1]))\n"
        "with store.claim(store.runs[0]):\n    print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, env=environment)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(StoreBusyError, match=f"process {process.pid} on"), store.claim(store.runs[0]):
            pass
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    with store.claim(store.runs[0]):
        pass


def test_schema_table_is_sound() -> None:
    assert len(BY_NAME) == len(VARIABLES)
    for variable in VARIABLES:
        assert variable.dims[:2] == ("run", "l2")


def test_a_run_that_is_recorded_in_one_pass(tmp_path: Path) -> None:
    """Everything reads as if it had been recorded one by one, except that values that are not given have no files."""
    one, other = (SweepStore.create(tmp_path / name, spec()) for name in ("one.zarr", "other.zarr"))
    results = [
        (0, Status.COMPLETE, {**fitted(0), **analysed(0)}),
        (1, Status.FAILED, {"failure": "it diverged"}),
        (2, Status.FITTED, fitted(2)),
    ]
    run = one.runs[1]
    with one.claim(run), other.claim(run):
        one.record_run(run, iter(results))
        for index, status, values in results:
            other.record(run, index, status, values)
    assert {*one.place.names()} == {*other.place.names()}
    xr.testing.assert_identical(*(xr.open_zarr(store.path).load() for store in (one, other)))
    store = SweepStore.create(tmp_path / "part.zarr", spec())
    values = {name: value for name, value in analysed(0).items() if not BY_NAME[name].is_large}
    store.record_run(run, [(1, Status.COMPLETE, values)])
    ds = xr.open_zarr(store.path).load().isel(run=1, l2=1)
    assert not [name for name in store.place.names() if name.startswith(("gradient/c", "weights/c", "class_slope/c"))]
    covered = {name: ds[name].values for name in LARGE}
    assert all(np.isnan(array).all() for array in covered.values())
    assert int(ds["digest"]) == digest(run, 0.0006, covered)
    assert int(ds["matvecs"]) == 17


def test_a_store_that_cannot_be_written_names_the_first_cause(
    store: SweepStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not the file of the claim, which is the first one that is written."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "statvfs", lambda _: os.statvfs_result((0,) * 8 + (os.ST_RDONLY, 255)))
        with pytest.raises(StoreError, match="lies on a read-only file system: copy the store, or give another path"):
            store.place.check_writable()
    shutil.rmtree(path / "status")
    (path / "status").write_text("a file where the claims should be")
    with (
        pytest.raises(StoreError, match=rf"^{path}: cannot be written \(Not a directory\)"),
        store.claim(store.runs[0]),
    ):
        pass


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
@pytest.mark.parametrize("written", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_two_ends_in_a_row_leave_what_reads(
    store: SweepStore, path: Path, monkeypatch: pytest.MonkeyPatch, written: int, error: BaseException
) -> None:
    """The first before a status or its last digest, the second before the digests of the repeated analysis."""
    run = store.runs[0]
    store.record(run, 0, Status.FITTED, fitted(0))

    def stop_at(name: str) -> None:
        def put(arrays: Arrays, each: str, *rest: object) -> None:
            if each == name:
                raise error
            real(arrays, each, *rest)  # type: ignore[arg-type]

        monkeypatch.setattr(Arrays, "put", put)

    real = Arrays.put
    for name, seconds in ((("digest", "status")[written - 1], 1.5), ("entries_digest", 2.5)):
        stop_at(name)
        with pytest.raises(type(error)), store.claim(run):
            store.record(run, 0, Status.COMPLETE, {**analysed(0), "analysis_seconds": seconds})
        if not isinstance(error, OSError):
            claim = {"pid": 2**22 + 1, "host": socket.gethostname(), "since": "2026-01-01T00:00:00+00:00"}
            (path / "status" / ".claim-0.json").write_text(json.dumps(claim))
        found = hesstore.open(path, check=True, chunked=False)
        assert int(found["status"][0, 0]) == Status.FITTED
        SweepStore.open(path).check_large(run, 0)
    monkeypatch.setattr(Arrays, "put", real)
    with store.claim(run):
        store.record(run, 0, Status.COMPLETE, analysed(0))
    assert float(hesstore.open(path, check=True)["analysis_seconds"][0, 0]) == 1.5


@pytest.mark.parametrize("before", [Status.PENDING, Status.FITTED])
def test_a_driver_that_does_nothing_after_a_full_disk_leaves_what_reads(
    store: SweepStore, path: Path, monkeypatch: pytest.MonkeyPatch, before: Status
) -> None:
    """Nor does one that finds the disk still full while it withdraws what the first one had promised."""
    full, run = OSError(errno.ENOSPC, "No space left on device"), store.runs[0]
    if before == Status.FITTED:
        store.record(run, 0, Status.FITTED, fitted(0))

    def stop_at(method: str, name: str) -> None:
        def put(arrays: Arrays, each: str, *rest: object) -> None:
            if each == name:
                raise full
            real(arrays, each, *rest)

        real = getattr(Arrays, method)
        monkeypatch.setattr(Arrays, method, put)

    stop_at("put", "status")
    with pytest.raises(OSError, match="No space"), store.claim(run):
        store.record(run, 0, Status.COMPLETE, {**fitted(0), **analysed(0)})
    stop_at("put_row", "entries_digest")
    with pytest.raises(OSError, match="No space"), store.claim(run):
        pass
    assert int(hesstore.open(path, check=True)["status"][0, 0]) == before
    monkeypatch.undo()
    with store.claim(run):
        pass
    assert int(hesstore.open(path, check=True)["status"][0, 0]) == before
    assert not (path / "status" / ".claim-0.json").exists()
