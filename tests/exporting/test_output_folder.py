from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import hesstore
from hesstore import durable_files
from hesstore.errors import ExportError
from hesstore.exporting.manifest import NAME, checksum, read_entries, read_header
from hesstore.store import Status
from tests.support.command_line import RunHesstore
from tests.support.export_stores import make_store


@pytest.fixture
def store(tmp_path: Path) -> Path:
    make_store(tmp_path / "s.zarr", statuses={(0, 2): Status.FITTED})
    return tmp_path / "s.zarr"


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in folder.iterdir() if file.name != NAME}


def test_the_manifest(store: Path, tmp_path: Path) -> None:
    summary = hesstore.export(store, tmp_path / "out")
    assert summary.skipped == ((0, 0.01),)
    entries = read_entries(tmp_path / "out" / NAME)
    assert [entry.name for entry in entries] == sorted(contents(tmp_path / "out"))
    ds = hesstore.open(store)
    for entry in entries:
        file = tmp_path / "out" / entry.name
        assert entry.sha256 == checksum(file)
        assert entry.bytes == file.stat().st_size
        assert entry.fingerprint == ds.attrs["fingerprint"]
    lines = (tmp_path / "out" / NAME).read_text().splitlines()[1:]
    sums = "".join(f"{json.loads(line)['sha256']}  {json.loads(line)['name']}\n" for line in lines)
    sha256sum = str(shutil.which("sha256sum"))
    subprocess.run([sha256sum, "-c", "-"], input=sums, text=True, cwd=tmp_path / "out", check=True)
    header = read_header(tmp_path / "out" / NAME)
    assert header is not None
    assert header["identity"] == json.loads(ds.attrs["identity"])
    assert header["environment"] == {"versions": {"torch": "2"}}


