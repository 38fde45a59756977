"""A store in an S3 bucket.

Zarr has two ways to access S3. This module uses ``ObjectStore`` (obstore): it supports conditional writes
(``If-None-Match``, and ``If-Match`` by ETag), on which the claim on a run is based; its retries and timeouts can be
bounded; and it is one compiled package. ``FsspecStore`` (s3fs) brings a dozen packages and its own event loop, and has
no conditional update by ETag.

A put is atomic, and it is durable once the server has answered. So, as in a folder, the order of writes is enough to
keep a store consistent.
"""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlparse

import obstore
from obstore.exceptions import AlreadyExistsError
from obstore.store import S3Store
from zarr.storage import MemoryStore, ObjectStore

from hesstore.errors import StoreError
from hesstore.store.places.claims import parse_holder
from hesstore.store.places.lease import Lease
from hesstore.store.places.place import Place
from hesstore.store.places.s3_errors import endpoint, repeat, repeat_async, translating_errors, url_of

if TYPE_CHECKING:
    import builtins
    import datetime as dt
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
    from contextlib import AbstractContextManager

    from obstore.store import BackoffConfig, ClientConfig, RetryConfig
    from zarr.abc.store import ByteRequest, Store
    from zarr.core.buffer import Buffer, BufferPrototype

    from hesstore.store.places.claims import Holder

T = TypeVar("T")

ROOT = "zarr.json"
UNFINISHED = ".hesstore-unfinished"
"""An object that exists while a template is written: the objects next to it are ours, and not a store yet."""
_TEMPLATE_CLAIM = ".claim-template.json"
_OF_A_TEMPLATE = re.compile(r"([A-Za-z]\w*)/(zarr\.json|c/0)")

ONE_PUT = 32 << 20
"""Size in bytes up to which an object is sent in one request.

Larger ones are sent in parts of half that size, and appear atomically too.
"""


# A wrong address or key must be reported quickly. Later, when the server has answered before, requests are repeated for
# a minute (see s3_errors.repeat), so that a sweep of several days survives a short fault; the time for one request is
# well below that, so that one without an answer is repeated too.
_BRIEF: ClientConfig = {"connect_timeout": timedelta(seconds=3), "timeout": timedelta(seconds=10)}
_PATIENT: ClientConfig = {"connect_timeout": timedelta(seconds=5), "timeout": timedelta(seconds=20)}
_BACKOFF: BackoffConfig = {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=10), "base": 2}
_FEW_RETRIES: RetryConfig = {"max_retries": 2, "retry_timeout": timedelta(seconds=5), "backoff": _BACKOFF}
_MANY_RETRIES: RetryConfig = {"max_retries": 2, "retry_timeout": timedelta(seconds=20), "backoff": _BACKOFF}


