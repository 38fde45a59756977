"""The main job, a small sweep and its export, where a call of the system fails as it does on real machines.

Either the job works, or it ends with one line and a fitting exit status. Then the same commands, on a sound system,
give the results of a job that never failed.
"""

from __future__ import annotations

import datetime as dt
import errno
import fcntl
import itertools
import json
import os
import pwd
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import xarray as xr

import hesstore
from hesstore import durable_files
from tests.support.command_line import CommandResult, RunHesstore
from tests.support.sweeps import results
from tests.support.toy import TOY

Patch = pytest.MonkeyPatch
Fault = Callable[[Patch, Path], None]

CONFIG = {**TOY, "hidden": "4", "l2": "0,0.01", "k": 0, "epochs": 1}
OPTIONS = [part for key, value in CONFIG.items() for part in (f"--{key.replace('_', '-')}", str(value))]
_sync = durable_files._sync


def sweep(run: RunHesstore, name: str = "s.zarr") -> CommandResult:
    return run("sweep", name, *OPTIONS, "-q")


def export(run: RunHesstore, name: str = "s.zarr") -> CommandResult:
    return run("export", name, "-o", "files")


def failing(function: Callable[..., Any], number: int, where: Callable[..., bool] = lambda *_: True) -> Any:
    """The function, except that it fails where the arguments are such."""

    def call(*arguments: Any, **others: Any) -> Any:
        if where(*arguments):
            raise OSError(number, os.strerror(number))
        return function(*arguments, **others)

    return call


def on_folders(descriptor: int) -> bool:
    return stat.S_ISDIR(os.fstat(descriptor).st_mode)


def on_chunks(*paths: Any) -> bool:
    return f"{os.sep}c{os.sep}" in os.fspath(paths[0])


def fsync(number: int, where: Callable[..., bool] = lambda *_: True) -> Fault:
    def patch(monkeypatch: Patch, _: Path) -> None:
        monkeypatch.setattr(durable_files, "_sync", _sync)
        monkeypatch.setattr(os, "fsync", failing(os.fsync, number, where))

    return patch


def flock(number: int) -> Fault:
    return lambda monkeypatch, _: monkeypatch.setattr(fcntl, "flock", failing(fcntl.flock, number))


def rename(number: int, where: Callable[..., bool] = lambda *_: True) -> Fault:
    def patch(monkeypatch: Patch, _: Path) -> None:
        for name in ("rename", "replace"):
            monkeypatch.setattr(os, name, failing(getattr(os, name), number, where))

    return patch


def write(number: int) -> Fault:
    return lambda monkeypatch, _: monkeypatch.setattr(Path, "write_bytes", failing(Path.write_bytes, number, on_chunks))


def chmod(monkeypatch: Patch, _: Path) -> None:
    monkeypatch.setattr(os, "chmod", failing(os.chmod, errno.EPERM))


def lose_lock(monkeypatch: Patch, folder: Path) -> None:
    """A network file system that forgets the lock, and another machine that takes the run."""
    holder = folder / "s.zarr" / "status" / ".claim-0.json"

    def observe(step: str, path: Path) -> None:
        if step == "done" and on_chunks(path) and holder.exists():
            facts = json.loads(holder.read_text())
            holder.write_text(json.dumps({**facts, "pid": 7, "host": "other", "token": "of another driver"}))

    monkeypatch.setattr(durable_files, "observe", observe)


def no_home(monkeypatch: Patch, _: Path) -> None:
    def unknown(uid: int) -> None:
        raise KeyError(uid)

    for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)


