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
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlparse

import obstore
from obstore.exceptions import AlreadyExistsError
from obstore.store import S3Store

from hesstore.errors import CorruptStoreError, HesstoreError, StoreError
from hesstore.store.places.claims import parse_holder
from hesstore.store.places.lease import Lease
from hesstore.store.places.place import Place
from hesstore.store.places.s3_errors import endpoint, repeat, translating_errors
from hesstore.store.places.s3_zarr_store import S3ZarrStore

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from obstore import ObjectMeta
    from obstore.store import BackoffConfig, ClientConfig, RetryConfig
    from zarr.abc.store import Store

    from hesstore.store.places.claims import Holder
    from hesstore.store.places.place import HeldRun

T = TypeVar("T")

ROOT = "zarr.json"
UNFINISHED = ".hesstore-unfinished"
"""An object that exists while a template is written: the objects next to it are ours, and not a store yet."""
_TEMPLATE_CLAIM = ".claim-template.json"
NEXT = ".next"
"""The folder for a store that is to replace the one around it."""
MOVED = json.dumps({"zarr_format": 3, "node_type": "moved", "to": NEXT}).encode()
"""The root ``zarr.json`` of a store that is being replaced: Zarr finds no group, and hesstore reads the new store."""
_REPLACING_CLAIM = "status/.claim-replacing.json"
_REQUESTS_AT_ONCE = 8

