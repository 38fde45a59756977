"""Stand-in devices in a Dask worker: a module for Dask's setting ``distributed.worker.preload``."""

from __future__ import annotations

from contextlib import ExitStack

from tests.support.stand_in_device.installation import stand_in

_installed = ExitStack()


def dask_setup(worker: object) -> None:
    """Install the stand-in devices when a worker starts."""
    _installed.enter_context(stand_in())


def dask_teardown(worker: object) -> None:
    """Remove them when it ends, which checks the copies that have not arrived."""
    _installed.close()