def jumping_clock(monkeypatch: Patch, _: Path) -> None:
    """A clock that goes from 1970 to 2050 and back with every look at it."""
    times = itertools.cycle((0.0, 2.5e9))

    class Jumping(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> Jumping:
            return cls.fromtimestamp(next(times), tz)

    monkeypatch.setattr(time, "time", lambda: next(times))
    for module in ("datetime.datetime", "hesstore.engine.environment.datetime"):
        monkeypatch.setattr(module, Jumping)


WORKS: dict[str, Fault] = {
    "fsync of folders: EINVAL": fsync(errno.EINVAL, on_folders),
    "fsync of folders: ENOTSUP": fsync(errno.ENOTSUP, on_folders),
    "chmod: EPERM": chmod,
    "no HOME": no_home,
    "the clock jumps": jumping_clock,
}
FAILS: dict[str, tuple[Fault, int, str]] = {
    "fsync: EIO": (fsync(errno.EIO), 1, "fsync failed: Input/output error: check the disk"),
    "fsync of folders: EIO": (fsync(errno.EIO, on_folders), 1, "fsync failed: Input/output error: check the disk"),
    "flock: ENOLCK": (flock(errno.ENOLCK), 2, "flock failed: No locks available: a sweep needs the locks"),
    "flock: ENOSYS": (flock(errno.ENOSYS), 2, "flock failed: Function not implemented: a sweep needs the locks"),
    "lock lost": (lose_lock, 1, "the lock on run 0 of this store was lost, and process 7 on other since"),
    "rename: EXDEV": (rename(errno.EXDEV), 1, "rename failed: Invalid cross-device link: two file systems meet"),
    "rename of chunks: ESTALE": (rename(errno.ESTALE, on_chunks), 1, "rename failed: Stale file handle: the network"),
    "rename: EBUSY": (rename(errno.EBUSY), 1, "rename failed: Device or resource busy: another program uses it"),
    "write: EDQUOT": (write(errno.EDQUOT), 1, "write failed: Disk quota exceeded: free some space"),
}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> xr.Dataset:
    path = tmp_path_factory.mktemp("reference") / "s.zarr"
    hesstore.run_sweep(CONFIG, path)
    return results(path)


def check_results(run: RunHesstore, folder: Path, reference: xr.Dataset) -> None:
    assert results(folder / "s.zarr").identical(reference)
    assert run("verify", "s.zarr").returncode == 0
    assert len([*(folder / "files").glob("*.pth")]) == 2
    assert not [*folder.rglob("*.partial")]


@pytest.mark.slow
@pytest.mark.parametrize("name", WORKS)
def test_a_job_that_works(
    run_hesstore: RunHesstore, tmp_path: Path, reference: xr.Dataset, monkeypatch: Patch, name: str
) -> None:
    with monkeypatch.context() as patched:
        WORKS[name](patched, tmp_path)
        for done in (sweep(run_hesstore), export(run_hesstore)):
            assert done.returncode == 0, done.stderr
    check_results(run_hesstore, tmp_path, reference)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAILS)
def test_a_job_that_ends_with_one_line(
    run_hesstore: RunHesstore, tmp_path: Path, reference: xr.Dataset, monkeypatch: Patch, name: str
) -> None:
    fault, status, message = FAILS[name]
    with monkeypatch.context() as patched:
        fault(patched, tmp_path)
        done = sweep(run_hesstore)
    assert done.returncode == status, done.stderr
    *_, line = done.stderr.splitlines()
    assert message in line
    assert line.startswith("hesstore: ")
    assert str(tmp_path) in line or "s.zarr" in line or "of this store" in line
    if status == 2 or "chunks" not in name:
        assert not [*tmp_path.glob("*.partial")]
    if status == 2:
        assert not [*tmp_path.iterdir()]
    assert sweep(run_hesstore).returncode == 0
    with monkeypatch.context() as patched:
        if "flock" not in name and "lost" not in name:
            fault(patched, tmp_path)
            assert export(run_hesstore).returncode in {0, 1}
    assert export(run_hesstore).returncode == 0
    check_results(run_hesstore, tmp_path, reference)


@pytest.mark.slow
def test_names_of_255_bytes(run_hesstore: RunHesstore, tmp_path: Path, monkeypatch: Patch) -> None:
    monkeypatch.chdir(tmp_path)
    name, folder, page = "λ" * 125 + ".zarr", "f" * 255, f"{'p' * 251}.png"
    assert len(os.fsencode(name)) == 255
    assert sweep(run_hesstore, name).returncode == 0
    assert run_hesstore("sweep", name, *OPTIONS, "--l2", "0,0.01,0.02", "--grow", "-q").returncode == 0
    for arguments in (
        ("export", name, "-o", folder),
        ("plot", "accuracy", name, "-o", page),
        ("report", name, "-o", f"{'r' * 250}.html"),
        ("export", name, "--format", "zip", "-o", f"{'z' * 246}.zarr.zip"),
        ("export", name, "--format", "netcdf", "-o", f"{'n' * 252}.nc"),
        ("verify", name),
    ):
        done = run_hesstore(*arguments)
        assert done.returncode == 0, done.stderr
    assert {len(os.fsencode(each.name)) for each in tmp_path.iterdir()} == {255}
    for wrong in (("sweep", f"{name}x", *OPTIONS), ("export", name, "-o", f"{folder}x"), ("info", f"{name}x")):
        done = run_hesstore(*wrong)
        assert (done.returncode, "File name too long: give a shorter name" in done.stderr) == (2, True), done.stderr


def test_a_file_system_without_locks_makes_no_store(
    run_hesstore: RunHesstore, tmp_path: Path, monkeypatch: Patch
) -> None:
    """The default tests have one fault of each of the two kinds; the slow ones have all."""
    with monkeypatch.context() as patched:
        flock(errno.ENOLCK)(patched, tmp_path)
        done = sweep(run_hesstore)
    assert (done.returncode, "flock failed: No locks available" in done.stderr) == (2, True)
    assert not [*tmp_path.iterdir()]
    with monkeypatch.context() as patched:
        fsync(errno.EINVAL, on_folders)(patched, tmp_path)
        assert sweep(run_hesstore).returncode == 0