_OF_A_TEMPLATE = re.compile(r"([A-Za-z]\w*)/(zarr\.json|c/0)")

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
        self._is_moved = False

    @property
    def location(self) -> str:
        """The URL."""
        return self.url

    @property
    def address(self) -> str:
        """The URL."""
        return self.url

    @cached_property
    def _next(self) -> S3Place:
        """The place of a store that is to replace this one."""
        following = S3Place(f"{self.url}/{NEXT}")
        following._has_answered = True  # the server has, or will have when this place is used
        return following

    @property
    def _current(self) -> S3Place:
        """The place with the objects that readers see: those of the new store while it replaces the old one."""
        return self._next if self._is_moved else self

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
        keys = self.names()
        is_ours = UNFINISHED in keys
        for key in keys:
            is_housekeeping = key == UNFINISHED or key.startswith(_TEMPLATE_CLAIM)
            if not is_housekeeping and not (is_ours and _OF_A_TEMPLATE.fullmatch(key)):
                raise StoreError(f"{self}: contains other objects, such as {key}, but no store: give another name")

    def check_writable(self) -> None:
        """Do nothing: only a write would show it, and the claim on a run is the first write."""

    def create(self, template: Mapping[str, bytes]) -> None:
        """Write the objects, with the root ``zarr.json`` last.

        Until then this is not a store, and the same command, run again, completes it.
        """
        root = template[ROOT]
        with Lease(self._brief, _TEMPLATE_CLAIM, f"{self}: is being made"), translating_errors(self.url):
            self.check_creatable()
            self.put(UNFINISHED, b"")
            self.fill({key: contents for key, contents in template.items() if key != ROOT})
            try:
                repeat(lambda: obstore.put(self._objects, ROOT, root, mode="create"), self.url)
            except AlreadyExistsError:
                if self._root() != root:  # equal if the answer to a first attempt got lost
                    raise StoreError(
                        f"{self}: another process made it in the meantime: run the same command again"
                    ) from None
            self.delete(UNFINISHED)

    @contextmanager
    def replacing(self) -> Iterator[Place]:
        """Make the new store under :data:`NEXT`, replace the root ``zarr.json`` here, and move all objects here.

        The root makes the difference: before it is replaced, the old store is here; after it, readers find the new one
        under :data:`NEXT`, and any process that opens the store for writing continues to move it.
        """
        with Lease(self._brief, _REPLACING_CLAIM, f"{self}: is being replaced") as lease:
            self._remove_next()
            try:
                yield self._next
                lease.check()
            except BaseException:
                with suppress(HesstoreError):  # the next sweep removes it
                    self._remove_next()
                raise
            self.put(ROOT, MOVED)
            self._move_next(lease)

    def recover(self) -> None:
        """Move the new store here if the root ``zarr.json`` was replaced; otherwise delete what was to become it."""
        if self._root() != MOVED and not self._next.names():
            return
        with Lease(self._brief, _REPLACING_CLAIM, f"{self}: is being replaced") as lease:
            if self._root() == MOVED:
                self._move_next(lease)
            self._remove_next()

    def _move_next(self, lease: Lease) -> None:
        """Move the store under :data:`NEXT` here, the root ``zarr.json`` last."""
        new, old = self._next._tags(), self._tags()  # noqa: SLF001 - the same class
        if ROOT not in new:
            raise CorruptStoreError(
                f"{self}: {NEXT}/{ROOT} is missing, to which its data were moved: restore it from a copy, or give "
                "another name"
            )
        self._delete([key for key in old if key not in new and key != ROOT and not _is_claim(key)])
        self._copy({f"{NEXT}/{key}": key for key, tag in new.items() if key != ROOT and old.get(key) != tag})
        lease.check()
        self.put(ROOT, self._next.fetch(ROOT))
        self._is_moved = False
        self._remove_next()

    def adopt(self, source: Place, files: Mapping[str, str]) -> None:
        """Let the server copy objects of the place around this one."""
        assert isinstance(source, S3Place)  # noqa: S101 - its replacing() made this place
        here = self.url.removeprefix(f"{source.url}/")
        source._copy({there: f"{here}/{key}" for there, key in files.items()})  # noqa: SLF001 - the same class

    def _copy(self, names: Mapping[str, str]) -> None:
        def copy(pair: tuple[str, str]) -> None:
            self._ask(lambda: obstore.copy(self._objects, *pair))

        try:
            with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as pool:
                for _ in pool.map(copy, names.items()):
                    pass
        except FileNotFoundError:
            raise StoreError(f"{self}: was changed by another process meanwhile: run the same command again") from None

    def _delete(self, keys: list[str]) -> None:
        if keys:
            self._ask(lambda: obstore.delete(self._objects, keys))

    def _remove_next(self) -> None:
        self._delete([f"{NEXT}/{key}" for key in self._next.names()])

    def _tags(self) -> dict[str, str]:
        """The ETag of each object, by its name."""
        return {str(each["path"]): str(each["e_tag"]) for each in self._listing()}

    def zarr_store(self, *, read_only: bool) -> Store:
        """Zarr's object store, with errors that say what to do."""
        if self._is_moved and not read_only:
            self.recover()
        return S3ZarrStore(self._current._objects, read_only=read_only)  # noqa: SLF001 - the same class

    def claim(self, run_id: int, workers: int = 1) -> AbstractContextManager[HeldRun]:
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
            facts = json.loads(self._fetch(f"status/.claim-{run_id}.json"))
            return parse_holder(facts)
        except (FileNotFoundError, ValueError, AttributeError):
            return None

    def last_modified(self, key: str) -> dt.datetime | None:
        """The time at which the object was written, by the server's clock; None if it does not exist."""
        try:
            return self._ask(lambda: obstore.head(self._current._brief, key)["last_modified"])  # noqa: SLF001
        except FileNotFoundError:
            return None

    def names(self) -> list[str]:
        """The names of all objects, relative to the store."""
        return [str(each["path"]) for each in self._current._listing()]  # noqa: SLF001 - the same class

    def fetch(self, key: str) -> bytes:
        """The contents of an object."""
        return self._current._fetch(key)  # noqa: SLF001 - the same class

    def _fetch(self, key: str) -> bytes:
        return self._ask(lambda: bytes(obstore.get(self._objects, key).bytes()))

    def put(self, key: str, data: bytes) -> None:
        """Write an object."""
        self._ask(lambda: obstore.put(self._objects, key, data))

    def fill(self, files: Mapping[str, bytes]) -> None:
        """Write some objects, a few at a time."""
        with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as pool:
            for _ in pool.map(self.put, files.keys(), files.values()):
                pass

    def delete(self, key: str) -> None:
        """Delete an object."""
        self._ask(lambda: obstore.delete(self._objects, key))

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Those of ``keys`` whose object does not exist or is empty."""
        sizes = {each["path"]: each["size"] for each in self._current._listing()}  # noqa: SLF001 - the same class
        return [key for key in keys if not sizes.get(key)]

    def remove(self) -> None:
        """Delete all objects, the root ``zarr.json`` last: until then this is a store, which can be removed again."""
        keys = [key for key in self.names() if key != ROOT]
        with translating_errors(self.url):
            obstore.delete(self._objects, keys)
            obstore.delete(self._objects, ROOT)

    def size(self) -> int:
        """Total size of all objects, in bytes."""
        return sum(each["size"] for each in self._current._listing())  # noqa: SLF001 - the same class

    def _root(self) -> bytes | None:
        """The root ``zarr.json``; None if it does not exist. It shows whether readers find the store elsewhere."""
        try:
            root = self._ask(lambda: bytes(obstore.get(self._brief, ROOT).bytes()))
        except FileNotFoundError:
            return None
        self._is_moved = root == MOVED
        return root

    def _listing(self) -> list[ObjectMeta]:
        """The facts about each object, in the order of the names, without those of a store that is to replace it."""
        listing = self._ask(lambda: [each for batch in obstore.list(self._brief) for each in batch])
        return [each for each in listing if not each["path"].startswith(f"{NEXT}/")]

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


def _connect(bucket: str, name: str, server: str | None, client: ClientConfig, retries: RetryConfig) -> S3Store:
    if server is None:
        return S3Store(bucket, prefix=name, client_options=client, retry_config=retries)
    # The library refuses http:// unless it is allowed explicitly; a user who writes http:// means it.
    options: ClientConfig = {**client, "allow_http": server.startswith("http://")}
    return S3Store(bucket, prefix=name, endpoint=server, client_options=options, retry_config=retries)


def _is_claim(key: str) -> bool:
    return key.rpartition("/")[2].startswith(".claim-")


def _is_http(url: str) -> bool:
    parts = urlparse(url)
    return parts.scheme in {"http", "https"} and bool(re.fullmatch(r"[A-Za-z0-9._:\[\]-]+", parts.netloc))
