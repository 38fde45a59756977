"""A claim on S3: an object that names its holder, who renews it; a dead process renews nothing.

Each write of it is conditional, so of two processes that want it one gets it. Its age is told by the server's clock
alone, and a holder gives up by its own clock before the server's can have run out, so clocks need not agree.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import socket
import threading
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import obstore
from obstore.exceptions import AlreadyExistsError, NotSupportedError, PreconditionError

from hesstore.errors import HesstoreError, StoreBusyError, StoreError
from hesstore.store.places.s3_errors import explained, url_of

if TYPE_CHECKING:
    from types import TracebackType

    from obstore import PutMode
    from obstore.store import S3Store

LEASE_SECONDS = 60.0
"""A claim that was not renewed for so long is dead."""
RENEWALS = 4
"""Renewals in that time."""
TRIES = 5

_LOST = (AlreadyExistsError, PreconditionError, FileNotFoundError)
"""What a conditional put says when the object is not the one it was meant for."""


class _Found(NamedTuple):
    facts: dict[str, Any]
    tag: str
    written: dt.datetime


class Lease:
    """Hold ``key`` as a context manager, and renew it in a thread.

    Parameters
    ----------
    objects : S3Store
        Where; of few retries, so that a renewal is over before the next is due.
    key : str
        Name of the object.
    doing : str
        What the claim is for, as an error says it: "… is being computed".
    """

    def __init__(self, objects: S3Store, key: str, doing: str) -> None:
        self._objects, self._key, self._doing = objects, key, doing
        self._url = url_of(objects)
        self._facts = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "lease_seconds": LEASE_SECONDS,
            "processes": process_space(),
            "token": uuid.uuid4().hex,  # tells our own put, whose answer got lost, from another's
        }
        self._tag = ""
        self._renewed = 0.0
        self._lost = ""
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="hesstore-lease", daemon=True)

    def __enter__(self) -> Self:
        with explained(self._url):
            self._acquire()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        if self._lost:
            return
        # A claim that can't be given back now ends by itself; what went wrong before matters more.
        with contextlib.suppress(HesstoreError, *_LOST), explained(self._url):
            self._renew()  # a delete has no condition, but for a lease from now on the claim is ours
            if not self._lost:
                obstore.delete(self._objects, self._key)

    def check(self) -> None:
        """Raise :class:`StoreBusyError` if the claim was lost, or may have been: it was not renewed in time."""
        if not self._lost and _clock() - self._renewed > LEASE_SECONDS:
            raise StoreBusyError(
                f"{self._doing}, but its claim could not be renewed for {LEASE_SECONDS:g} s: "
                "check the network, then run the same command again"
            )
        if self._lost:
            raise StoreBusyError(f"{self._doing} by {self._lost}, who took it over: wait for it or stop it")

    def _acquire(self) -> None:
        for _ in range(TRIES):
            began = _clock()
            tag = self._put("create")
            if tag is None:
                found = self._read()
                if found is None:
                    continue  # given back between our two requests
                if found.facts.get("token") != self._facts["token"]:
                    if not self._is_dead(found):
                        raise StoreBusyError(f"{self._doing} by {_describe(found.facts)}: wait for it or stop it")
                    began = _clock()
                    if (tag := self._put({"e_tag": found.tag})) is None:
                        continue  # another took it first
                else:
                    tag = found.tag
            self._tag, self._renewed = tag, began
            self._check_conditions()
            return
        raise StoreBusyError(f"{self._doing}: {TRIES} others were faster: run the same command again")

    def _check_conditions(self) -> None:
        """A server that ignores conditions would let two drivers in: this put must be refused."""
        tag = self._put("create")
        if tag is not None:
            obstore.delete(self._objects, self._key)
            raise StoreError(
                f"{self._url}: the server ignores conditional puts (If-None-Match), without which two drivers can't be "
                "kept apart: store in a folder, or use a server that has them"
            )

    def _put(self, mode: PutMode) -> str | None:
        """Write the claim on a condition; its ETag, or None if the condition was not met."""
        data = json.dumps({**self._facts, "renewed": dt.datetime.now(dt.UTC).isoformat()}).encode()
        try:
            return str(obstore.put(self._objects, self._key, data, mode=mode, use_multipart=False)["e_tag"])
        except NotSupportedError as error:
            raise StoreError(
                f"{self._url}: conditional puts are switched off or not there, without which two drivers can't be kept "
                "apart: unset AWS_CONDITIONAL_PUT, store in a folder, or use another server"
            ) from error
        except _LOST as error:
            if "NoSuchBucket" in str(error):
                raise
            return None

    def _read(self) -> _Found | None:
        try:
            answer = obstore.get(self._objects, self._key)
            data = bytes(answer.bytes())
        except FileNotFoundError:
            return None
        try:
            facts = json.loads(data)
        except ValueError:
            facts = {}
        return _Found(facts if isinstance(facts, dict) else {}, str(answer.meta["e_tag"]), answer.meta["last_modified"])

    def _is_dead(self, found: _Found) -> bool:
        if found.facts.get("processes") == process_space() and not _is_alive(found.facts.get("pid")):
            return True
        beside = f"{self._key}.clock-{self._facts['token']}"
        obstore.put(self._objects, beside, b"")
        try:
            now = obstore.head(self._objects, beside)["last_modified"]
        finally:
            obstore.delete(self._objects, beside)
        promised = found.facts.get("lease_seconds")
        lease = float(promised) if isinstance(promised, (int, float)) else LEASE_SECONDS
        return (now - found.written).total_seconds() > lease + 1  # the server's times are whole seconds

    def _keep(self) -> None:
        """Renew until told to stop, sooner again after a failure."""
        pause = LEASE_SECONDS / RENEWALS
        while not self._done.wait(pause):
            pause = LEASE_SECONDS / RENEWALS
            try:
                with explained(self._url):
                    self._renew()
            except Exception:  # noqa: BLE001 - whatever it was, check() tells once the lease has run out
                pause = pause / 5
            if self._lost:
                return

    def _renew(self) -> None:
        began = _clock()
        tag = self._put({"e_tag": self._tag})
        if tag is None:
            found = self._read()
            if found is None or found.facts.get("token") != self._facts["token"]:
                self._lost = _describe(found.facts) if found else "another process"
                return
            tag = found.tag
        self._tag, self._renewed = tag, began


def _clock() -> float:
    """Seconds that go on while the machine sleeps, as the server's do."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def process_space() -> str:
    """Equal for two processes if a process ID means the same to both: the same boot, the same PID namespace."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"


def _is_alive(pid: object) -> bool:
    return isinstance(pid, int) and Path(f"/proc/{pid}").exists()


def _describe(facts: dict[str, Any]) -> str:
    try:
        return f"process {facts['pid']} on {facts['host']} since {facts['since']}"
    except KeyError:
        return "another process"