def test_existing_files_are_skipped(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = hesstore.export(store, out, only=["eigenvalues", "gradients"])
    before = contents(out)
    again = hesstore.export(store, out, only=["eigenvalues", "gradients"])
    assert (again.files, again.present) == (0, first.files)
    assert contents(out) == before
    (out / "gradients-0-0.00020.csv").unlink()
    os.utime(out / "gradients-0-0.00000.csv")  # a copy has another time: the checksum decides
    mended = hesstore.export(store, out)
    assert (mended.files, mended.present) == (1 + 5, 3)
    forced = hesstore.export(store, out, force=True)
    assert (forced.files, forced.present) == (9, 0)
    assert {name: data for name, (data, _) in contents(out).items() if name in before} == {
        name: data for name, (data, _) in before.items()
    }


def test_changed_files_are_not_overwritten(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    hesstore.export(store, out)
    victim = out / "gradients-0-0.00000.csv"
    text = victim.read_text()
    victim.write_text(text[:-3] + "99\n")  # as long as before
    with pytest.raises(ExportError, match="1 of 9 files exist already and are not from this export"):
        hesstore.export(store, out)
    hesstore.export(store, out, force=True)
    assert victim.read_text() == text


def test_outdated_files_are_written_again(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    hesstore.export(store, out)
    writer = hesstore.store.SweepStore.open(store)
    (run,) = writer.runs
    with writer.claim(run):
        values = {"gradient": np.ones(17, np.float32), "eigenvectors": np.ones((3, 17), np.float32)}
        writer.record(run, 1, Status.COMPLETE, {**values, **_small(store, 1)})
    summary = hesstore.export(store, out)
    assert (summary.files, summary.present) == (5, 4)  # the four files of the grid point, and the table
    assert (out / "gradients-0-0.00020.csv").read_text().startswith("dL/dfc1.weight: 1.0, 1.0")
    other = make_store(tmp_path / "other.zarr", k=2)
    with pytest.raises(ExportError, match="9 of 13 files exist already and are not from this export"):
        hesstore.export(other.path, out)


def _small(store: Path, index: int) -> dict[str, object]:
    return {"loss": hesstore.open(store)["loss"].values[0, index]}


def test_a_manifest_that_a_kill_cut_off(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    hesstore.export(store, out)
    manifest = out / NAME
    whole = manifest.read_text()
    manifest.write_text(whole[:-40])
    with pytest.raises(ExportError, match=r"model_weights-0-0\.00020\.pth"):  # its entry is incomplete
        hesstore.export(store, out)
    (out / "model_weights-0-0.00020.pth").unlink()  # as after a kill: the entry is written first
    assert hesstore.export(store, out).files == 1
    assert {json.loads(line)["name"] for line in manifest.read_text().splitlines()[1:]} == set(contents(out))
    manifest.write_text("what\nis this\n")
    with pytest.raises(ExportError, match=r"manifest\.jsonl: line 2 is not an entry of a manifest"):
        hesstore.export(store, out)


def test_a_failure_leaves_whole_files(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"

    def failing(step: str, path: Path) -> None:
        if step == "fsync" and path.name == "Hessian-eigenvectors-0-0.00020.csv":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable_files, "observe", failing)
    with pytest.raises(OSError, match="No space left"):
        hesstore.export(store, out)
    monkeypatch.setattr(durable_files, "observe", lambda *_: None)
    left = {file.name for file in out.iterdir()}
    assert not [name for name in left if name.endswith(".partial")]
    assert "Hessian-eigenvectors-0-0.00020.csv" not in left
    hesstore.export(store, out)
    fresh = tmp_path / "fresh"
    hesstore.export(store, fresh)
    assert {name: data for name, (data, _) in contents(out).items()} == {
        name: data for name, (data, _) in contents(fresh).items()
    }


KILLED = """
import os, signal, sys, threading
from hesstore import export
from hesstore import durable_files
left = [int(sys.argv[3])]
lock = threading.Lock()
def observe(step, path):
    with lock:
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
durable_files.observe = observe
export(sys.argv[1], sys.argv[2], only=["accuracy", "eigenvalues", "eigenvectors", "gradients"])
"""


@pytest.mark.parametrize("steps", [1, 3, 6, 11, 17, 24])
@pytest.mark.slow
def test_killed_at_any_step(store: Path, tmp_path: Path, steps: int, environment: dict[str, str]) -> None:
    out, fresh = tmp_path / "out", tmp_path / "fresh"
    command = [sys.executable, "-c", KILLED, str(store), str(out), str(steps)]
    assert subprocess.run(command, env=environment, check=False).returncode == -signal.SIGKILL
    only = ["accuracy", "eigenvalues", "eigenvectors", "gradients"]
    hesstore.export(store, out, only=only)
    hesstore.export(store, fresh, only=only)
    there = {name: data for name, (data, _) in contents(out).items()}  # without files that the killed process left
    assert there == {name: data for name, (data, _) in contents(fresh).items()}


def test_room_is_checked_first(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
    with pytest.raises(ExportError, match=r"needs about .* [kM]B, but only [0-9.]+ k?B are free"):
        hesstore.export(store, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_the_estimate_is_close(tmp_path: Path) -> None:
    make_store(tmp_path / "s.zarr", shapes=(("fc1.weight", (40, 50)), ("fc1.bias", (40,))), classes=40)
    seen: list[tuple[int, int]] = []
    for compress in (None, "gz"):
        hesstore.export(
            tmp_path / "s.zarr",
            tmp_path / f"out{compress}",
            only=["eigenvectors", "gradients"],
            compress=compress,
            progress=lambda done, total: seen.append((done, total)),
        )
        assert seen[0][1] == pytest.approx(seen[-1][1], rel=0.15)
        seen.clear()


@pytest.mark.parametrize("compress", ["gz", "zst"])
def test_compressed_files(store: Path, tmp_path: Path, compress: str) -> None:
    hesstore.export(store, tmp_path / "plain")
    hesstore.export(store, tmp_path / "packed", compress=compress)
    hesstore.export(store, tmp_path / "again", compress=compress)
    for name, (data, _) in contents(tmp_path / "plain").items():
        if name.endswith(".pth"):
            assert (tmp_path / "packed" / name).read_bytes() == data
            continue
        packed = tmp_path / "packed" / f"{name}.{compress}"
        # Neither the time nor the name is part of the contents.
        assert packed.read_bytes() == (tmp_path / "again" / packed.name).read_bytes()
        if compress == "gz":
            assert gzip.decompress(packed.read_bytes()) == data
        if name.startswith(("Hessian", "Model")):
            header = 0 if name.startswith("Model") else None
            frame = pd.read_csv(packed, header=header)
            pd.testing.assert_frame_equal(frame, pd.read_csv(tmp_path / "plain" / name, header=header))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "csvv"}, "format: 'csvv' is not one of csv, parquet"),
        ({"style": "neat"}, "style: 'neat' is not one of classic, tidy"),
        ({"compress": "xz"}, "compress: 'xz' is not one of gz, zst"),
        ({"compress": "gz", "format": "parquet"}, "compress: parquet files are not text"),
        ({"only": ["weights"], "format": "netcdf"}, "only: netcdf files have no kinds to choose from"),
        ({"only": ["accuracy"], "format": "pth"}, "only: 'accuracy' is not one of weights"),
        ({"only": ["accuracy"], "style": "tidy"}, "only: 'accuracy' is not one of strengths, splits"),
        ({"vectors": False, "format": "pth"}, "vectors: pth files contain only weights"),
        ({"split_runs": True}, "split_runs: applies to netcdf only, not to csv"),
        ({"runs": [0], "format": "zip"}, "zip: packs the whole store"),
    ],
)
def test_options_without_meaning(store: Path, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        hesstore.export(store, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_the_command(store: Path, tmp_path: Path, run_hesstore: RunHesstore) -> None:
    done = run_hesstore("export", "s.zarr")
    assert done.returncode == 0
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert lines[-2].startswith("9 files, ")
    assert lines[-1] == "1 grid point is not complete, and left out: run 0: 0.01 (hesstore info s.zarr)"
    again = run_hesstore("export", "s.zarr").stderr
    assert "0 files, 0 B, written to test_data; 9 complete files already existed (--force writes them again)" in again
    small = run_hesstore("export", "s.zarr", "--no-vectors", "-o", "small")
    assert sorted(file.name for file in (tmp_path / "small").iterdir()) == [
        *("Hessian-eigenvalues-0-0.00000.csv", "Hessian-eigenvalues-0-0.00020.csv"),
        *("Model-0_split_accuracy.csv", NAME),
    ]
    assert small.returncode == 0
    (tmp_path / "test_data" / "gradients-0-0.00020.csv").write_text("mine")
    refused = run_hesstore("export", "s.zarr")
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 1


@pytest.mark.slow
def test_an_interrupted_export_continues(tmp_path: Path, environment: dict[str, str]) -> None:
    shapes = (("fc1.weight", (100, 1000)), ("fc1.bias", (100,)))
    count = 60  # enough that the signal arrives before the end, even on a busy machine
    make_store(tmp_path / "s.zarr", l2=tuple(np.arange(count) / 100), shapes=shapes, classes=3, k=10)
    code = "import sys; from hesstore_cli.main import main; sys.argv[0] = 'hesstore'; main()"
    command = [sys.executable, "-c", code, "export", "s.zarr", "-o", "out", "--only", "eigenvectors"]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    while not list(tmp_path.glob("out/Hessian*")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.splitlines()[-1].startswith("hesstore: stopped; existing files are complete")
    present = len(list(tmp_path.glob("out/Hessian*")))
    assert present < count
    done = subprocess.run(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True, check=True)
    assert re.search(rf"\b{count - present} files?, ", done.stderr)
    assert re.search(rf"\b{present} complete files? already existed", done.stderr)
