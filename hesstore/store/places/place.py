"""The interface that a store needs of the place where it lies: a folder, a zip file, a bucket or a web server.

All code above this package reads and writes a store through a :class:`Place`, so it works for each of them alike.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NoReturn, Protocol

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from zarr.abc.store import Store

    from hesstore.store.places.claims import Holder


class HeldRun(Protocol):
    """A claim on a run, while it is held."""

    def leave(self) -> None:
        """Leave the claim behind when its context ends, as a process that is killed does."""


class Place(ABC):
    """The place where a store is, or will be made; ``str(place)`` is how messages name it."""

    can_list: bool = True
    """Whether the files or objects can be listed."""

    has_claims: bool = True
    """Whether the drivers of runs leave claims here."""

    @property
    @abstractmethod
    def location(self) -> Path | str:
        """The path or URL that :func:`hesstore.store.places.location.locate` turns into this place again."""

    @property
    @abstractmethod
    def address(self) -> str:
        """The location as text that is valid in any working folder."""

    def __str__(self) -> str:
        return str(self.location)

    @abstractmethod
    def is_new(self) -> bool:
        """Whether a new store can be made here without regard to one that exists."""

    @abstractmethod
    def check_exists(self) -> None:
        """Raise :class:`StoreError` if nothing here could be a store."""

    @abstractmethod
    def check_creatable(self) -> None:
        """Raise :class:`StoreError` unless a store can be made here."""

    @abstractmethod
    def check_writable(self) -> None:
        """Raise :class:`StoreError` if it is known, without writing, that the store can't be written."""

    @abstractmethod
    def create(self, template: Mapping[str, bytes]) -> None:
        """Make a store that appears whole or not at all.

        Parameters
        ----------
        template : mapping of str to bytes
            The contents of all of its files or objects.
        """

    @abstractmethod
    def replacing(self) -> AbstractContextManager[Place]:
        """Return a context with an empty place, whose contents replace the store here when the context ends.

        A process that is killed leaves the old store or the new one, or what :meth:`recover` turns into one of them.
        """

    @abstractmethod
    def adopt(self, source: Place, files: Mapping[str, str]) -> None:
        """Take over files or objects without sending their contents.

        Parameters
        ----------
        source : Place
            The place that :meth:`replacing` gave this one for.
        files : mapping of str to str
            The name here of each file, by its name there.
        """

    def recover(self) -> None:  # noqa: B027 - most places have nothing to do
        """Finish what a process left that was killed in :meth:`replacing`, or clear it away."""

    @abstractmethod
    def zarr_store(self, *, read_only: bool) -> Store:
        """The Zarr store here.

        Each write to it is atomic, and on disk (or confirmed by the server) when it returns.
        """

    @abstractmethod
    def claim(self, run_id: int, workers: int = 1) -> AbstractContextManager[HeldRun]:
        """Hold run ``run_id`` against other drivers while the context lasts; ``workers`` processes compute for it.

        Raises
        ------
        StoreBusyError
            If a live process holds the run; the message names the process.
        """

    @abstractmethod
    def check_claim(self, run_id: int) -> None:
        """Raise :class:`StoreBusyError` if this process held the run and has lost it."""

    @abstractmethod
    def names(self) -> list[str]:
        """The names of all files or objects, relative to the store's own folder."""

    @abstractmethod
    def fetch(self, key: str) -> bytes:
        """The contents of one file or object."""

    @abstractmethod
    def put(self, key: str, data: bytes) -> None:
        """Write one file or object, atomically."""

    def fill(self, files: Mapping[str, bytes]) -> None:
        """Write some files or objects, given by key, each as :meth:`put` does."""
        for key, contents in files.items():
            self.put(key, contents)

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove one file or object."""

    @abstractmethod
    def remove(self) -> None:
        """Delete the whole store.

        If the process is killed meanwhile, either nothing is left or a store, whole or damaged.
        """

    @abstractmethod
    def missing(self, keys: Iterable[str]) -> list[str]:
        """Those of ``keys`` whose file or object does not exist or is empty."""

    @abstractmethod
    def size(self) -> int | None:
        """Total size of all files or objects, in bytes; None if it is not known."""

    def sync(self, key: str) -> None:  # noqa: B027 - most places have nothing to do
        """Make sure that the removal of files in the folder ``key`` survives a power loss."""

    def holder(self, run_id: int) -> Holder | None:  # noqa: ARG002
        """The process that holds a run, or that held it until it was killed; None if no process does.

        This does not affect the claim.
        """
        return None

    def last_modified(self, key: str) -> dt.datetime | None:  # noqa: ARG002
        """The time at which a file or object was last written; None if it does not exist or the time is unknown."""
        return None

    def revision(self) -> object:
        """A value that changes when the metadata are written, and when the store is moved, even if it comes back."""
        return self.last_modified("zarr.json")

    def free_space(self) -> int | None:
        """Free space in bytes; None if the place has no limit."""
        return None

    def check_space(self, needed: int) -> None:  # noqa: B027 - a bucket has no limit
        """Raise :class:`StoreError` if fewer than ``needed`` bytes are free."""


class ReadOnlyPlace(Place):
    """A place where nothing can be written: whatever would do so raises what :meth:`check_writable` raises."""

    has_claims = False

    @abstractmethod
    def check_writable(self) -> NoReturn:
        """Raise :class:`StoreError`: nothing can be written here."""

    def check_creatable(self) -> None:
        """Raise :class:`StoreError`."""
        self.check_writable()

    def create(self, template: Mapping[str, bytes]) -> NoReturn:  # noqa: ARG002
        """Raise :class:`StoreError`."""
        self.check_writable()

    def replacing(self) -> NoReturn:
        """Raise :class:`StoreError`."""
        self.check_writable()

    def adopt(self, source: Place, files: Mapping[str, str]) -> NoReturn:  # noqa: ARG002
        """Raise :class:`StoreError`."""
        self.check_writable()

    def zarr_store(self, *, read_only: bool) -> Store:
        """The Zarr store here.

        Raises
        ------
        StoreError
            If ``read_only`` is False.
        """
        if not read_only:
            self.check_writable()
        return self.readable_store()

    @abstractmethod
    def readable_store(self) -> Store:
        """The Zarr store here, for reading."""

    def claim(self, run_id: int, workers: int = 1) -> NoReturn:  # noqa: ARG002
        """Raise :class:`StoreError`."""
        self.check_writable()

    def check_claim(self, run_id: int) -> None:
        """Do nothing: this process cannot hold a run here."""

    def put(self, key: str, data: bytes) -> NoReturn:  # noqa: ARG002
        """Raise :class:`StoreError`."""
        self.check_writable()

    def delete(self, key: str) -> NoReturn:  # noqa: ARG002
        """Raise :class:`StoreError`."""
        self.check_writable()

    def remove(self) -> NoReturn:
        """Raise :class:`StoreError`."""
        self.check_writable()


class LocalPlace(Place):
    """A store at a local path: the common part of folders and zip files.

    Parameters
    ----------
    path : Path
        The folder or file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def location(self) -> Path:
        """The path, as it was given."""
        return self.path

    @property
    def address(self) -> str:
        """The absolute path."""
        return str(self.path.absolute())
