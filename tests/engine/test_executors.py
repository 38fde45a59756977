from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import distributed
import psutil
import pytest
import torch
import xarray as xr

import hesstore
from hesstore.config import SweepConfig
from hesstore.engine import dask_executor
from hesstore.engine.sweep import SweepEvent, run_sweep
from hesstore.errors import CorruptStoreError, DeviceError, DeviceWarning, WorkersError
from hesstore.store import Status
from tests.support import broken_tasks
from tests.support.paths import ROOT
from tests.support.sweeps import results
from tests.support.toy import digits, with_batch_norm

MakeConfig = Callable[..., SweepConfig]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a scheduler whose two workers are threads of this process."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0", silence_logs=50
    ) as running:
        yield running.scheduler_address


def children() -> list[psutil.Process]:
    """The worker processes that this process has started."""
    return [child for child in psutil.Process().children(recursive=True) if "spawn_main" in " ".join(child.cmdline())]


@pytest.mark.usefixtures("one_thread")
@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [{"path": "continuation"}, {"path": "independent", "operator": "ggn", "blocks": "layer", "block_k": 2}],
    ids=lambda settings: settings["path"],
)
def test_two_processes_give_the_bytes_of_one(
    toy_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, object]
) -> None:
    """One of them is killed during the sweep, and its tasks are submitted again."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    config = toy_config(direction="both", **settings)
    killed: list[int] = []

    def observe(event: SweepEvent) -> None:
        if event.phase == "complete" and not killed:
            victim = children()[0]
            killed.append(victim.pid)
            victim.kill()

    summary = run_sweep(config, tmp_path / "workers.zarr", workers=2, observer=observe)
    assert (summary.complete, summary.failed, summary.pending, summary.computed) == (8, 0, 0, 8)
    assert killed
    run_sweep(config, tmp_path / "alone.zarr")
    xr.testing.assert_identical(results(tmp_path / "workers.zarr"), results(tmp_path / "alone.zarr"))
    deadline = time.monotonic() + 30
    while children() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert children() == []


@pytest.mark.usefixtures("one_thread")
@pytest.mark.slow
def test_two_processes_analyse_checkpoints_with_statistics_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for step in range(3):
        torch.manual_seed(step)
        network = with_batch_norm((64,), 10)
        network(torch.from_numpy(digits()[0]))  # which changes the running statistics
        torch.save(network.state_dict(), tmp_path / f"step_{step}.pth")
    settings = {
        "model": "tests.support.toy:with_batch_norm",
        "dataset": "tests.support.toy:digits",
        "k": 3,
        "response": 0,
        "device": "cpu",
    }
    for name, workers in (("workers.zarr", 2), ("alone.zarr", 0)):
        checkpoints = sorted(tmp_path.glob("*.pth"))
        hesstore.analyse(checkpoints, tmp_path / name, axis="step", from_name=True, settings=settings, workers=workers)
    xr.testing.assert_identical(results(tmp_path / "workers.zarr"), results(tmp_path / "alone.zarr"))


@pytest.mark.slow
def test_a_task_that_breaks_three_times_fails_with_its_reason_and_is_computed_again_on_request(
    toy_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: str
) -> None:
    broken_tasks.tried.clear()
    monkeypatch.setattr(dask_executor, "compute", broken_tasks.out_of_memory_at_one_grid_point)
    summary = run_sweep(toy_config(), tmp_path / "s.zarr", scheduler=cluster)
    assert (summary.complete, summary.failed) == (3, 1)
    assert len(broken_tasks.tried) == 3
    ds = hesstore.open(tmp_path / "s.zarr").sel(run=0)
    assert ds["status"].values.tolist() == [2, 3, 2, 2]
    assert str(ds["failure"].values[1]) == "analysis failed 3 times, the last time with MemoryError: not enough of it"
    monkeypatch.undo()
    assert run_sweep(toy_config(), tmp_path / "s.zarr").computed == 0
    again = run_sweep(toy_config(), tmp_path / "s.zarr", retry_failed=True)
    assert (again.complete, again.failed, again.computed) == (4, 0, 1)
    run_sweep(toy_config(), tmp_path / "whole.zarr")
    xr.testing.assert_identical(results(tmp_path / "s.zarr"), results(tmp_path / "whole.zarr"))


@pytest.mark.slow
def test_a_task_that_breaks_once_is_submitted_again(
    toy_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: str
) -> None:
    broken_tasks.tried.clear()
    monkeypatch.setattr(dask_executor, "compute", broken_tasks.breaking_once)
    assert run_sweep(toy_config(), tmp_path / "s.zarr", scheduler=cluster).complete == 4
    assert len(broken_tasks.tried) == 8


def test_a_damaged_store_stops_the_sweep(toy_config: MakeConfig, tmp_path: Path, cluster: str) -> None:
    run_sweep(toy_config(), tmp_path / "s.zarr", stop=iter([False, False, False, True, True, True]).__next__)
    assert hesstore.open(tmp_path / "s.zarr")["status"].values.tolist() != [[2, 2, 2, 2]]
    for file in (tmp_path / "s.zarr" / "weights" / "c").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    with pytest.raises(CorruptStoreError, match="is missing or empty"):
        run_sweep(toy_config(), tmp_path / "s.zarr", scheduler=cluster)


def test_without_workers_the_sweep_waits_and_stops_on_request(
    toy_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_executor, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(dask_executor, "PATIENCE_SECONDS", 0.2)
    with (
        distributed.LocalCluster(n_workers=0, processes=False, dashboard_address="127.0.0.1:0") as running,
        warnings.catch_warnings(record=True) as seen,
    ):
        warnings.simplefilter("always", DeviceWarning)
        summary = run_sweep(
            toy_config(), tmp_path / "s.zarr", scheduler=running.scheduler_address, stop=lambda: bool(seen)
        )
    (warning,) = seen
    assert "no worker is connected to the scheduler at" in str(warning.message)
    assert (summary.complete, summary.pending) == (0, 4)


@pytest.mark.parametrize(
    ("task", "error", "message"),
    [
        (broken_tasks.of_another_version, WorkersError, r"has hesstore .* with schema 1, but the driver has hesstore"),
        (broken_tasks.returning_other_numbers, CorruptStoreError, r"returned other results than weights/c/0/0/0"),
        (broken_tasks.returning_another_norm, CorruptStoreError, r"returned other results than weights/c/0/0/0"),
    ],
)
def test_workers_that_are_not_trusted_stop_the_sweep(
    toy_config: MakeConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cluster: str,
    task: Callable[..., object],
    error: type[Exception],
    message: str,
) -> None:
    monkeypatch.setattr(dask_executor, "compute", task)
    with pytest.raises(error, match=message):
        run_sweep(toy_config(), tmp_path / "s.zarr", scheduler=cluster)
    assert (hesstore.open(tmp_path / "s.zarr", check=True)["status"] == Status.PENDING).all()  # nothing is failed


def test_diverged_and_stopped(toy_config: MakeConfig, tmp_path: Path, cluster: str) -> None:
    config = toy_config(optimizer="sgd", lr=0.02, l2="0,1000", epochs=12, patience=12)
    assert run_sweep(config, tmp_path / "s.zarr", scheduler=cluster).failed == 1
    stopped = run_sweep(toy_config(), tmp_path / "t.zarr", scheduler=cluster, stop=lambda: True)
    assert (stopped.complete, stopped.pending) == (0, 4)


@pytest.mark.slow
def test_drivers_of_different_runs_fill_one_store_side_by_side(
    toy_arguments: list[str], toy_config: MakeConfig, tmp_path: Path, environment: dict[str, str]
) -> None:
    """Like the jobs of an array: all start together, and one creates the store. A fourth finds its run claimed."""
    environment = {**environment, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default"}
    script = "import sys; from hesstore_cli.main import main; sys.exit(main())"
    options = [*toy_arguments, "--seeds", "0,1,2", "--epochs", "40", "--patience", "40"]
    jobs = [
        subprocess.Popen(
            [sys.executable, "-c", script, "sweep", "s.zarr", *options, "--run", run],
            cwd=tmp_path,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for run in ("0", "1", "2", "2")
    ]
    said = [job.communicate(timeout=200)[1] for job in jobs]
    assert sorted(job.returncode for job in jobs) in ([0, 0, 0, 0], [0, 0, 0, 1]), said
    assert all("is being computed by process" in text for job, text in zip(jobs, said, strict=True) if job.returncode)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    run_sweep(toy_config(seeds="0,1,2", epochs=40, patience=40), tmp_path / "alone.zarr")
    torch.set_num_threads(before)
    xr.testing.assert_identical(results(tmp_path / "s.zarr"), results(tmp_path / "alone.zarr"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.mark.slow
def test_scheduler_and_workers_that_were_started_separately(
    toy_arguments: list[str], toy_config: MakeConfig, tmp_path: Path, environment: dict[str, str]
) -> None:
    address = f"tcp://127.0.0.1:{free_port()}"
    worker = [address, "--nworkers", "1", "--nthreads", "1", "--no-dashboard", "--local-directory", str(tmp_path)]
    environment = {**environment, "PYTHONWARNINGS": "default", "OMP_NUM_THREADS": "1"}
    commands = [
        ["scheduler", "--port", address.rsplit(":", 1)[1], "--no-dashboard"],
        ["worker", *worker],
        ["worker", *worker],
    ]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "dask", *command], env=environment, stderr=subprocess.DEVNULL, cwd=tmp_path
        )
        for command in commands
    ]
    try:
        with distributed.Client(address, timeout=60) as client:
            client.wait_for_workers(2, timeout=60)
        script = "import sys; from hesstore_cli.main import main; sys.exit(main())"
        command = [sys.executable, "-c", script, "sweep", "s.zarr", *toy_arguments, "--dask", address]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200, check=False
        )
        assert done.returncode == 0, done.stderr
        assert re.search(r"4 grid points complete", done.stderr)
    finally:
        for process in reversed(processes):
            process.send_signal(signal.SIGTERM)
        for process in processes:
            process.wait(30)
    found = hesstore.open(tmp_path / "s.zarr")
    assert (found["status"] == Status.COMPLETE).all()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    run_sweep(toy_config(), tmp_path / "alone.zarr")
    torch.set_num_threads(before)
    xr.testing.assert_identical(results(tmp_path / "s.zarr"), results(tmp_path / "alone.zarr"))


def test_no_scheduler_answers(toy_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_executor, "CONNECT_SECONDS", 1)
    for address in (f"tcp://127.0.0.1:{free_port()}", "nonsense://x"):
        with pytest.raises(DeviceError, match="no scheduler answers at"):
            run_sweep(toy_config(), tmp_path / "s.zarr", scheduler=address)
    assert list(tmp_path.iterdir()) == []


def test_each_worker_has_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert [dask_executor._threads(workers) for workers in (1, 2, 3, 8, 20)] == [8, 4, 2, 1, 1]


@pytest.mark.slow
def test_dask_is_imported_only_by_sweeps_with_workers(tmp_path: Path, environment: dict[str, str]) -> None:
    code = (
        "import sys, hesstore_cli.main, hesstore.engine.sweep; "
        "sys.exit('distributed' in sys.modules or 'dask' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, check=False).returncode == 0
