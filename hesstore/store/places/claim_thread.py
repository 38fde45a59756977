"""The one thread of a process in which all of its claims on servers are acquired, renewed and given back."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")

NAME = "hesstore-claims"


class ClaimThread:
    """An event loop in a thread, which exists while it has users."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._loop: asyncio.AbstractEventLoop
        self._thread: threading.Thread

    def join(self) -> None:
        """Become a user; the first one starts the thread."""
        with self._lock:
            self._users += 1
            if self._users == 1:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name=NAME, daemon=True)
                self._thread.start()

    def leave(self) -> None:
        """Cease to be a user; the last one ends the thread."""
        with self._lock:
            self._users -= 1
            if not self._users:
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._thread.join()
                self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Carry out ``work`` in the thread, for a user; return its result."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:  # such as KeyboardInterrupt, which reaches the main thread
            future.cancel()
            raise
