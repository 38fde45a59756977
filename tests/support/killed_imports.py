"""Kill imports: ``python -m tests.support.killed_imports FOLDER STORE`` imports the files of FOLDER again and again.

It runs in a process of its own, because its children are forks. Each child is an import that SIGKILL ends at one
step of one write. The store must not exist after a kill; at the end one child finishes.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from hesstore import durable_files
from hesstore.importing import import_files

MOMENTS = (("write", "gradient/c"), ("done", "eigenvalues/c"), ("rename", "entries_digest/c"), ("done", "status/c"))


def run_child(folder: Path, store: Path, step: str, place: str) -> bool:
    """Import in a fork; kill it at the first ``step`` of a write to a path with ``place``. Return whether it was."""
    if not (pid := os.fork()):

        def observe(at: str, path: Path) -> None:
            if at == step and place in str(path):
                os.kill(os.getpid(), signal.SIGKILL)

        durable_files.observe = observe
        import_files(folder, store)
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])


def main(folder: Path, store: Path) -> None:
    """Kill an import at each moment, then let it finish."""
    for step, place in MOMENTS:
        assert run_child(folder, store, step, place), (step, place)
        assert not store.exists(), (step, place)
    assert not run_child(folder, store, "none", "none")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
