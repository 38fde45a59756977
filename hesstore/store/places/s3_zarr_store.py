"""Zarr's store of the objects in a bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import obstore
from obstore.store import S3Store
from zarr.storage import ObjectStore

from hesstore.store.places.s3_errors import repeat_async, url_of

if TYPE_CHECKING:
    import builtins
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable

    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

T = TypeVar("T")

ONE_PUT = 32 << 20
"""Size in bytes up to which an object is sent in one request.

Larger ones are sent in parts of half that size, and appear atomically too.
"""


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
