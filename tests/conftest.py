"""Fixtures that several packages' tests share."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
import torch

from hesstore import durable_files
from hesstore.config import SweepConfig
from hesstore.engine import speed_probe
from hesstore_cli.main import run
from tests.support.command_line import CommandResult, RunHesstore
from tests.support.paths import ROOT
from tests.support.quickstart import Quickstart
from tests.support.toy import TOY

# One thread each, in processes that tests start too: networks here are tiny, and tests run side by side.
os.environ.pop("COLUMNS", None)  # pytest-xdist sets it, and it would wrap the output of commands
os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

hypothesis.settings.register_profile("untimed", deadline=None)  # an example may wait for a busy machine
hypothesis.settings.load_profile("untimed")


def pytest_xdist_auto_num_workers() -> int:
    """One worker more than there are processors, because some tests wait for processes that they start."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture(autouse=True)
def unflushed(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Waiting for the disk is half the time of a small sweep, and no test can cut the power."""
    if "test_durable_files" not in request.node.nodeid:
        monkeypatch.setattr(durable_files, "_sync", lambda _: None)


@pytest.fixture(autouse=True)
def brief_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan need not be exact."""
    monkeypatch.setattr(speed_probe, "BUDGET", dict.fromkeys(speed_probe.BUDGET, 0.0))


@pytest.fixture
def toy_config() -> Callable[..., SweepConfig]:
    """A config that runs in a second; keyword arguments override."""
    return lambda **values: SweepConfig.from_mapping({**TOY, **values})


@pytest.fixture
def toy_arguments() -> list[str]:
    """The same as command-line options."""
    return [part for key, value in TOY.items() for part in (f"--{key.replace('_', '-')}", str(value))]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment in which a subprocess finds the checkout's tests and no cached data."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "cli")])
    return {**os.environ, "PYTHONPATH": path, "XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONWARNINGS": "error"}


@pytest.fixture
def run_hesstore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> RunHesstore:
    """Run a command line in ``tmp_path``, in this process: a new one pays seconds for importing torch."""
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: object) -> CommandResult:
        capsys.readouterr()
        status = run(list(map(str, arguments)))
        return CommandResult(status, *capsys.readouterr())

    return invoke


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Quickstart:
    """It takes minutes, so the first process that asks for it makes it for all."""
    own = tmp_path_factory.getbasetemp()
    shared = own if worker_id == "master" else own.parent
    said = shared / "quickstart.stderr"
    with (shared / "quickstart.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not said.exists():
            script = "from hesstore_cli.main import main; main()"
            command = [sys.executable, "-c", script, "sweep", "quickstart.zarr", "--preset", "quickstart"]
            warnings = {**os.environ, "PYTHONWARNINGS": "error"}
            done = subprocess.run(command, cwd=shared, env=warnings, capture_output=True, text=True, check=True)
            said.write_text(done.stderr)
    return Quickstart(shared / "quickstart.zarr", said.read_text())


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As many as each of two workers has on two cores: then the bytes are the same."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Each device that is there."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device(request.param)
