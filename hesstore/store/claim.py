"""One driver a run: a claim that names its holder and that a dead process does not keep."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import socket
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from hesstore.errors import StoreBusyError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def claim(folder: Path, run_id: int) -> Iterator[None]:
    """Hold run ``run_id`` while the context lasts.

    The claim is a lock of the operating system on ``.claim-ID`` in ``folder``, so it ends with its process; who holds
    it stands beside it in ``.claim-ID.json``.

    Raises
    ------
    StoreBusyError
        If a live process holds the run; the message names it.
    """
    lock = FileLock(folder / f".claim-{run_id}", timeout=0)
    holder = folder / f".claim-{run_id}.json"
    try:
        lock.acquire()
    except Timeout:
        raise StoreBusyError(
            f"run {run_id} of this store is being computed by {_describe(holder)}: wait for it or stop it"
        ) from None
    try:
        started = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        holder.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": started}))
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _describe(holder: Path) -> str:
    try:
        facts = json.loads(holder.read_text())
        return f"process {facts['pid']} on {facts['host']} since {facts['since']}"
    except (OSError, ValueError, KeyError):
        return "another process"
