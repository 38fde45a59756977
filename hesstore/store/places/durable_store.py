"""A local Zarr store whose writes are atomic and on disk before the next one starts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from zarr.storage import LocalStore

from hesstore.durable_files import write_file

if TYPE_CHECKING:
    from zarr.core.buffer import Buffer


class DurableLocalStore(LocalStore):
    """Zarr's local store, with writes that are flushed to disk before they return.

    The writes of Zarr's own store are atomic, but a power loss can leave the renamed file empty, and an empty chunk
    reads as NaN without an error.
    """

    async def set(self, key: str, value: Buffer) -> None:
        """Write ``value`` under ``key``; it is on disk on return."""
        if not self._is_open:
            await self._open()
        self._check_writable()
        await asyncio.to_thread(self._put, key, value)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Write ``value`` under ``key`` unless the key exists; there is only one writer."""
        if not await self.exists(key):
            await self.set(key, value)

    def set_sync(self, key: str, value: Buffer) -> None:
        """Write ``value`` under ``key``; it is on disk on return."""
        self._ensure_open_sync()
        self._check_writable()
        self._put(key, value)

    def _put(self, key: str, value: Buffer) -> None:
        # If the store's folder was deleted meanwhile, a write must not create a fragment of a store.
        write_file(self.root / key, value.to_bytes(), within=self.root)
