"""Command lines in a process of their own that is killed, as by kill -9, in the middle of a write."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

_SCRIPT = """
import os, signal, sys
from hesstore import durable_files
from hesstore_cli.main import main

place, left = sys.argv[1], int(sys.argv[2])

def observe(step, path):
    global left
    if step == "rename" and place in str(path):
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

durable_files.observe = observe
sys.argv = ["hesstore", *sys.argv[3:]]
main()
"""


def kill_during(place: str, count: int, folder: Path, environment: Mapping[str, str], *arguments: object) -> None:
    """Run ``hesstore`` with ``arguments`` in ``folder``, and kill it before the ``count``-th file in ``place`` appears.

    Parameters
    ----------
    place : str
        A part of the path of the files, such as ``weights/c``.
    count : int
        Which of these files is the first that never appears, from 1.
    folder : Path
        The working folder.
    environment : mapping
        The environment variables of the process.
    arguments
        The command line.
    """
    command = [sys.executable, "-c", _SCRIPT, place, str(count), *map(str, arguments)]
    environment = {**environment, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
