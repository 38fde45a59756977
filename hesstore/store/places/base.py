"""What a store needs of the place where it lies, be it a folder or a bucket."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from zarr.abc.store import Store

    from hesstore.store.places.claims import Holder


class Place(ABC):
    """Where a store is, or will be; as text, what a user calls it by."""

    @property
    @abstractmethod
    def location(self) -> Path | str:
        """What leads back here, in another process too."""

    @property
    @abstractmethod
    def address(self) -> str:
        """The same as text, from any working folder."""

    def __str__(self) -> str:
        return str(self.location)

    @abstractmethod
    def is_new(self) -> bool:
        """Whether nothing is here that a new store would have to respect, or that must be understood first."""

    @abstractmethod
    def check_exists(self) -> None:
        """Raise :class:`StoreError` if nothing is here that could be a store."""

    @abstractmethod
    def check_creatable(self) -> None:
        """Raise :class:`StoreError` unless a store can be made here."""

    @abstractmethod
    def check_writable(self) -> None:
        """Raise :class:`StoreError` if it is known, without writing, that the store here can't be written."""

    @abstractmethod
    def create(self, write: Callable[[Store], None]) -> None:
        """Make the store that ``write`` puts into the Zarr store it is given; it appears whole or not at all."""

    @abstractmethod
    def zarr_store(self, *, read_only: bool) -> Store:
        """The Zarr store; each of its writes is whole, and on disk (or the server's word for it) on return."""

    @abstractmethod
    def claim(self, run_id: int) -> AbstractContextManager[object]:
        """Hold run ``run_id`` against other drivers while the context lasts.

        Raises
        ------
        StoreBusyError
            If a live process holds the run; the message names it.
        """

    @abstractmethod
    def check_claim(self, run_id: int) -> None:
        """Raise :class:`StoreBusyError` if this process held the run and has lost it."""

    @abstractmethod
    def names(self) -> list[str]:
        """The names of all files or objects, from the store's own folder."""

    @abstractmethod
    def fetch(self, key: str) -> bytes:
        """What one of them holds."""

    @abstractmethod
    def put(self, key: str, data: bytes) -> None:
        """Replace or make one, whole."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove one."""

    @abstractmethod
    def size(self) -> int:
        """Bytes of all that lies here."""

    def sync(self, key: str) -> None:  # noqa: B027 - most places have nothing to do
        """Make the removal of what lay under ``key`` last."""

    def holder(self, run_id: int) -> Holder | None:  # noqa: ARG002
        """Who holds a run, or did until a kill; None if nobody. Asking disturbs no one."""
        return None

    def written(self, key: str) -> dt.datetime | None:  # noqa: ARG002
        """When a file or object was last written; None if it is not there, or nobody knows."""
        return None

    def free_space(self) -> int | None:
        """Bytes that have room here; None where that is no question."""
        return None

    def check_space(self, needed: int) -> None:  # noqa: B027 - a bucket takes what it is given
        """Raise :class:`StoreError` if ``needed`` bytes surely have no room here."""
