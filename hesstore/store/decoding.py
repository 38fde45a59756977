"""One kind of error for all damaged chunks: the codecs of zarr raise various ones."""

from __future__ import annotations

from contextlib import contextmanager
from traceback import walk_tb
from typing import TYPE_CHECKING

from zarr.storage import StorePath

from hesstore.errors import CorruptStoreError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def decoding(what: str, remedy: str = "`hesstore verify` lists every damaged file of the store") -> Iterator[None]:
    """Raise :class:`CorruptStoreError`, with the name of the file, if a chunk in this context cannot be decoded.

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
        reason, file = " ".join(str(error).split()) or type(error).__name__, damaged_file(error)
        where = what if not file or file in what else file if file.startswith(f"{what}/") else f"{what}: {file}"
        raise CorruptStoreError(f"{where} is damaged ({reason}): {remedy}") from error


def is_decoding_error(error: BaseException) -> bool:
    """Whether a codec of zarr raised ``error`` while it decoded a chunk.

    Lazy Datasets are read chunk by chunk, so this error can surface in any line of their user. Every other error is a
    bug and keeps its traceback.
    """
    return any(
        frame.f_globals.get("__name__", "").startswith("zarr.codecs.") and "decode" in frame.f_code.co_name
        for frame, _ in walk_tb(error.__traceback__)
    )


def damaged_file(error: BaseException) -> str | None:
    """Return the path, within the store, of the chunk that could not be decoded; None if it is unknown.

    The errors of zarr do not name it, but the frame that was reading it, from the pipeline of codecs, holds it.
    """
    for frame, _ in walk_tb(error.__traceback__):
        batch = frame.f_locals.get("batch_info")
        if frame.f_code.co_name == "read_batch" and isinstance(batch, (list, tuple)) and len(batch) == 1:
            getter = batch[0][0]
            if isinstance(getter, StorePath):
                return getter.path
    return None
