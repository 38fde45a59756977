"""Claims on the runs of a store on S3: an object that names its holder, and that the holder keeps renewing.

A claim that is not renewed expires, so a killed process does not keep its run. Every write of the object is
conditional: if two processes want the claim, only one gets it. The age of a claim is measured with the server's clock
alone. A holder gives up, by its own clock, before the claim can have expired on the server, so the clocks of the
machines need not agree.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Self

import obstore
from obstore.exceptions import AlreadyExistsError, NotSupportedError, PreconditionError

from hesstore.errors import HesstoreError, StoreBusyError, StoreError
from hesstore.store.places.claim_thread import ClaimThread
from hesstore.store.places.claims import describe_holder, facts_of_this_process, process_space
from hesstore.store.places.s3_errors import repeat_async, translating_errors, url_of

if TYPE_CHECKING:
    from types import TracebackType

    from obstore import PutMode
    from obstore.store import S3Store

LEASE_SECONDS = 60.0
"""Time after which a claim that was not renewed has expired, in seconds."""
RENEWALS = 4
"""Number of renewals in that time."""
TRIES = 5
"""Number of attempts to get a claim that other processes want too."""

_THREAD = ClaimThread()

_LOST = (AlreadyExistsError, PreconditionError, FileNotFoundError)
"""Errors of a conditional put whose condition is not met."""


class _Found(NamedTuple):
    """A claim as the server has it: its contents, its ETag, and the time at which it was written."""

    facts: dict[str, Any]
    tag: str
    written: dt.datetime


class Lease:
    """A context manager that holds the claim ``key`` and renews it, in one thread with all claims of the process.

    Parameters
    ----------
    objects : S3Store
        The store that the object belongs to. It should make few retries, so that a renewal ends before the next one
        is due.
    key : str
        Name of the object.
    activity : str
        Start of error messages: what the claim is for, such as "… is being computed".
    workers : int
        Number of processes that compute for this one.
    """

    def __init__(self, objects: S3Store, key: str, activity: str, workers: int = 1) -> None:
        self._objects, self._key, self._activity = objects, key, activity
        self._url = url_of(objects)
        self._facts = {
            **facts_of_this_process(workers),  # the token identifies a put whose answer got lost
            "lease_seconds": LEASE_SECONDS,
        }
        self._tag = ""
        self._renewed = 0.0
        self._lost = ""
        self._is_left = False
        self._done = asyncio.Event()
        self._renewals: asyncio.Task[None]

    def __enter__(self) -> Self:
        _THREAD.join()
        try:
            _THREAD.run(self._hold())
        except BaseException:
            _THREAD.leave()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            _THREAD.run(self._give_back(patiently=error is None))
        finally:
            _THREAD.leave()

    def leave(self) -> None:
        """Leave the claim to expire when the context ends, as a process that is killed does."""
        self._is_left = True

    async def _hold(self) -> None:
        # The token in the claim shows whether an attempt without an answer has succeeded.
        await repeat_async(self._acquire, self._url)
        self._renewals = asyncio.create_task(self._renew_periodically())

    async def _give_back(self, *, patiently: bool) -> None:
        self._done.set()
        await self._renewals
        if self._lost or self._is_left:
            return
        # A claim that can't be given back now expires; an error inside the context matters more.
        with contextlib.suppress(HesstoreError, *_LOST), translating_errors(self._url):
            # A delete can't be conditional, but a renewed claim is ours for the whole lease time.
            await (repeat_async(self._renew, self._url) if patiently else self._renew())
            if not self._lost:
                await (repeat_async(self._delete, self._url) if patiently else self._delete())

    async def _delete(self) -> None:
        await obstore.delete_async(self._objects, self._key)

    def check(self) -> None:
        """Raise :class:`StoreBusyError` if the claim was lost, or may be lost because it was not renewed in time."""
        if not self._lost and _clock() - self._renewed > LEASE_SECONDS:
            raise StoreBusyError(
                f"{self._activity}, but its claim could not be renewed for {LEASE_SECONDS:g} s: "
                "check the network, then run the same command again"
            )
        if self._lost:
            raise StoreBusyError(f"{self._activity} by {self._lost}, who took it over: wait for it or stop it")

    async def _acquire(self) -> None:
        for _ in range(TRIES):
            began = _clock()
            tag = await self._put("create")
            if tag is None:
                found = await self._read()
                if found is None:
                    continue  # it was given back between the two requests
                if found.facts.get("token") != self._facts["token"]:
                    if not await self._is_dead(found):
                        raise StoreBusyError(
                            f"{self._activity} by {describe_holder(found.facts)}: wait for it or stop it"
                        )
                    began = _clock()
                    if (tag := await self._replace(found.tag)) is None:
                        await self._check_that_it_changed(found)
                        continue  # another process took it first
                else:
                    tag = found.tag
            self._tag, self._renewed = tag, began
            await self._check_conditions()
            return
        raise StoreBusyError(f"{self._activity}: other processes were faster {TRIES} times: run the same command again")

    async def _check_conditions(self) -> None:
        """Raise :class:`StoreError` if the server does not carry out conditions as it must, on the claim itself.

        The claim exists now, so the server must refuse to create it. It must replace it where the condition names its
        tag, because otherwise it can be neither renewed nor taken over from a process that was killed, and the tag must
        change with it.
        """
        if await self._put("create") is not None:
            await self._refuse("ignores conditional puts (If-None-Match), which are needed to keep two drivers apart")
        before, began = self._tag, _clock()
        tag = await self._replace(before)
        if tag is None and (found := await self._read()) is not None and found.tag != before:
            tag = found.tag  # the answer to a first attempt got lost
        if tag is None:
            await self._refuse(
                "never meets a condition on the ETag (If-Match), by which a claim is renewed and taken over"
            )
        elif await self._replace(before) is not None:
            await self._refuse("ignores conditions on the ETag (If-Match), which are needed to keep two drivers apart")
        else:
            self._tag, self._renewed = tag, began

    async def _refuse(self, what: str) -> NoReturn:
        """Give the claim back, and raise :class:`StoreError`."""
        await obstore.delete_async(self._objects, self._key)
        raise StoreError(f"{self._url}: the server {what}: use a store in a folder, or a server that supports them")

    async def _check_that_it_changed(self, before: _Found) -> None:
        """Raise :class:`StoreError` if a claim could not be taken over although nobody else has changed it."""
        found = await self._read()
        if found is not None and found.tag == before.tag:
            raise StoreError(
                f"{self._activity} by {describe_holder(found.facts)}, which no longer runs, but the server does not "
                f"let its claim be replaced (If-Match): delete the object {self._url}/{self._key}, then run the same "
                "command again"
            )

    async def _replace(self, tag: str) -> str | None:
        """Write the claim if it has the ETag ``tag``; return the new one, or None if it has another.

        Ceph's gateway 16.2 takes the quotation marks of an ETag in a condition for a part of it.
        """
        return await self._put({"e_tag": tag}) or await self._put({"e_tag": tag.strip('"')})

    async def _put(self, mode: PutMode) -> str | None:
        """Write the claim on a condition; return its ETag, or None if the condition is not met."""
        data = json.dumps({**self._facts, "renewed": dt.datetime.now(dt.UTC).isoformat()}).encode()
        try:
            done = await obstore.put_async(self._objects, self._key, data, mode=mode, use_multipart=False)
        except NotSupportedError as error:
            raise StoreError(
                f"{self._url}: conditional puts, which are needed to keep two drivers apart, are switched off or not "
                "supported: unset AWS_CONDITIONAL_PUT, use a store in a folder, or use another server"
            ) from error
        except _LOST as error:
            if "NoSuchBucket" in str(error):
                raise
            return None
        return str(done["e_tag"])

    async def _read(self) -> _Found | None:
        try:
            answer = await obstore.get_async(self._objects, self._key)
            data = bytes(await answer.bytes_async())
        except FileNotFoundError:
            return None
        try:
            facts = json.loads(data)
        except ValueError:
            facts = {}
        return _Found(facts if isinstance(facts, dict) else {}, str(answer.meta["e_tag"]), answer.meta["last_modified"])

    async def _is_dead(self, found: _Found) -> bool:
        """Whether the holder no longer runs, or the claim has expired by the server's clock."""
        if found.facts.get("processes") == process_space() and not _is_alive(found.facts.get("pid")):
            return True
        clock_key = f"{self._key}.clock-{self._facts['token']}"
        await obstore.put_async(self._objects, clock_key, b"")
        try:
            now = (await obstore.head_async(self._objects, clock_key))["last_modified"]
        finally:
            await obstore.delete_async(self._objects, clock_key)
        promised = found.facts.get("lease_seconds")
        lease = float(promised) if isinstance(promised, (int, float)) else LEASE_SECONDS
        return (now - found.written).total_seconds() > lease + 1  # the server's times are whole seconds

    async def _renew_periodically(self) -> None:
        """Renew the claim until the context ends; after a failure, try again sooner."""
        pause = LEASE_SECONDS / RENEWALS
        while not self._lost:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._done.wait(), pause)
                return
            pause = LEASE_SECONDS / RENEWALS
            try:
                with translating_errors(self._url):
                    await self._renew()
            except Exception:  # noqa: BLE001 - check() raises once the claim has expired
                pause = pause / 5

    async def _renew(self) -> None:
        began = _clock()
        tag = await self._replace(self._tag)
        if tag is None:
            found = await self._read()
            if found is None or found.facts.get("token") != self._facts["token"]:
                self._lost = describe_holder(found.facts) if found else "another process"
                return
            tag = found.tag  # that of an earlier attempt, whose answer got lost
        if tag != self._tag:  # otherwise nothing was written, and the claim is no younger than before
            self._tag, self._renewed = tag, began


def _clock() -> float:
    """Seconds on a clock that continues while the machine sleeps, as the server's clock does."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _is_alive(pid: object) -> bool:
    return isinstance(pid, int) and Path(f"/proc/{pid}").exists()
