"""A short run of the fuzzer; a longer one is ``python -m tests.chaos.fuzz``."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support.paths import ROOT

pytest.importorskip("safetensors")


@pytest.mark.slow
def test_changed_files_are_refused_or_read_as_they_are() -> None:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'cli'}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.chaos.fuzz", "--seconds", "20", "--seed", "3"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split("\n", 1)[0].split(" ", 1)[0]) > 20
