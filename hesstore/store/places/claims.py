"""Claims on the runs of a store in a folder: at most one driver works on a run at any time.

A claim names its holder, and it ends with the process of its holder, however that process ends.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from hesstore.errors import StoreBusyError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Holder:
    """The process that holds a run, according to its claim.

    Attributes
    ----------
    pid, host : int, str
        Process ID, and name of the machine.
    since : datetime
        Time at which the claim was made.
    alive : bool, optional
        Whether the process runs; None if it is on another machine, where this can't be known.
    renewed : datetime, optional
        Time of the last renewal, by the holder's clock; None for a claim that is not renewed.
    workers : int
        Number of processes that computed for the holder when the claim was made.
    """

    pid: int
    host: str
    since: dt.datetime
    alive: bool | None
    renewed: dt.datetime | None = None
    workers: int = 1


def parse_holder(facts: Any, *, is_here: bool | None = None) -> Holder | None:
    """Return the holder that a claim names; None if the claim is malformed.

    Parameters
    ----------
    facts : mapping
        The contents of the claim.
    is_here : bool, optional
        Whether the process runs on this machine; by default the names of the hosts are compared.
    """
    try:
        pid, host, since = int(facts["pid"]), str(facts["host"]), dt.datetime.fromisoformat(facts["since"])
        renewed = dt.datetime.fromisoformat(facts["renewed"]) if "renewed" in facts else None
        workers = max(1, int(facts.get("workers", 1)))
    except (KeyError, TypeError, ValueError):
        return None
    is_here = host == socket.gethostname() if is_here is None else is_here
    return Holder(pid, host, since, _is_alive(pid, since) if is_here else None, renewed, workers)


def facts_of_this_process(workers: int) -> dict[str, Any]:
    """The facts by which a claim names this process, for which ``workers`` processes compute, as its holder."""
    since = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": since, "workers": workers}


def describe_holder(facts: Any) -> str:
    """The holder that a claim names, as messages show it."""
    try:
        return f"process {facts['pid']} on {facts['host']} since {facts['since']}"
    except (KeyError, TypeError):
        return "another process"


def _is_alive(pid: int, since: dt.datetime) -> bool:
    """Whether the process runs; a later process with the same ID does not count."""
    try:
        # The process name, in parentheses, may contain spaces. Field 22 is the start time, in ticks since boot.
        ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
        boot = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime"))
    except (OSError, ValueError, IndexError, StopIteration):
        return False
    started = int(boot.split()[1]) + ticks / os.sysconf("SC_CLK_TCK")
    return started <= since.timestamp() + 60  # the clock may have been adjusted meanwhile


@contextlib.contextmanager
def claim(folder: Path, run_id: int, workers: int = 1) -> Iterator[None]:
    """Hold run ``run_id`` while the context lasts.

    The claim is a lock of the operating system on the file ``.claim-ID`` in ``folder``, so it ends with its process.
    The file ``.claim-ID.json`` next to it names the holder.

    Raises
    ------
    StoreBusyError
        If a live process holds the run; the message names the process.
    StoreError
        If the folder cannot be written.
    """
    lock = FileLock(folder / f".claim-{run_id}", timeout=0)
    holder = folder / f".claim-{run_id}.json"
    try:
        lock.acquire()
    except Timeout:
        raise StoreBusyError(
            f"run {run_id} of this store is being computed by {_read_holder(holder)}: wait for it or stop it"
        ) from None
    except OSError as error:  # the claim is the first file that a driver writes
        raise StoreError(
            f"{folder.parent}: cannot be written ({error.strerror}): change that, or copy the store"
        ) from None
    try:
        holder.write_text(json.dumps(facts_of_this_process(workers)))
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _read_holder(file: Path) -> str:
    try:
        return describe_holder(json.loads(file.read_text()))
    except (OSError, ValueError):  # the file does not exist, or is being written
        return describe_holder({})
