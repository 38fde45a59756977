from __future__ import annotations

import errno
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
import xarray as xr
import zarr

import hesstore
from hesstore import durable_files
from hesstore.config import SweepConfig
from hesstore.engine.sweep import run_sweep
from hesstore.errors import CorruptStoreError, ExportError
from hesstore.exporting import netcdf_writer
from hesstore.exporting.netcdf import export_netcdf
from hesstore.store import Status, SweepStore
from tests.support.stores import K, P, analysed, fitted, spec
from tests.support.toy import TOY

h5py = pytest.importorskip("h5py")
ENGINES = ("h5netcdf", "netcdf4")
OF_PARAMETERS = {
    *("eigenvectors", "lowest_eigenvectors", "gradient", "weights"),
    *("layer", "kind", "out_index", "in_index"),
}


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete sweep of two runs."""
    path = tmp_path_factory.mktemp("netcdf") / "s.zarr"
    run_sweep(SweepConfig.from_mapping({**TOY, "epochs": 2, "direction": "both"}), path)
    return path


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Grid points of every status, and numbers that are easily lost."""
    path = tmp_path / "m.zarr"
    store = SweepStore.create(path, spec())
    for run in store.runs:
        store.record(run, 0, Status.FITTED, fitted(run.id))
    values = analysed(0)
    values["gradient"][:3] = -0.0, np.float32(1e-45), -np.float32(1e-45)
    values["eigenvalues"] = np.array([3.0, 5e-324, np.nan])  # the solver found two pairs
    values["eigenvectors"][2] = np.nan
    store.record(store.runs[0], 0, Status.COMPLETE, {**values, "solver_message": "found 2 of 3 – «λ»"})
    store.record(store.runs[0], 2, Status.FAILED, {"failure": "loss is nan"})
    return path


def opened(path: Path, engine: str = "h5netcdf") -> xr.Dataset:
    with xr.open_dataset(path, engine=engine) as ds:
        return ds.load()


def as_exported(ds: xr.Dataset) -> xr.Dataset:
    """The Dataset of a store, with the texts and the types of numbers that every netCDF program reads."""
    for name in ("digest", "entries_digest"):
        texts = np.array([f"{number:016x}" for number in ds[name].values.ravel().tolist()], dtype=object)
        ds[name] = ds[name].copy(data=texts.reshape(ds[name].shape))
    for name in ("failure", "solver_message"):
        texts = np.array([each if isinstance(each, str) else "" for each in ds[name].values.ravel()], dtype=object)
        ds[name] = ds[name].copy(data=texts.reshape(ds[name].shape))
    return ds.assign_coords(seed=ds["seed"].astype(np.int32))


def assert_same(found: xr.Dataset, expected: xr.Dataset) -> None:
    """Assert that Datasets are identical, with the same types, and bit for bit except for NaN."""
    expected = as_exported(expected)
    xr.testing.assert_identical(found, xr.Dataset(expected.data_vars, expected.coords, expected.attrs))
    for name, variable in expected.variables.items():
        values, there = variable.values, found[name].values
        if values.dtype.kind in "biuf":
            assert there.dtype == values.dtype, name
            assert np.array_equal(np.signbit(there[there == 0]), np.signbit(values[values == 0])), name
        assert {key: type(value) for key, value in found[name].attrs.items() if isinstance(value, str)} == {
            key: str for key, value in variable.attrs.items() if isinstance(value, str)
        }


@pytest.mark.filterwarnings("ignore:numpy.ndarray size changed:RuntimeWarning")
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("compress", [None, pytest.param("gz", marks=pytest.mark.slow)])
def test_xarray_reads_the_contents_of_the_store(swept: Path, tmp_path: Path, engine: str, compress: str | None) -> None:
    path = tmp_path / "new folder" / "s.nc"
    assert export_netcdf(swept, path, compress=compress) == (path,)
    assert [file.name for file in path.parent.iterdir()] == ["s.nc"]
    found, expected = opened(path, engine), hesstore.open(swept).load()
    assert_same(found, expected)
    assert found["status"].attrs["flag_values"].dtype == np.int8
    assert set(found.coords) == set(expected.coords)
    assert found.sel(run=1, l2=0.001)["direction"] == "down"


