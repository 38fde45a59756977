"""All errors and warnings that hesstore raises on purpose.

::

    HesstoreError
    ├── ConfigError               a setting is unknown, malformed or out of range
    ├── DataError                 a data set is missing, damaged or malformed
    ├── ModelError                a model can't be built, or its Hessian is not well defined
    ├── DeviceError               the device does not exist, or can't do the work
    │   └── WorkersError              the scheduler does not answer, or a worker can't do the work
    ├── DivergedError             the training loss is not a finite number
    ├── StoreError                a path is not a usable store
    │   ├── ConfigMismatchError      the store belongs to another config
    │   ├── CorruptStoreError        stored data are missing or damaged
    │   ├── StoreBusyError           another live process holds the run
    │   └── StoreUnreachableError    the server does not answer, or fails
    ├── AnalysisError             the store lacks the results for an analysis, or a request is malformed
    ├── ExportError               an export would overwrite files, or finds nothing to write
    ├── ImportFilesError          a file to import is damaged or malformed, or contradicts other files
    └── CallbackError             a function that was passed in raises an exception or ends the program

    HesstoreWarning
    ├── DataWarning               the results of a data set are limited
    ├── DeviceWarning             a device is used with less memory or speed, or has not been tried
    └── ModelWarning              the Hessian of a model is of limited use

Library code raises errors; only the command line turns them into a message and an exit status.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class HesstoreError(Exception):
    """Base class of all errors. A message names the value, the limit and what to do next."""


class ConfigError(HesstoreError):
    """A setting is unknown, malformed or out of range."""


class DataError(HesstoreError):
    """A data set is missing, damaged or malformed."""


class ModelError(HesstoreError):
    """A model can't be built, or its loss E(θ) is not a function of θ alone."""


class DeviceError(HesstoreError):
    """The requested device does not exist, has too little memory, or does not compute in the requested precision."""


class WorkersError(DeviceError):
    """The scheduler of the workers no longer answers, or a worker has another hesstore."""


class DivergedError(HesstoreError):
    """The training loss is not a finite number."""


class StoreError(HesstoreError):
    """A path is not a store, or the store can't be written or has a newer schema."""


class ConfigMismatchError(StoreError):
    """The store was made with another config.

    Attributes
    ----------
    differences : mapping of str to (str, str)
        For each key that differs, the value in the store and the requested value.
    """

    def __init__(self, message: str, differences: Mapping[str, tuple[str, str]]) -> None:
        super().__init__(message)
        self.differences = dict(differences)


class CorruptStoreError(StoreError):
    """Data that a store should contain are missing or damaged."""


class StoreBusyError(StoreError):
    """Another live process holds the run of the store."""


class StoreUnreachableError(StoreError):
    """The server of the store can't be reached, or fails."""


class ExportError(HesstoreError):
    """An export would overwrite files, or finds nothing to export."""


class ImportFilesError(HesstoreError):
    """A file to import is damaged or malformed, or it contradicts other files."""


class CallbackError(HesstoreError):
    """A function that was passed to hesstore, such as an observer, raises an exception or ends the program."""


class AnalysisError(HesstoreError):
    """A store lacks the results for an analysis or a figure, or the request is malformed."""


class HesstoreWarning(UserWarning):
    """Base class of all warnings."""


class DataWarning(HesstoreWarning):
    """A data set can be used, but some of its results are missing or not meaningful."""


class DeviceWarning(HesstoreWarning):
    """A device computes with smaller sizes or at a lower speed than was planned, or hesstore was not tried on it."""


class ModelWarning(HesstoreWarning):
    """A model can be used, but its Hessian gives less information than it seems to."""


def first_line(error: BaseException | str, most: int = 300) -> str:
    """Return the first line of an error message, cut to at most ``most`` characters.

    Messages of PyTorch can be a page long.
    """
    message = str(error).strip() or type(error).__name__
    text = message.splitlines()[0].rstrip(".:")
    return text if len(text) <= most else f"{text[: most - 1]}…"


def size_text(count: float) -> str:
    """Return bytes as text: ``512 B``, ``31.2 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
