"""Every exit status of every command, and what each says."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Self

from hesstore.errors import (
    ConfigMismatchError,
    CorruptStoreError,
    StoreBusyError,
    StoreUnreachableError,
)

if TYPE_CHECKING:
    from hesstore.errors import HesstoreError


class ExitStatus(IntEnum):
    """How a command ended.

    Attributes
    ----------
    meaning : str
        In a few words, for the help pages.
    """

    meaning: str

    def __new__(cls, value: int, meaning: str) -> Self:
        """A status with its meaning."""
        status = int.__new__(cls, value)
        status._value_ = value
        status.meaning = meaning
        return status

    DONE = 0, "done"
    FAILED = 1, "failed (disk full, …); diff: results differ"
    USAGE = 2, "bad input, nothing written"
    OTHER_CONFIG = 3, "the store has another config"
    SOME_FAILED = 4, "done, but some λ failed"
    DAMAGED = 5, "the store is damaged"
    OUT_OF_TIME = 75, "stopped by --time-limit"
    INTERRUPTED = 130, "stopped by a signal"

    @classmethod
    def of(cls, error: HesstoreError) -> ExitStatus:
        """The status of a command that ``error`` ended: that of the nearest class named here, or :attr:`USAGE`."""
        return next((_OF_ERRORS[each] for each in type(error).mro() if each in _OF_ERRORS), cls.USAGE)


_OF_ERRORS: dict[type, ExitStatus] = {
    ConfigMismatchError: ExitStatus.OTHER_CONFIG,
    CorruptStoreError: ExitStatus.DAMAGED,
    StoreBusyError: ExitStatus.FAILED,
    StoreUnreachableError: ExitStatus.FAILED,
}

EPILOG = "\b\nExit status:\n" + "\n".join(f"  {status.value:<3}  {status.meaning}" for status in ExitStatus)
"""The list of them, as the help of ``hesstore`` ends."""