@pytest.mark.filterwarnings("ignore:numpy.ndarray size changed:RuntimeWarning")
@pytest.mark.parametrize("engine", ENGINES)
def test_grid_points_that_are_not_complete_keep_their_place(mixed: Path, tmp_path: Path, engine: str) -> None:
    (path,) = export_netcdf(mixed, tmp_path / "m.nc")
    found, expected = opened(path, engine), hesstore.open(mixed).load()
    assert found["status"].values.tolist() == [[2, 0, 3], [1, 0, 0]]
    assert_same(found, expected)
    assert found["solver_message"].values[0, 0] == "found 2 of 3 – «λ»"
    assert found["failure"].values[0, 2] == "loss is nan"
    assert found["weights"][1, 0].notnull().all()
    assert found["gradient"][1].isnull().all()


def test_only_what_the_status_promises_is_copied(mixed: Path, tmp_path: Path) -> None:
    store = SweepStore.open(mixed)
    # As after a kill, the status is not written yet.
    store.put_arrays(store.runs[1], 1, Status.FITTED, {"weights": np.ones(P, np.float32)})
    (path,) = export_netcdf(mixed, tmp_path / "m.nc")
    assert opened(path)["weights"][1, 1].isnull().all()


def test_each_eigenvector_is_a_chunk_and_all_numbers_have_checksums(swept: Path, tmp_path: Path) -> None:
    export_netcdf(swept, tmp_path / "plain.nc")
    export_netcdf(swept, tmp_path / "small.nc", compress="gz")
    with h5py.File(tmp_path / "plain.nc") as plain, h5py.File(tmp_path / "small.nc") as small:
        assert plain["eigenvectors"].chunks == (1, 1, 1, plain["eigenvectors"].shape[-1])
        assert plain["weights"].chunks == (1, 1, plain["weights"].shape[-1])
        assert plain["class_slope"].chunks == (1, 1, *plain["class_slope"].shape[2:])
        for name in (
            *map(str, hesstore.open(swept).data_vars),
            "l2",
            "run",
            "mode",
            "seed",
            "out_index",
        ):
            if plain[name].dtype.kind != "S":
                assert plain[name].fletcher32, name
                assert plain[name].compression is None
                assert (small[name].fletcher32, small[name].shuffle) == (True, True), name
                assert (small[name].compression, small[name].compression_opts) == ("gzip", 4), name
        assert np.isnan(plain["weights"].fillvalue)
        assert np.isnan(plain["weights"].attrs["_FillValue"])
        assert "_FillValue" not in plain["confusion"].attrs
    assert (tmp_path / "small.nc").stat().st_size < (tmp_path / "plain.nc").stat().st_size


def test_every_program_can_read_the_types(mixed: Path, tmp_path: Path) -> None:
    """The classic formats have neither texts of any length nor numbers of 64 bits, and R would lose bits of them."""
    (path,) = export_netcdf(mixed, tmp_path / "m.nc")
    with netCDF4.Dataset(path) as file:
        kinds = {name: variable.dtype for name, variable in file.variables.items()}
        assert not [name for name, kind in kinds.items() if kind is str or np.dtype(kind).str[1:] in {"i8", "u8"}]
        owners: list[Any] = [file, *file.variables.values()]
        for owner in owners:
            for key in owner.ncattrs():
                assert isinstance(owner.getncattr(key), str) or np.asarray(owner.getncattr(key)).dtype.itemsize <= 8
    with h5py.File(path) as file:
        for owner in (file, *file.values()):
            for key in owner.attrs:
                if key not in {"DIMENSION_LIST", "REFERENCE_LIST", "CLASS", "NAME", "_NCProperties"}:
                    kind = owner.attrs.get_id(key).dtype
                    assert h5py.check_string_dtype(kind) is None or h5py.check_string_dtype(kind).length, key
    if nccopy := shutil.which("nccopy"):
        subprocess.run([nccopy, "-k", "classic", str(path), str(tmp_path / "c.nc")], check=True)


def test_a_flipped_byte_is_noticed(swept: Path, tmp_path: Path) -> None:
    (path,) = export_netcdf(swept, tmp_path / "s.nc")
    with h5py.File(path) as file:
        vectors = file["eigenvectors"].id.get_chunk_info(7)
        numbers = file["eigenvalues"].id.get_chunk_info(0)
    for name, chunk in (("eigenvectors", vectors), ("eigenvalues", numbers)):
        with path.open("r+b") as file:
            file.seek(chunk.byte_offset + 3)
            (byte,) = file.read(1)
            file.seek(-1, 1)
            file.write(bytes([byte ^ 4]))
        with xr.open_dataset(path, engine="h5netcdf") as ds, pytest.raises(OSError, match=r"fletcher32|filter"):
            ds[name].load()


