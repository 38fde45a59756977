from __future__ import annotations

import itertools
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from numpy.typing import NDArray

from hesstore.config import SweepConfig
from hesstore.engine.sweep import run_sweep
from hesstore.store import Status
from tests.support.paths import ROOT
from tests.support.sweeps import results


@pytest.mark.slow
def test_kill_9_loses_at_most_the_current_grid_points(tmp_path: Path) -> None:
    """After each kill a reader sees right values or none, and the last store has every byte of an unkilled sweep."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.support.kills", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stderr
    (kills,) = re.findall(r"'kills': (\d+)", done.stdout)
    assert int(kills) >= 14


@pytest.mark.slow
def test_driver_and_workers_killed_at_once(
    toy_config: Callable[..., SweepConfig], toy_arguments: list[str], tmp_path: Path, environment: dict[str, str]
) -> None:
    script = "import sys; from hesstore_cli.main import main; sys.exit(main())"
    options = [*toy_arguments, "--direction", "both", "--workers", "2"]
    command = [sys.executable, "-c", script, "sweep", "s.zarr", *options]
    environment = {**environment, "PYTHONWARNINGS": "default", "OMP_NUM_THREADS": "1"}
    rng = random.Random(1)  # noqa: S311
    statuses: list[NDArray[np.int8]] = []
    for _ in range(3):
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, start_new_session=True
        )
        assert process.stderr is not None
        if not statuses:  # wait for the first grid point, at least once
            next(line for line in process.stderr if line.startswith(b"1/8"))
        time.sleep(rng.uniform(0, 3))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
        statuses.append(results(tmp_path / "s.zarr")["status"].values)
    assert (statuses[0] == Status.COMPLETE).any()
    for before, after in itertools.pairwise(statuses):
        assert (after >= before).all()
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    run_sweep(toy_config(direction="both"), tmp_path / "alone.zarr")
    torch.set_num_threads(threads)
    xr.testing.assert_identical(results(tmp_path / "s.zarr"), results(tmp_path / "alone.zarr"))
