from __future__ import annotations

import errno
import hashlib
import json
import pickle
import shutil
import subprocess
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from zarr.storage import ZipStore

import hesstore as library
from hesstore import durable_files
from hesstore.config import SweepConfig
from hesstore.engine.sweep import run_sweep
from hesstore.errors import CorruptStoreError, ExportError, StoreError
from hesstore.exporting.netcdf import export_netcdf
from hesstore.exporting.zip_archive import pack
from hesstore.integrity.local_copy import fetch_to_folder
from hesstore.integrity.verify import verify
from hesstore.store import Status, SweepStore
from hesstore.store.metadata import read_metadata
from hesstore.store.places.folder import FolderPlace
from hesstore.store.places.location import locate
from hesstore.store.places.zip_file import ZipPlace
from hesstore.store.root_group import open_group
from tests.support.command_line import RunHesstore
from tests.support.stores import analysed, fitted, spec
from tests.support.toy import TOY

CONFIG = SweepConfig.from_mapping({**TOY, "epochs": 2, "direction": "both"})
OF_PARAMETERS = {
    *("eigenvectors", "lowest_eigenvectors", "gradient", "weights"),
    *("layer", "kind", "out_index", "in_index"),
}
READ_ONLY = "is a packed store, which is read only: unzip it into a folder first"


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete sweep of two runs."""
    path = tmp_path_factory.mktemp("packing") / "s.zarr"
    run_sweep(CONFIG, path)
    return path


@pytest.fixture(scope="module")
def packed(swept: Path) -> Path:
    path = swept.with_name("s.zarr.zip")
    assert pack(swept, path) == path
    return path


@pytest.fixture(scope="module")
def small(swept: Path) -> Path:
    path = swept.with_name("small.zarr.zip")
    assert pack(swept, path, vectors=False) == path
    return path


@pytest.fixture
def live(tmp_path: Path) -> SweepStore:
    """A store with a grid point of each status except pending."""
    store = SweepStore.create(tmp_path / "live.zarr", spec())
    run = store.runs[0]
    store.record(run, 0, Status.FITTED, fitted(0))
    store.record(run, 0, Status.COMPLETE, analysed(0))
    store.record(run, 1, Status.FITTED, fitted(1))
    store.record(run, 2, Status.FAILED, {"failure": "loss is nan"})
    return store


def test_all_readers_read_the_contents_of_the_folder(swept: Path, packed: Path) -> None:
    expected = library.open(swept).load()
    xr.testing.assert_identical(library.open(packed).load(), expected)
    xr.testing.assert_identical(library.open(f"file://{packed}").load(), expected)
    assert xr.open_zarr(ZipStore(packed, mode="r"), zarr_format=3).load().identical(expected)
    upper = packed.with_name("S.ZARR.ZIP")
    shutil.copy(packed, upper)
    lazy = pickle.loads(pickle.dumps(library.open(upper)))  # noqa: S301 - as if it were sent to another process
    vector = lazy["eigenvectors"].sel(run=1, l2=0.001)[2]
    assert np.array_equal(vector, expected["eigenvectors"].sel(run=1, l2=0.001)[2])


def test_members_are_the_files_byte_for_byte(swept: Path, packed: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(packed) as archive:
        assert {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_STORED}
        archive.extractall(tmp_path)
    stored = {key: (swept / key).read_bytes() for key in FolderPlace(swept).names() if "/." not in key}
    found = {key: (tmp_path / key).read_bytes() for key in FolderPlace(tmp_path).names()}
    assert found.keys() - stored.keys() == {"config.toml", "environment.json", "SHA256SUMS"}
    assert {key: found[key] for key in stored} == stored
    check = ["/usr/bin/sha256sum", "--check", "--quiet", "--strict", "SHA256SUMS"]
    assert subprocess.run(check, cwd=tmp_path, check=False).returncode == 0
    assert found["SHA256SUMS"].count(b"\n") == len(found) - 1
    config = tomllib.loads(found["config.toml"].decode())
    assert SweepConfig.from_mapping(config).identity() == CONFIG.identity()
    assert json.loads(found["environment.json"])["versions"]["hesstore"]


def test_the_same_store_makes_the_same_file(swept: Path, packed: Path, tmp_path: Path) -> None:
    shutil.copytree(swept, tmp_path / "copy.zarr")
    (tmp_path / "copy.zarr" / "status" / ".claim-0.json").write_text("{}")
    (tmp_path / "copy.zarr" / "loss" / "c" / ".0.partial").write_text("killed")
    (tmp_path / "copy.zarr" / "config.toml").write_text("from an unzipped pack")
    seen: list[tuple[int, int]] = []
    out = tmp_path / "new" / "again.zarr.zip"
    assert pack(tmp_path / "copy.zarr", out, progress=lambda done, total: seen.append((done, total))) == out
    digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (packed, out)}
    assert len(digests) == 1
    assert seen[-1][0] == seen[-1][1] > 0
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    again = tmp_path / "of a pack.zarr.zip"
    pack(packed, again)
    assert again.read_bytes() == packed.read_bytes()


def test_without_vectors(swept: Path, packed: Path, small: Path) -> None:
    expected = library.open(swept).load().drop_vars(OF_PARAMETERS)
    found = library.open(small).load()
    assert set(found.attrs.pop("left_out").split()) == OF_PARAMETERS
    del found.attrs["seal"], expected.attrs["seal"]
    xr.testing.assert_identical(found, expected)
    assert small.stat().st_size < packed.stat().st_size
    with fetch_to_folder(packed, writable=False) as folder:
        assert read_metadata(folder).damage == {}
    with zipfile.ZipFile(small) as archive:
        archive.extractall(folder := small.with_suffix(""))
    found_metadata = read_metadata(folder)  # it is sealed again
    assert found_metadata.documents.keys().isdisjoint(OF_PARAMETERS)
    assert "zarr.json" not in found_metadata.damage


def test_a_pack_is_verified(packed: Path, small: Path, run_hesstore: RunHesstore) -> None:
    done = run_hesstore("verify", packed)
    assert done.returncode == 0, done.stderr
    assert "no damage" in done.stderr
    assert "remark" not in done.stderr
    done = run_hesstore("verify", small)
    assert done.returncode == 0, done.stderr
    assert "remark: packed without eigenvectors, gradient, in_index" in done.stderr
    assert "no damage" in done.stderr
    assert run_hesstore("verify", small, "--deep").returncode == 2


def test_the_contents_of_a_small_pack_are_checked(small: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(small) as archive:
        archive.extractall(tmp_path)
    shutil.copy(tmp_path / "loss/c/0/0/0", tmp_path / "loss/c/1/0/0")
    (tmp_path / "class_slope/c/0/1/0/0/0").unlink()
    found = {str(problem) for problem in verify(tmp_path).problems}
    assert sum("run 1" in each and "entries_digest" in each for each in found) == 4
    assert any("class_slope: the file class_slope/c/0/1/0/0/0 is missing" in each for each in found)


def test_commands_that_read(packed: Path, small: Path, swept: Path, run_hesstore: RunHesstore) -> None:
    facts = {path: json.loads(run_hesstore("info", path, "--json").stdout) for path in (packed, small, swept)}
    assert facts[packed]["runs"] == facts[swept]["runs"] == facts[small]["runs"]
    assert run_hesstore("export", packed, "-o", "from-zip", "--only", "eigenvalues").returncode == 0
    assert run_hesstore("export", swept, "-o", "from-folder", "--only", "eigenvalues").returncode == 0
    for file in Path("from-folder").glob("*.csv"):
        assert Path("from-zip", file.name).read_bytes() == file.read_bytes()
    assert run_hesstore("plot", "accuracy", packed, "-o", "accuracy.png").returncode == 0


def test_commands_that_write_are_refused(packed: Path, toy_arguments: list[str], run_hesstore: RunHesstore) -> None:
    before = packed.read_bytes()
    for command in (
        ("sweep", packed, *toy_arguments),
        ("sweep", packed, *toy_arguments, "--retry-failed"),
        ("verify", packed, "--repair"),
    ):
        done = run_hesstore(*command)
        assert done.returncode == 2
        assert done.stderr == f"hesstore: {packed}: {READ_ONLY}\n"
    grown = run_hesstore("sweep", packed, *toy_arguments, "--grow")
    assert grown.returncode == 2
    assert str(packed) in grown.stderr
    new = run_hesstore("sweep", "new.zarr.zip", *toy_arguments)
    assert new.stderr.endswith(
        "new.zarr.zip: is the name of a packed store, which is read only: give the name of a folder\n"
    )
    assert not Path("new.zarr.zip").exists()
    assert packed.read_bytes() == before
    place = locate(packed)
    for act in (
        lambda: SweepStore.open(packed),
        lambda: SweepStore.create(packed, spec()),
        lambda: place.claim(0),
        lambda: place.put("zarr.json", b""),
        lambda: place.delete("zarr.json"),
        lambda: place.create({}),
    ):
        with pytest.raises(StoreError, match=READ_ONLY):
            act()


def harm_member(path: Path, member: str, position: int, harm: bytes | None = None) -> None:
    """Flip a bit in the contents of a member, or replace bytes of it by ``harm``."""
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(member)
    data = bytearray(path.read_bytes())
    start = info.header_offset + 30 + len(member.encode()) + position
    data[start : start + len(harm or b"x")] = harm or bytes([data[start] ^ 16])
    path.write_bytes(data)


@pytest.mark.parametrize("member", ["zarr.json", "eigenvectors/c/0/1/0/0", "weights/c/0/2/0", "accuracy/c/1/0/0"])
@pytest.mark.slow
def test_a_damaged_member_is_an_error(packed: Path, tmp_path: Path, member: str, run_hesstore: RunHesstore) -> None:
    with zipfile.ZipFile(packed) as archive:
        size = archive.getinfo(member).file_size
    for position in range(0, size, size // 4):
        path = Path(shutil.copy(packed, tmp_path / "s.zarr.zip"))
        harm_member(path, member, position)
        with pytest.raises((CorruptStoreError, ValueError, RuntimeError), match=r"damaged|[Cc]hecksum|crc32c"):
            library.open(path).load()
    done = run_hesstore("verify", path)
    assert done.returncode == 5
    assert f"its member {member} is damaged" in done.stderr


def test_a_damaged_header_is_an_error(packed: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(packed, tmp_path / "s.zarr.zip"))
    member = "eigenvectors/c/0/1/0/0"
    harm_member(path, member, -30 - len(member), b"NO")
    with pytest.raises(CorruptStoreError, match=f"its member {member} is damaged"):
        library.open(path).load()


def test_files_that_are_not_packed_stores(packed: Path, tmp_path: Path) -> None:
    path = tmp_path / "s.zarr.zip"
    with pytest.raises(StoreError, match="no such packed store"):
        library.open(path)
    content = packed.read_bytes()
    for part in (b"", b"no zip", content[: len(content) // 2], content[:-30]):
        path.write_bytes(part)
        with pytest.raises(StoreError, match="is not a zip file, or an incomplete one"):
            library.open(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("s.zarr/zarr.json", "{}")
    with pytest.raises(StoreError, match="is a zip file without a store at its top"):
        library.open(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("zarr.json", '{"zarr_format": 3, "node_type": "group"}')
    with pytest.raises(StoreError, match="is a Zarr store, but not one of hesstore"):
        library.open(path)


@pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../../x", "a\\..\\x", "c:/x", "a//x", "./x"])
def test_members_that_lead_outside_are_refused(packed: Path, tmp_path: Path, name: str) -> None:
    path = Path(shutil.copy(packed, tmp_path / "s.zarr.zip"))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, b"evil")
    with pytest.raises(StoreError, match="leads out of the store"):
        library.open(path)
    with pytest.raises(StoreError, match="leads out of the store"), fetch_to_folder(path, writable=False):
        pass
    assert [file.name for file in tmp_path.iterdir()] == ["s.zarr.zip"]


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_two_members_of_one_name_are_refused(packed: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(packed, tmp_path / "s.zarr.zip"))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("zarr.json", b"{}")
    with pytest.raises(StoreError, match="has two members with the same name"):
        library.open(path)


def test_another_packer_may_compress(swept: Path, tmp_path: Path) -> None:
    path = Path(shutil.make_archive(str(tmp_path / "s.zarr"), "zip", swept))  # with folders as members
    xr.testing.assert_identical(library.open(path).load(), library.open(swept).load())


def test_a_folder_that_is_called_zip_stays_one(tmp_path: Path) -> None:
    shutil.copytree(SweepStore.create(tmp_path / "s.zarr", spec()).path, tmp_path / "folder.zip")
    assert isinstance(locate(tmp_path / "folder.zip"), FolderPlace)
    assert isinstance(locate(tmp_path / "other.Zip"), ZipPlace)
    open_group(tmp_path / "folder.zip")


def test_a_file_with_the_same_contents_is_left_alone(live: SweepStore, tmp_path: Path) -> None:
    path = tmp_path / "p.zarr.zip"
    assert pack(live.path, path) == path
    before = path.stat().st_mtime_ns
    assert pack(live.path, path) is None
    assert path.stat().st_mtime_ns == before
    with pytest.raises(ExportError, match="exists already, with other contents: pass --force"):
        pack(live.path, path, vectors=False)
    assert pack(live.path, path, vectors=False, force=True) == path
    assert pack(live.path, path, vectors=False) is None
    live.record(live.runs[0], 1, Status.COMPLETE, analysed(1))
    for content in (path.read_bytes(), b"something else"):
        path.write_bytes(content)
        with pytest.raises(ExportError, match="exists already, with other contents: pass --force"):
            pack(live.path, path, vectors=False)
    assert pack(live.path, path, force=True) == path
    assert library.open(path)["status"][0].values.tolist() == [2, 2, 3]


def test_a_status_never_promises_more_than_was_packed(
    live: SweepStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep records grid points during the packing."""
    waiting = [
        (1, Status.COMPLETE, analysed(1)),
        *((index, Status.FITTED, fitted(index)) for index in (3, 4)),
        *((index, Status.COMPLETE, analysed(index)) for index in (3, 4)),
    ]
    asked: list[str] = []
    really = FolderPlace.fetch

    def fetch(place: FolderPlace, key: str) -> bytes:
        asked.append(key)
        if waiting and len(asked) % 7 == 0:
            index, status, values = waiting.pop(0)
            live.record(live.runs[index // 3], index % 3, status, values)
        return really(place, key)

    monkeypatch.setattr(FolderPlace, "fetch", fetch)
    path = tmp_path / "p.zarr.zip"
    pack(live.path, path)
    assert not waiting
    tops = list(dict.fromkeys(key.partition("/")[0] for key in asked))
    assert tops[:3] == ["status", "digest", "entries_digest"]
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "unpacked.zarr")
    store = SweepStore.open(tmp_path / "unpacked.zarr")
    for run in store.runs:
        for index, status in enumerate(store.status(run)):
            if status in {Status.FITTED, Status.COMPLETE}:
                assert np.isfinite(store.read("weights", run, index)).all()
            if status == Status.COMPLETE:
                assert np.isfinite(store.read("eigenvectors", run, index)).all()
                assert np.isfinite(store.read("eigenvalues", run, index)).all()


@pytest.mark.slow
def test_an_unfinished_store_is_packed_and_whole(swept: Path, tmp_path: Path) -> None:
    asked = iter([False] * 3)
    run_sweep(CONFIG, tmp_path / "s.zarr", stop=lambda: next(asked, True))
    pack(tmp_path / "s.zarr", tmp_path / "s.zarr.zip")
    with fetch_to_folder(tmp_path / "s.zarr.zip", writable=False) as folder:
        report = verify(folder)
        assert report.ok
        assert report.counts[Status.PENDING]


def test_errors_before_anything_is_written(live: SweepStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out" / "p.zarr.zip"
    with pytest.raises(ExportError, match=r"p\.zarr\.tar: is not the name of a zip file"):
        pack(live.path, out.with_suffix(".tar"))
    with pytest.raises(ExportError, match="lies in the store that is to be packed"):
        pack(live.path, Path(live.path) / "p.zip")
    with pytest.raises(StoreError, match="no such store"):
        pack(tmp_path / "none.zarr", out)
    usage = type(shutil.disk_usage("/"))(10, 5, 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    for vectors in (True, False):
        with pytest.raises(ExportError, match=r"needs about .* [kM]B, but only [0-9.]+ k?B are free"):
            pack(live.path, out, vectors=vectors)
    assert not out.parent.exists()


def test_a_stopped_pack_leaves_nothing(live: SweepStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        pack(live.path, out / "p.zarr.zip", progress=stop)
    assert not list(out.iterdir())

    def full(step: str, path: Path) -> None:
        if step == "fsync":
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(durable_files, "observe", full)
    with pytest.raises(ExportError, match=r"p\.zarr\.zip: cannot be written \(fsync failed: No space left on device\)"):
        pack(live.path, out / "p.zarr.zip")
    assert not list(out.iterdir())
    monkeypatch.undo()
    (Path(live.path) / "zarr.json").write_text("{")
    with pytest.raises(StoreError, match=r"its zarr\.json cannot be read"):
        pack(live.path, out / "p.zarr.zip")


@pytest.mark.slow
def test_a_store_on_s3_makes_the_same_file(live: SweepStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("obstore")
    pytest.importorskip("moto")
    from tests.support.s3_server import ask, served  # noqa: PLC0415

    with served() as server:
        for name, value in (
            ("AWS_ENDPOINT_URL", server),
            ("AWS_ACCESS_KEY_ID", "testing"),
            ("AWS_SECRET_ACCESS_KEY", "testing"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
        ):
            monkeypatch.setenv(name, value)
        ask(f"{server}/bucket", method="PUT")
        place = locate("s3://bucket/live.zarr")
        for key in FolderPlace(Path(live.path)).names():
            place.put(key, FolderPlace(Path(live.path)).fetch(key))
        for number, source in enumerate((live.path, "s3://bucket/live.zarr")):
            pack(source, tmp_path / f"{number}.zip")
        export_netcdf("s3://bucket/live.zarr", tmp_path / "live.nc")
    assert (tmp_path / "0.zip").read_bytes() == (tmp_path / "1.zip").read_bytes()
    with xr.open_dataset(tmp_path / "live.nc", engine="h5netcdf") as ds:
        assert ds["status"].values.tolist() == [[2, 1, 3], [0, 0, 0]]


def test_a_file_that_vanishes(live: SweepStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really = FolderPlace.names
    monkeypatch.setattr(FolderPlace, "names", lambda place: [*really(place), "weights/c/9/9/9"])
    with pytest.raises(ExportError, match="weights/c/9/9/9 vanished while the store was packed: pack it again"):
        pack(live.path, tmp_path / "p.zarr.zip")
    assert not (tmp_path / "p.zarr.zip").exists()