class S3Place(Place):
    """A store whose objects are under ``s3://BUCKET/NAME/``.

    The server and the credentials come from the usual AWS environment variables.
    """

    def __init__(self, url: str) -> None:
        bucket, _, name = url.removeprefix("s3://").partition("/")
        name = name.rstrip("/")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]+", bucket) or not name:
            raise StoreError(f"{url}: does not name a bucket and a store in it: give s3://BUCKET/NAME")
        if any(part in {"", ".", ".."} for part in name.split("/")):
            raise StoreError(f"{url}: has an empty part, . or .. in its name: give another name")
        self.url = f"s3://{bucket}/{name}"
        server = endpoint()
        if server is not None and not _is_http(server):
            raise StoreError(f"{url}: AWS_ENDPOINT_URL={server!r} is not an http:// or https:// URL")
        with translating_errors(self.url):
            self._objects = _connect(bucket, name, server, _PATIENT, _MANY_RETRIES)
            self._brief = _connect(bucket, name, server, _BRIEF, _FEW_RETRIES)
        self._claims: dict[int, Lease] = {}
        self._has_answered = False

    @property
    def location(self) -> str:
        """The URL."""
        return self.url

    @property
    def address(self) -> str:
        """The URL."""
        return self.url

    def is_new(self) -> bool:
        """Whether the root ``zarr.json``, which is written last, does not exist."""
        return self._root() is None

    def check_exists(self) -> None:
        """Raise :class:`StoreError` unless the root ``zarr.json`` exists."""
        if self._root() is None:
            raise StoreError(f"{self}: no such store: make one with `hesstore sweep {self}`")

    def check_creatable(self) -> None:
        """Raise :class:`StoreError` if there are objects other than those of an unfinished template.

        A process that was killed while it made the store leaves such a template.
        """
        keys = [key for key, _ in self._listing()]
        is_ours = UNFINISHED in keys
        for key in keys:
            is_housekeeping = key == UNFINISHED or key.startswith(_TEMPLATE_CLAIM)
            if not is_housekeeping and not (is_ours and _OF_A_TEMPLATE.fullmatch(key)):
                raise StoreError(f"{self}: contains other objects, such as {key}, but no store: give another name")

    def check_writable(self) -> None:
        """Do nothing: only a write would show it, and the claim on a run is the first write."""

    def create(self, write: Callable[[Store], None]) -> None:
        """Write the template, with the root ``zarr.json`` last.

        Until then this is not a store, and the same command, run again, completes it.
        """
        template: dict[str, Buffer] = {}
        write(MemoryStore(template))
        root = template.pop(ROOT).to_bytes()
        with Lease(self._brief, _TEMPLATE_CLAIM, f"{self}: is being made"), translating_errors(self.url):
            self.check_creatable()
            self.put(UNFINISHED, b"")
            for key, value in template.items():
                self.put(key, value.to_bytes())
            try:
                repeat(lambda: obstore.put(self._objects, ROOT, root, mode="create"), self.url)
            except AlreadyExistsError:
                if self._root() != root:  # equal if the answer to a first attempt got lost
                    raise StoreError(
                        f"{self}: another process made it in the meantime: run the same command again"
                    ) from None
            self.delete(UNFINISHED)

    def zarr_store(self, *, read_only: bool) -> Store:
        """Zarr's object store, with errors that say what to do."""
        return S3ZarrStore(self._objects, read_only=read_only)

    def claim(self, run_id: int, workers: int = 1) -> AbstractContextManager[object]:
        """Hold a run by an object that is renewed; see :class:`hesstore.store.places.lease.Lease`."""
        lease = Lease(self._brief, f"status/.claim-{run_id}.json", f"{self}: run {run_id} is being computed", workers)
        self._claims[run_id] = lease
        return lease

    def check_claim(self, run_id: int) -> None:
        """Raise :class:`StoreBusyError` if the claim could not be renewed in time."""
        if run_id in self._claims:
            self._claims[run_id].check()

    def holder(self, run_id: int) -> Holder | None:
        """The process that the claim names."""
        try:
            facts = json.loads(self.fetch(f"status/.claim-{run_id}.json"))
            return parse_holder(facts)
        except (FileNotFoundError, ValueError, AttributeError):
            return None

    def last_modified(self, key: str) -> dt.datetime | None:
        """The time at which the object was written, by the server's clock; None if it does not exist."""
        try:
            return self._ask(lambda: obstore.head(self._brief, key)["last_modified"])
        except FileNotFoundError:
            return None

    def names(self) -> list[str]:
        """The names of all objects, relative to the store."""
        return [key for key, _ in self._listing()]

    def fetch(self, key: str) -> bytes:
        """The contents of an object."""
        return self._ask(lambda: bytes(obstore.get(self._objects, key).bytes()))

    def put(self, key: str, data: bytes) -> None:
        """Write an object."""
        self._ask(lambda: obstore.put(self._objects, key, data))

    def delete(self, key: str) -> None:
        """Delete an object."""
        self._ask(lambda: obstore.delete(self._objects, key))

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Those of ``keys`` whose object does not exist or is empty."""
        sizes = dict(self._listing())
        return [key for key in keys if not sizes.get(key)]

    def remove(self) -> None:
        """Delete all objects, the root ``zarr.json`` last: until then this is a store, which can be removed again."""
        keys = [key for key in self.names() if key != ROOT]
        with translating_errors(self.url):
            obstore.delete(self._objects, keys)
            obstore.delete(self._objects, ROOT)

    def size(self) -> int:
        """Total size of all objects, in bytes."""
        return sum(size for _, size in self._listing())

    def _root(self) -> bytes | None:
        """The root ``zarr.json``; None if it does not exist."""
        try:
            return self._ask(lambda: bytes(obstore.get(self._brief, ROOT).bytes()))
        except FileNotFoundError:
            return None

    def _listing(self) -> list[tuple[str, int]]:
        """The key and the size in bytes of each object, in the order of the keys."""
        return self._ask(
            lambda: [(each["path"], each["size"]) for batch in obstore.list(self._brief) for each in batch]
        )

    def _ask(self, request: Callable[[], T]) -> T:
        """Make an idempotent request; repeat it if it fails, but not the first one, which shows a wrong address."""
        if self._has_answered:
            return repeat(request, self.url)
        try:
            with translating_errors(self.url):
                answer = request()
        except FileNotFoundError:
            self._has_answered = True
            raise
        self._has_answered = True
        return answer


class S3ZarrStore(ObjectStore[S3Store]):
    """Zarr's object store, with errors that say what to do, and with writes in one request where possible."""

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """The contents of an object, or a range of them; None if it does not exist."""
        return await self._ask(lambda: super(S3ZarrStore, self).get(key, prototype, byte_range))

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> builtins.list[Buffer | None]:
        """Ranges of the contents of objects."""
        ranges = list(key_ranges)
        return await self._ask(lambda: super(S3ZarrStore, self).get_partial_values(prototype, ranges))

    async def exists(self, key: str) -> bool:
        """Whether an object exists."""
        return await self._ask(lambda: super(S3ZarrStore, self).exists(key))

    async def set(self, key: str, value: Buffer) -> None:
        """Write ``value`` under ``key``; the server has confirmed it on return."""
        self._check_writable()
        data = value.to_bytes()
        # By default the limit is 5 MB, and parts whose process was killed stay in the bucket, invisible but paid for.
        is_large = len(data) > ONE_PUT
        await self._ask(
            lambda: obstore.put_async(
                self.store, key, data, use_multipart=is_large, chunk_size=ONE_PUT // 2, max_concurrency=4
            )
        )

    async def delete(self, key: str) -> None:
        """Delete an object; nothing happens if it does not exist."""
        await self._ask(lambda: super(S3ZarrStore, self).delete(key))

    async def delete_dir(self, prefix: str) -> None:
        """Delete all objects whose names begin with ``prefix`` and a slash."""
        await self._ask(lambda: super(S3ZarrStore, self).delete_dir(prefix))

    async def getsize(self, key: str) -> int:
        """The size of an object in bytes."""
        return await self._ask(lambda: super(S3ZarrStore, self).getsize(key))

    async def list_dir(self, prefix: str) -> AsyncGenerator[str, None]:
        """The names directly below ``prefix``."""

        async def listing() -> builtins.list[str]:
            return [each async for each in super(S3ZarrStore, self).list_dir(prefix)]

        for each in await self._ask(listing):
            yield each

    async def _list(self, prefix: str | None = None) -> AsyncGenerator[Any, None]:
        async def listing() -> builtins.list[Any]:
            return [each async for each in super(S3ZarrStore, self)._list(prefix)]

        for each in await self._ask(listing):
            yield each

    async def _ask(self, request: Callable[[], Awaitable[T]]) -> T:
        return await repeat_async(request, url_of(self.store))


def _connect(bucket: str, name: str, server: str | None, client: ClientConfig, retries: RetryConfig) -> S3Store:
    if server is None:
        return S3Store(bucket, prefix=name, client_options=client, retry_config=retries)
    # The library refuses http:// unless it is allowed explicitly; a user who writes http:// means it.
    options: ClientConfig = {**client, "allow_http": server.startswith("http://")}
    return S3Store(bucket, prefix=name, endpoint=server, client_options=options, retry_config=retries)


def _is_http(url: str) -> bool:
    parts = urlparse(url)
    return parts.scheme in {"http", "https"} and bool(re.fullmatch(r"[A-Za-z0-9._:\[\]-]+", parts.netloc))
