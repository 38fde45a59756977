"""A command line of hesstore in a fork of a process that has imported this module, and with it everything."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import sklearn.datasets  # noqa: F401 - imported before the fork, as all that follows
import torch._decomp.decompositions_for_jvp  # noqa: F401 - takes as long as a sweep
import xarray  # noqa: F401

import hesstore.engine.dask_executor
import hesstore.engine.sweep
import hesstore.store.places.s3  # noqa: F401
import tests.support.toy  # noqa: F401
from hesstore_cli.main import run


def run_command(arguments: Sequence[str], environment: Mapping[str, str], said: Path) -> None:
    """Run ``hesstore`` in a session of its own and end this process with its status.

    Its stderr goes to the file ``said``. Nothing may have been started before the fork, such as threads.
    """
    os.setsid()
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    os.environ.update(environment)
    file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 2)
    os._exit(run(list(arguments)))
