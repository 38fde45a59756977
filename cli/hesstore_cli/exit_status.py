"""The exit statuses of all commands, and their meanings."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Self

from hesstore.errors import (
    ConfigMismatchError,
    CorruptStoreError,
    StoreBusyError,
    StoreUnreachableError,
    WorkersError,
)

if TYPE_CHECKING:
    from hesstore.errors import HesstoreError


class ExitStatus(IntEnum):
    """How a command ended.

    Attributes
    ----------
    meaning : str
        A short description for the help pages.
    """

    meaning: str

    def __new__(cls, value: int, meaning: str) -> Self:
        """Create a status with its meaning."""
        status = int.__new__(cls, value)
        status._value_ = value
        status.meaning = meaning
        return status

    DONE = 0, "success"
    FAILED = 1, "failure (disk full, …); diff: the results differ"
    USAGE = 2, "invalid input; nothing was written"
    OTHER_CONFIG = 3, "the store has another config"
    SOME_FAILED = 4, "finished, but some grid points failed"
    DAMAGED = 5, "the store is damaged"
    OUT_OF_TIME = 75, "stopped by --time-limit"
    INTERRUPTED = 130, "stopped by a signal"

    @classmethod
    def of(cls, error: HesstoreError) -> ExitStatus:
        """Return the status of a command that ``error`` ended: :attr:`USAGE`, unless its class has another one."""
        return next((_OF_ERRORS[each] for each in type(error).mro() if each in _OF_ERRORS), cls.USAGE)


_OF_ERRORS: dict[type, ExitStatus] = {
    ConfigMismatchError: ExitStatus.OTHER_CONFIG,
    CorruptStoreError: ExitStatus.DAMAGED,
    StoreBusyError: ExitStatus.FAILED,
    StoreUnreachableError: ExitStatus.FAILED,
    WorkersError: ExitStatus.FAILED,
}

EPILOG = "\b\nExit status:\n" + "\n".join(f"  {status.value:<3}  {status.meaning}" for status in ExitStatus)
"""The list of all exit statuses, at the end of the help of ``hesstore``."""
