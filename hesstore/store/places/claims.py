"""One driver a run: a claim that names its holder and that a dead process does not keep."""

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

from hesstore.errors import StoreBusyError

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Holder:
    """Who drives a run, as its claim says.

    Attributes
    ----------
    pid, host : int, str
        The process.
    since : datetime
        When it began.
    alive : bool, optional
        Whether it is there; None for one on another machine, of which nobody here can know.
    renewed : datetime, optional
        When it was last heard of, by its own clock, where a claim is renewed.
    """

    pid: int
    host: str
    since: dt.datetime
    alive: bool | None
    renewed: dt.datetime | None = None


def holder_of(facts: Any, *, is_here: bool | None = None) -> Holder | None:
    """The holder that a claim names; None if it names none.

    Parameters
    ----------
    facts : mapping
        What the claim holds.
    is_here : bool, optional
        Whether its process is one of this machine's; by default that is told by the host's name.
    """
    try:
        pid, host, since = int(facts["pid"]), str(facts["host"]), dt.datetime.fromisoformat(facts["since"])
        renewed = dt.datetime.fromisoformat(facts["renewed"]) if "renewed" in facts else None
    except (KeyError, TypeError, ValueError):
        return None
    is_here = host == socket.gethostname() if is_here is None else is_here
    return Holder(pid, host, since, _is_alive(pid, since) if is_here else None, renewed)


def _is_alive(pid: int, since: dt.datetime) -> bool:
    """Whether the process is there and no later one of the same number."""
    try:
        # The name, in parentheses, may have spaces; the 22nd field is the start in ticks since the machine's.
        ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
        boot = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime"))
    except (OSError, ValueError, IndexError, StopIteration):
        return False
    started = int(boot.split()[1]) + ticks / os.sysconf("SC_CLK_TCK")
    return started <= since.timestamp() + 60  # clocks are set now and then


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
