"""Claims on the runs of a store in a folder: at most one driver works on a run at any time.

A claim names its holder, and it ends with the process of its holder, however that process ends. Neither clocks nor
names of machines decide anything: clocks jump, and two machines can have one name.
"""

from __future__ import annotations

import datetime as dt
import errno
import fcntl
import json
import os
import socket
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

from hesstore.errors import StoreBusyError, StoreError

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL}
"""Errors by which file systems refuse every lock."""


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
        Whether the process runs; None if it is on another machine or in another container, where this can't be known,
        or from before the last restart.
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


def parse_holder(facts: Any) -> Holder | None:
    """Return the holder that a claim with these contents names; None if the claim is malformed."""
    try:
        pid, host, since = int(facts["pid"]), str(facts["host"]), dt.datetime.fromisoformat(facts["since"])
        renewed = dt.datetime.fromisoformat(facts["renewed"]) if "renewed" in facts else None
        workers = max(1, int(facts.get("workers", 1)))
    except (KeyError, TypeError, ValueError):
        return None
    is_here = facts.get("processes") == process_space()
    alive = _start_of(pid) == facts.get("start") is not None if is_here else None
    return Holder(pid, host, since, alive, renewed, workers)


def facts_of_this_process(workers: int) -> dict[str, Any]:
    """The facts by which a claim names this process, for which ``workers`` processes compute, as its holder."""
    since = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": since,
        "workers": workers,
        "processes": process_space(),
        "start": _start_of(os.getpid()),
        "token": uuid.uuid4().hex,
    }


def process_space() -> str:
    """Identify the set of processes in which a process ID is unique: one boot and one PID namespace.

    Two processes with equal values see the same processes under the same IDs. Where the system does not say it, every
    value is another one.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return uuid.uuid4().hex


def describe_holder(facts: Any) -> str:
    """The holder that a claim names, as messages show it."""
    try:
        return f"process {facts['pid']} on {facts['host']} since {facts['since']}"
    except (KeyError, TypeError):
        return "another process"


def _start_of(pid: int) -> int | None:
    """The time at which a process started, in ticks since boot; None if it does not run.

    A later process with the same ID has another one.
    """
    try:
        # The process name, in parentheses, may contain spaces. Field 22 is the start time.
        return int(Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def check_locks(folder: Path, file: IO[Any]) -> None:
    """Raise :class:`StoreError` if the file system of ``folder``, in which ``file`` is open, has no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise _lock_error(folder, error) from error


def _lock_error(folder: Path, error: OSError) -> StoreError:
    return StoreError(
        f"{folder}: flock failed: {error.strerror}: a sweep needs the locks of the file system, which keep two "
        "processes apart: give a path on a local disk, or mount this file system with locks"
    )


class Claim:
    """A context manager that holds run ``run_id`` of the store with the folder ``folder`` of statuses.

    The claim is a lock of the operating system on the file ``.claim-ID``, so it ends with its process. The file
    ``.claim-ID.json`` next to it names the holder.
    """

    def __init__(self, folder: Path, run_id: int, workers: int = 1) -> None:
        self._folder, self._run_id = folder, run_id
        self._facts = facts_of_this_process(workers)
        self._holder = folder / f".claim-{run_id}.json"
        self._lock: IO[bytes] | None = None
        self._is_left = False

    def __enter__(self) -> Self:
        """Take the run.

        Raises
        ------
        StoreBusyError
            If a live process holds the run; the message names the process.
        StoreError
            If the folder cannot be written, or the file system has no locks.
        """
        try:
            file = self._holder.with_suffix("").open("ab")
        except OSError as error:  # the claim is the first file that a driver writes
            raise self._error(error) from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._holder.write_text(json.dumps(self._facts))
        except BlockingIOError:
            file.close()
            raise StoreBusyError(
                f"run {self._run_id} of this store is being computed by {self._read()}: wait for it or stop it"
            ) from None
        except OSError as error:
            file.close()
            if error.errno in _NO_LOCKS:
                raise _lock_error(self._folder, error) from error
            raise self._error(error) from None
        self._lock = file
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            if self._is_ours() and not self._is_left:
                self._holder.unlink(missing_ok=True)
            self._lock.close()  # which gives the lock back
            self._lock = None

    def leave(self) -> None:
        """Leave the name of the holder when the context ends, as a process that is killed does."""
        self._is_left = True

    def _error(self, error: OSError) -> StoreError:
        return StoreError(
            f"{self._folder.parent}: cannot be written ({error.strerror}): change that, or copy the store"
        )

    def check(self) -> None:
        """Raise :class:`StoreBusyError` if the run is held, but another process has taken it over.

        A network file system loses its locks when the connection to its server breaks for some time.
        """
        if self._lock is not None and not self._is_ours():
            raise StoreBusyError(
                f"the lock on run {self._run_id} of this store was lost, and {self._read()} has taken over: "
                "wait for it or stop it"
            )

    def _is_ours(self) -> bool:
        try:
            return bool(json.loads(self._holder.read_text()) == self._facts)
        except (OSError, ValueError):  # it was deleted, or another process is writing it
            return False

    def _read(self) -> str:
        try:
            return describe_holder(json.loads(self._holder.read_text()))
        except (OSError, ValueError):  # the file does not exist, or is being written
            return describe_holder({})
