"""Damaged chunks become one kind of error: zarr's codecs raise whatever they stumble over."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from hesstore.errors import CorruptStoreError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def decoding(what: str) -> Iterator[None]:
    """Raise :class:`CorruptStoreError` if a chunk that is read in this context cannot be decoded.

    Parameters
    ----------
    what : str
        What is read, as the message names it: a store, a variable, a file.
    """
    try:
        yield
    except (ValueError, RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CorruptStoreError(
            f"{what} is damaged ({reason}): `hesstore verify` lists every damaged file of the store"
        ) from error
