from __future__ import annotations

import datetime as dt
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from hesstore.dataset import progress
from hesstore.store import Run, Status, SweepStore, reading
from hesstore.store.places.claims import parse_holder, process_space
from hesstore.store.places.location import locate
from hesstore_cli.main import run
from hesstore_cli.terminal import status_view
from hesstore_cli.terminal.live_block import LiveBlock
from tests.support.command_line import RunHesstore
from tests.support.stores import analysed, fitted, spec
from tests.support.terminal import terminal

UP, DOWN = Run(0, 4, "up"), Run(1, 4, "down")


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of three grid points; one point of the first run is complete and one is fitted."""
    store = SweepStore.create(tmp_path_factory.mktemp("begun") / "s.zarr", spec())
    complete(store, UP, 0)
    store.record(UP, 1, Status.FITTED, fitted(1))
    return Path(store.path)


@pytest.fixture
def store(begun: Path, tmp_path: Path) -> SweepStore:
    """A copy of this store, as ``s.zarr``."""
    return SweepStore.open(shutil.copytree(begun, tmp_path / "s.zarr"))


def complete(store: SweepStore, run: Run, index: int) -> None:
    store.record(run, index, Status.COMPLETE, {**fitted(index), **analysed(index)})


def claimed(path: Path, run_id: int = 0, **facts: Any) -> None:
    """Leave a claim like that of a driver on another machine or of a killed one."""
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    said = {"pid": os.getpid(), "host": socket.gethostname(), "since": now, "processes": "of another boot", **facts}
    (path / "status" / f".claim-{run_id}.json").write_text(json.dumps(said))


def snapshot(path: Path) -> dict[str, int]:
    return {str(file): file.stat().st_mtime_ns for file in path.rglob("*") if file.is_file()}


def test_status_shows_the_progress_and_changes_nothing(
    store: SweepStore, run_hesstore: RunHesstore, tmp_path: Path
) -> None:
    with store.claim(UP):
        before = snapshot(tmp_path)
        text = run_hesstore("status", "s.zarr")
        assert (text.returncode, text.stderr) == (0, "")
        facts = json.loads(run_hesstore("status", "s.zarr", "--json").stdout)
        assert snapshot(tmp_path) == before
    head, *lines = text.stdout.splitlines()
    assert head == "s.zarr: 1 of 6 grid points complete"
    assert lines[:2] == [
        "run 0 (seed 4, up): 1 complete, 1 fitted, 1 pending",
        "run 1 (seed 4, down): 3 pending",
    ]
    assert lines[2] == "the spectrum is complete to 0.3 %"
    assert lines[3].endswith("1/6 grid points  about 4 s left")  # the driven run: 2 points of 2 s, minus the fit
    assert lines[4] == "run 0  λ = 0.0006  analysis: spectrum and class geometry"
    accuracy = f"{float(fitted(0)['accuracy'][1]):.3f}"
    assert lines[5].startswith(f"last: λ = 0  test accuracy {accuracy}  worst class ")
    assert lines[5].endswith("  spectrum complete to 0.2 %")
    driver = f"driven by process {os.getpid()} on {socket.gethostname()}, started "
    assert re.fullmatch(rf"{re.escape(driver)}\d s ago \(run 0\)", lines[6])
    assert lines[7].startswith("newest result recorded ")

    assert (facts["total"], facts["complete"], facts["failed"], facts["is_over"]) == (6, 1, 0, False)
    assert facts["is_driven"]
    assert facts["seconds_left"] == pytest.approx(3.5)
    first, second = facts["runs"]
    assert first["holder"]["pid"] == os.getpid()
    assert first["holder"]["alive"] is True
    assert second["holder"] is None
    assert first["last"]["l2"] == 0.0
    assert (first["spectra"], second["spectra"]) == (facts["spectra"], None)
    assert facts["spectra"]["text"] == lines[2]
    assert (facts["spectra"]["total"], facts["spectra"]["complete"], facts["spectra"]["unbounded"]) == (1, 1, 0)

    gone = run_hesstore("status", "s.zarr").stdout
    assert "next: run 0  λ = 0.0006" in gone
    assert "of work left" in gone
    assert "no process computes this sweep: hesstore sweep s.zarr (or the same hesstore analyse) continues it" in gone


def test_the_driver(store: SweepStore, run_hesstore: RunHesstore, tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    old = (dt.datetime.now(dt.UTC) - dt.timedelta(days=3)).isoformat(timespec="seconds")
    claimed(path, host="elsewhere", since=old)
    text = " ".join(run_hesstore("status", "s.zarr").stdout.split())
    assert (
        f"claimed by process {os.getpid()} on elsewhere, started 72 h 00 min ago; only that machine knows if it runs"
        in text
    )
    assert "no process computes" not in text
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for facts in ({"pid": ended.pid}, {"start": 7}):  # killed; killed, and another process has its number
        claimed(path, processes=process_space(), **facts)
        text = run_hesstore("status", "s.zarr").stdout
        assert "no longer runs (run 0)" in text, facts
        assert "no process computes this sweep" in text
    for text in ("", "{", "[]", '{"pid": "x"}'):  # a claim during its write
        (path / "status" / ".claim-0.json").write_text(text)
        assert "no process computes this sweep" in run_hesstore("status", "s.zarr").stdout
    claimed(path)
    text = " ".join(run_hesstore("status", "s.zarr").stdout.split())
    assert "on another machine of this name, or before a restart: it may no longer run" in text
    claimed(path, pid=1, host="a")
    claimed(path, 1, pid=2, host="b")
    assert "process 1 on a" in run_hesstore("status", "s.zarr").stdout
    assert "process 2 on b" in run_hesstore("status", "s.zarr").stdout


def test_a_lease_shows_when_it_was_renewed() -> None:
    now = dt.datetime.now(dt.UTC).isoformat()
    facts = {"pid": 3, "host": "h", "since": now, "renewed": now}
    holder = parse_holder(facts)
    assert holder is not None
    assert holder.alive is None
    assert "claim renewed 0 s ago" in status_view.holder_text(holder)


def test_the_exit_status_of_a_finished_sweep(store: SweepStore, run_hesstore: RunHesstore, tmp_path: Path) -> None:
    for at, index in ((UP, 1), (UP, 2), (DOWN, 0), (DOWN, 1)):
        complete(store, at, index)
    store.record(DOWN, 2, Status.FAILED, {"failure": "it diverged"})
    done = run_hesstore("status", "s.zarr", "--watch")
    assert done.returncode == 4
    assert done.stdout.startswith("6/6  1 failed  finished  last: λ = 0 ")
    assert run_hesstore("status", "s.zarr").returncode == 4
    packed = shutil.make_archive(str(tmp_path / "s.zarr"), "zip", tmp_path / "s.zarr")
    assert run_hesstore("status", packed).returncode == 4
    for name, message in (("none.zarr", "no such store"), ("s.zarr/status", "is an array"), ("gs://x/y", "S3")):
        refused = run_hesstore("status", name)
        assert refused.returncode == 2
        assert message in refused.stderr


def test_a_store_that_is_moved_during_a_read(
    store: SweepStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Missing files would be read as empty. While the store is away, the status stays the last one."""
    watcher = status_view.StoreWatcher(str(store.path))
    before = watcher.read()
    complete(store, UP, 1)
    path, aside = tmp_path / "s.zarr", tmp_path / "aside"

    def away(function: Any) -> Any:
        def called(*arguments: Any, **options: Any) -> Any:
            path.rename(aside)
            try:
                return function(*arguments, **options)
            finally:
                aside.rename(path)

        return called

    for module, name in ((progress, "progress_of"), (reading, "open_store")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, away(getattr(module, name)))
            assert watcher.read_again(before) is before
    assert watcher.read_again(before).progress.finished == before.progress.finished + 1


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_watching_in_a_pipe(store: SweepStore, run_hesstore: RunHesstore, tmp_path: Path, options: list[str]) -> None:
    """One line per change until the end, even if the store is missing for a moment."""

    def fill() -> None:
        for at, index in ((UP, 1), (UP, 2), (DOWN, 2), (DOWN, 1), (DOWN, 0)):
            time.sleep(0.3)
            if at == DOWN and index == 2:
                (tmp_path / "s.zarr").rename(tmp_path / "aside")
                time.sleep(0.15)
                (tmp_path / "aside").rename(tmp_path / "s.zarr")
            complete(store, at, index)

    filling = threading.Thread(target=fill)
    filling.start()
    done = run_hesstore("status", "s.zarr", "--watch", "0.1", *options)
    filling.join()
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    counts = [json.loads(line)["complete"] if options else int(line.split("/")[0]) for line in lines]
    assert counts == [1, 2, 3, 4, 5, 6]