@pytest.mark.slow
def test_runs_and_l2_are_chosen(swept: Path, tmp_path: Path) -> None:
    whole = hesstore.open(swept).load()
    (path,) = export_netcdf(swept, tmp_path / "part.nc", runs=[1], l2=[0.01, 0.001])
    assert_same(opened(path), whole.sel(run=[1], l2=[0.001, 0.01]))
    with pytest.raises(ExportError, match="run 7 is not in the store: it has 0, 1"):
        export_netcdf(swept, tmp_path / "other.nc", runs=[7])
    with pytest.raises(ExportError, match=r"λ = 0.02 is not in the store: the nearest is 0.01"):
        export_netcdf(swept, tmp_path / "other.nc", l2=[0.02])


@pytest.mark.slow
def test_one_file_per_run(swept: Path, tmp_path: Path) -> None:
    whole = hesstore.open(swept).load()
    paths = export_netcdf(whole, tmp_path / "s.nc", split_runs=True)
    assert [path.name for path in paths] == ["s-0.nc", "s-1.nc"]
    for run, path in enumerate(paths):
        assert_same(opened(path), whole.sel(run=[run]))
    paths[0].unlink()
    assert export_netcdf(swept, tmp_path / "s.nc", split_runs=True) == (paths[0],)


def test_without_vectors(swept: Path, tmp_path: Path) -> None:
    (path,) = export_netcdf(swept, tmp_path / "small.nc", vectors=False)
    assert_same(opened(path), hesstore.open(swept).load().drop_vars(OF_PARAMETERS))
    assert "param" not in opened(path).sizes
    with h5py.File(path) as file:
        assert file["eigenvalues"].compression == "gzip"


def test_progress_is_reported_in_bytes(mixed: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    export_netcdf(mixed, tmp_path / "m.nc", progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1] > 4 * P * (K + 3)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})


