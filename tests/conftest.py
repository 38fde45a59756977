"""Fixtures that several packages' tests share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hesstore.config import SweepConfig

ROOT = Path(__file__).resolve().parent.parent
TOY: dict[str, object] = {
    "dataset": "tests.toy:digits",
    "hidden": "6,5",
    "l2": "0,0.001,0.01,0.05",
    "k": 6,
    "epochs": 3,
    "chunk_rows": 128,
    "device": "cpu",
}


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
    return {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONWARNINGS": "error"}


@pytest.fixture
def hesstore(tmp_path: Path, environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the real command line in ``tmp_path``."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        code = "import sys; from hesstore_cli.main import main; sys.exit(main())"
        return subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    return run


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Each device that is there."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device(request.param)