def test_watching_on_a_terminal(store: SweepStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(LiveBlock, "EVERY", 0.02)
    rest = [(UP, 1), (UP, 2), (DOWN, 2), (DOWN, 1), (DOWN, 0)]
    pause = threading.Event()

    def sleep(_: float) -> None:
        wanted, deadline = f"{6 - len(rest)}/6 grid points", time.monotonic() + 20
        while wanted not in "\n".join(shown.screen):  # the block draws itself
            assert time.monotonic() < deadline, (wanted, shown.screen)
            pause.wait(0.02)
        complete(store, *rest.pop(0))

    with terminal(40) as shown:
        monkeypatch.setattr(sys, "stdout", shown.stream)
        monkeypatch.setattr(time, "sleep", sleep)
        assert run(["status", str(tmp_path / "s.zarr"), "--watch"]) == 0
        assert shown.screen[0] == f"{'━' * 23}  6/6 grid points"
        assert shown.raw.count("\x1b[?25h") == 1
    assert not rest


def test_an_interrupted_watch_ends_quietly(
    store: SweepStore, run_hesstore: RunHesstore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupt)
    done = run_hesstore("status", "s.zarr", "--watch")
    assert (done.returncode, done.stderr) == (130, "")


@pytest.mark.parametrize("given", ["s.zarr", "0", "nan", "1e9"])
def test_bad_seconds(run_hesstore: RunHesstore, given: str) -> None:
    done = run_hesstore("status", "--watch", given, "x.zarr")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert given in line


def test_status_needs_no_torch(store: SweepStore, environment: dict[str, str], tmp_path: Path) -> None:
    code = (
        "import sys\nfrom hesstore_cli.main import run\nassert run(['status', 's.zarr']) == 0\n"
        "heavy = {'torch', 'matplotlib'} & set(sys.modules)\nassert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, check=True)


def test_places_that_have_no_drivers(tmp_path: Path) -> None:
    packed = locate(tmp_path / "s.zip")
    assert packed.holder(0) is None
    assert packed.last_modified("zarr.json") is None
    assert packed.free_space() is None
    assert locate(tmp_path).last_modified("nothing") is None