@pytest.mark.slow
def test_a_file_with_the_same_contents_is_left_alone(mixed: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.nc"
    export_netcdf(mixed, path)
    before = path.stat().st_mtime_ns
    assert export_netcdf(mixed, path) == ()
    assert path.stat().st_mtime_ns == before
    assert export_netcdf(mixed, path, force=True) == (path,)
    store = SweepStore.open(mixed)
    store.record(store.runs[1], 1, Status.FITTED, fitted(7))
    with pytest.raises(ExportError, match=r"m\.nc: exists already, with other contents: pass --force"):
        export_netcdf(mixed, path)
    export_netcdf(mixed, path, force=True)
    assert opened(path)["status"].values.tolist() == [[2, 0, 3], [1, 1, 0]]


@pytest.mark.parametrize("content", [b"", b"not HDF5", None])
@pytest.mark.slow
def test_other_files_are_not_overwritten(mixed: Path, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "m.nc"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(ExportError, match=r"m\.nc: (exists already, with other contents|is a folder)"):
        export_netcdf(mixed, path)
    assert path.is_dir() or path.read_bytes() == content
    if content is not None:
        export_netcdf(mixed, path, force=True)
        assert opened(path)["status"][0, 0] == Status.COMPLETE


def test_errors_before_anything_is_written(mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out" / "m.nc"
    with pytest.raises(ExportError, match="compress: 'zst' is not gz"):
        export_netcdf(mixed, out, compress="zst")
    with pytest.raises(ExportError, match=r"m\.h5: is not the name of a netCDF file"):
        export_netcdf(mixed, out.with_suffix(".h5"))
    with pytest.raises(
        ExportError, match="status, seed, direction are missing, or status does not have the dimensions run and l2"
    ):
        export_netcdf(hesstore.open(mixed).sel(run=0, drop=True).expand_dims(run=[0]).drop_vars("status"), out)
    usage = type(shutil.disk_usage("/"))(10, 5, 1000)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage)
        with pytest.raises(ExportError, match=r"needs about .* [kM]B, but only [0-9.]+ k?B are free"):
            export_netcdf(mixed, out)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "h5netcdf", None)
        with pytest.raises(ExportError, match=r'netcdf needs the package h5netcdf: pip install "hesstore\[files\]"'):
            export_netcdf(mixed, out)
    assert not out.parent.exists()


def chunk_of(name: str, run: int, index: int) -> Callable[[Path], Path]:
    """The function that gives the file of a chunk of a store."""

    def file(path: Path) -> Path:
        array = zarr.open_group(path, mode="r")[name]
        assert isinstance(array, zarr.Array)
        return path / name / array.metadata.encode_chunk_key((run, index, *(0 for _ in array.shape[2:])))

    return file


@pytest.mark.parametrize("name", ["weights", "gradient", "eigenvectors", "class_slope"])
@pytest.mark.parametrize("harm", ["missing", "damaged"])
@pytest.mark.slow
def test_a_damaged_store_makes_no_file(mixed: Path, tmp_path: Path, name: str, harm: str) -> None:
    """Grid point 0 of run 1 is only fitted: the arrays of its analysis are not missing."""
    chunk = chunk_of(name, 0, 0)(mixed)
    if harm == "missing":
        chunk.unlink()
    else:
        data = bytearray(chunk.read_bytes())
        data[len(data) // 3] ^= 8
        chunk.write_bytes(data)
    out = tmp_path / "out"
    what = f"{chunk.relative_to(mixed)}{': is missing or empty:' if harm == 'missing' else ' is damaged'}"
    with pytest.raises(CorruptStoreError, match=what):
        export_netcdf(mixed, out / "m.nc")
    assert not out.exists() or not list(out.iterdir())


def test_arrays_of_another_grid_point_are_noticed(mixed: Path, tmp_path: Path) -> None:
    shutil.copy(chunk_of("weights", 1, 0)(mixed), chunk_of("weights", 0, 0)(mixed))
    with pytest.raises(
        CorruptStoreError,
        match=r"weights/c/0/0/0, .*: missing, damaged or replaced during the export, of run 0 at λ = 0",
    ):
        export_netcdf(mixed, tmp_path / "m.nc")
    small = chunk_of("status", 0, 0)(mixed).parent.parent / "0" / "0"
    small.write_bytes(small.read_bytes()[:-2])
    with pytest.raises(CorruptStoreError, match="status/c/0/0 is damaged"):
        export_netcdf(mixed, tmp_path / "m.nc")


def test_a_sweep_may_run_during_the_export(mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file contains the results that the status promised at the beginning."""
    store, before = SweepStore.open(mixed), hesstore.open(mixed).load()
    really = netcdf_writer._template

    def meanwhile(*arguments: Any) -> Any:
        store.record(store.runs[1], 0, Status.COMPLETE, analysed(1))
        store.record(store.runs[1], 1, Status.FITTED, fitted(9))
        return really(*arguments)

    monkeypatch.setattr(netcdf_writer, "_template", meanwhile)
    (path,) = export_netcdf(mixed, tmp_path / "m.nc")
    assert_same(opened(path), before)


def test_a_stopped_export_leaves_nothing(mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_netcdf(mixed, tmp_path / "out" / "m.nc", progress=stop)
    assert not list((tmp_path / "out").iterdir())

    def unsynced(step: str, path: Path) -> None:
        if step == "fsync":
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(durable_files, "observe", unsynced)
    with pytest.raises(ExportError, match=r"m\.nc: cannot be written \(fsync failed: Input/output error\)"):
        export_netcdf(mixed, tmp_path / "out" / "m.nc")
    assert not list((tmp_path / "out").iterdir())


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """Limit the size of the files of this process."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.slow
def test_a_full_disk_is_an_error_and_leaves_nothing(swept: Path, tmp_path: Path) -> None:
    (path,) = export_netcdf(swept, tmp_path / "s.nc")
    size = path.stat().st_size
    for limit in (100, size // 2, size - 1):
        with (
            at_most(limit),
            pytest.raises(ExportError, match=r"full\.nc: cannot be written \(write failed: File too large\)"),
        ):
            export_netcdf(swept, tmp_path / "full.nc")
        assert [file.name for file in tmp_path.iterdir()] == ["s.nc"]


@pytest.mark.slow
def test_a_killed_export_leaves_no_file_of_that_name(mixed: Path, tmp_path: Path) -> None:
    program = (
        "import os, signal, sys\n"
        "from hesstore.exporting.netcdf import export_netcdf\n"
        "export_netcdf(*sys.argv[1:], progress=lambda *_: os.kill(os.getpid(), signal.SIGKILL))\n"
    )
    out = tmp_path / "out" / "m.nc"
    done = subprocess.run([sys.executable, "-c", program, str(mixed), str(out)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not out.exists()
    assert export_netcdf(mixed, out) == (out,)
