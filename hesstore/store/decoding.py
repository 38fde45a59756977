"""One kind of error for all damaged chunks: the codecs of zarr raise various ones."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from hesstore.errors import CorruptStoreError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def decoding(what: str, remedy: str = "`hesstore verify` lists every damaged file of the store") -> Iterator[None]:
    """Raise :class:`CorruptStoreError` if a chunk that is read in this context cannot be decoded.

    Parameters
    ----------
    what : str
        The name, in the message, of what is read: a store, a variable, a file.
    remedy : str
        The end of the message, which says what to do.
    """
    try:
        yield
    except (ValueError, RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CorruptStoreError(f"{what} is damaged ({reason}): {remedy}") from error
