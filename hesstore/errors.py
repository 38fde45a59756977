"""Every error that hesstore raises on purpose.

::

    HesstoreError
    ├── ConfigError            a setting that is unknown, malformed or out of range
    ├── DataError              a data set that is missing, damaged or malformed
    ├── ModelError             a model that has no well-defined Hessian here
    ├── DeviceError            a device that is not there
    ├── DivergedError          training left the finite numbers
    ├── StoreError             a path that is not a usable store
    │   ├── ConfigMismatchError   the store belongs to another config
    │   ├── CorruptStoreError     what is stored is missing or damaged
    │   ├── StoreBusyError        another live process drives this run
    │   └── StoreUnreachableError   the server that has the store does not answer
    ├── AnalysisError          a question to a store that it has no answer to
    ├── ExportError            an export that would overwrite, or finds nothing to write
    └── ImportFilesError       a file that is to be imported is not what it should be

    HesstoreWarning
    ├── DataWarning            a data set of which less can be learnt than it seems
    └── ModelWarning           a model whose Hessian says less than it seems to

Library code raises; only the command line turns an error into a message and an exit status.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class HesstoreError(Exception):
    """Base of all errors that name a value, a limit and what to do next."""


class ConfigError(HesstoreError):
    """A setting is unknown, malformed or out of range."""


class DataError(HesstoreError):
    """A data set is missing, damaged or malformed."""


class ModelError(HesstoreError):
    """A model can't be built, or E(θ) would not be a function of θ alone."""


class DeviceError(HesstoreError):
    """The device asked for is not there."""


class DivergedError(HesstoreError):
    """Training produced a loss that is not a finite number."""


class StoreError(HesstoreError):
    """A path is not a store, can't be written, or comes from a newer schema."""


class ConfigMismatchError(StoreError):
    """The store was made with another config.

    Attributes
    ----------
    differences : mapping of str to (str, str)
        For each differing key, the value in the store and the value asked for.
    """

    def __init__(self, message: str, differences: Mapping[str, tuple[str, str]]) -> None:
        super().__init__(message)
        self.differences = dict(differences)


class CorruptStoreError(StoreError):
    """Something that the store says is there is missing or damaged."""


class StoreBusyError(StoreError):
    """Another live process drives this run of the store."""


class StoreUnreachableError(StoreError):
    """The server that has the store can't be reached, or fails."""


class ExportError(HesstoreError):
    """An export would overwrite files, or there is nothing to export."""


class ImportFilesError(HesstoreError):
    """A file that is to be imported is damaged, malformed, or does not fit the others."""


class AnalysisError(HesstoreError):
    """A store lacks what an analysis or a picture asks for, or the question is malformed."""


class HesstoreWarning(UserWarning):
    """Base of all warnings that hesstore gives on purpose."""


class DataWarning(HesstoreWarning):
    """A data set can be used, but says less than it seems to."""


class ModelWarning(HesstoreWarning):
    """A model can be used, but its Hessian says less than it seems to."""


def first_line(error: BaseException | str, most: int = 300) -> str:
    """The first line of what an error says, at most ``most`` characters: PyTorch's messages may be a page long."""
    said = str(error).strip() or type(error).__name__
    text = said.splitlines()[0].rstrip(".:")
    return text if len(text) <= most else f"{text[: most - 1]}…"
