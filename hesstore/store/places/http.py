"""A store that a web server hands out as plain files; it can only be read.

Web servers do not list folders in a common way, so nothing here needs a listing: the metadata of all arrays are in the
root ``zarr.json``, and a chunk that does not exist is an answer 404.
"""

from __future__ import annotations

import contextlib
import json
from datetime import timedelta
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

import obstore
from obstore import exceptions
from obstore.store import HTTPStore
from zarr.storage import ObjectStore

from hesstore.errors import StoreError, StoreUnreachableError
from hesstore.store.places.claims import parse_holder
from hesstore.store.places.place import ReadOnlyPlace

if TYPE_CHECKING:
    import builtins
    import datetime as dt
    from collections.abc import Iterable, Iterator

    from obstore.store import ClientConfig, RetryConfig
    from zarr.abc.store import ByteRequest, Store
    from zarr.core.buffer import Buffer, BufferPrototype

    from hesstore.store.places.claims import Holder

_RETRIES: RetryConfig = {"max_retries": 2, "retry_timeout": timedelta(seconds=10)}


class HttpPlace(ReadOnlyPlace):
    """A store below an ``http://`` or ``https://`` URL."""

    can_list = False

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if not parts.hostname or not parts.path.strip("/") or parts.query or parts.fragment:
            raise StoreError(f"{url}: does not name a store: give http(s)://SERVER/PATH, without ? and #")
        self.url = url.rstrip("/")
        client: ClientConfig = {
            "allow_http": parts.scheme == "http",
            "connect_timeout": timedelta(seconds=5),
            "timeout": timedelta(seconds=120),
        }
        with translating_errors(self.url):
            self._files = HTTPStore.from_url(self.url, client_options=client, retry_config=_RETRIES)

    @property
    def location(self) -> str:
        """The URL."""
        return self.url

    @property
    def address(self) -> str:
        """The URL."""
        return self.url

    def is_new(self) -> bool:
        """Return False: no store can be made here."""
        return False

    def check_exists(self) -> None:
        """Raise :class:`StoreError` unless the root ``zarr.json`` exists."""
        if self._metadata("zarr.json") is None:
            raise StoreError(f"{self}: no such store: the server has no {self.url}/zarr.json")

    def check_writable(self) -> NoReturn:
        """Raise :class:`StoreError`: nothing can be written here."""
        raise StoreError(f"{self}: a store on a web server can only be read: give a folder or s3://BUCKET/NAME")

    def readable_store(self) -> Store:
        """Zarr's object store, with errors that say what to do."""
        return HttpZarrStore(self._files, read_only=True)

    def holder(self, run_id: int) -> Holder | None:
        """The process that the file of the claim names, if the server hands it out."""
        with contextlib.suppress(OSError, ValueError, StoreError):
            return parse_holder(json.loads(self.fetch(f"status/.claim-{run_id}.json")))
        return None

    def last_modified(self, key: str) -> dt.datetime | None:
        """The time that the server reports."""
        found = self._metadata(key)
        return None if found is None else found["last_modified"]

    def names(self) -> NoReturn:
        """Raise :class:`StoreError`: web servers do not list files."""
        raise StoreError(f"{self}: a web server does not list the files of a store: download it, and give the folder")

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Those of ``keys`` whose file does not exist or is empty."""
        found = {key: self._metadata(key) for key in keys}
        return [key for key, metadata in found.items() if metadata is None or not metadata["size"]]

    def fetch(self, key: str) -> bytes:
        """The contents of a file."""
        with translating_errors(self.url):
            return bytes(obstore.get(self._files, key).bytes())

    def size(self) -> None:
        """Return None: without a listing, the size is not known."""

    def _metadata(self, key: str) -> obstore.ObjectMeta | None:
        """The size and the time of a file; None if it does not exist."""
        with translating_errors(self.url):
            try:
                return obstore.head(self._files, key)
            except FileNotFoundError:
                return None


class HttpZarrStore(ObjectStore[HTTPStore]):
    """Zarr's object store, with errors that say what to do."""

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """The contents of a file, or a range of them; None if it does not exist."""
        with translating_errors(self.store.url):
            return await super().get(key, prototype, byte_range)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> builtins.list[Buffer | None]:
        """Ranges of the contents of files."""
        with translating_errors(self.store.url):
            return await super().get_partial_values(prototype, key_ranges)

    async def exists(self, key: str) -> bool:
        """Whether a file exists."""
        with translating_errors(self.store.url):
            return await super().exists(key)


@contextlib.contextmanager
def translating_errors(url: str) -> Iterator[None]:
    """Raise errors of the server or the network as :class:`StoreError`, in one line that says what to do."""
    try:
        yield
    except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
        raise StoreError(f"{url}: the server denies access: give the URL of a public store") from error
    except exceptions.BaseError as error:
        message = str(error).partition("\n\nDebug source")[0].rsplit(" - ", 1)[-1]
        raise StoreUnreachableError(
            f"{url}: can't be read ({' '.join(message.split())}): check the URL and the network, then run the same "
            "command again"
        ) from error
