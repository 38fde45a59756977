"""Telling damaged chunks from bugs: zarr and its codecs have no exceptions of their own for what can't be decoded."""

from __future__ import annotations

from traceback import walk_tb


def is_of_decoding(error: Exception) -> bool:
    """Whether ``error`` was raised while a codec of zarr decoded a chunk.

    Datasets are lazy: such errors come out of whatever asks for values first. Any other error is a bug's.
    """
    return any(
        frame.f_globals.get("__name__", "").startswith("zarr.codecs.") and "decode" in frame.f_code.co_name
        for frame, _ in walk_tb(error.__traceback__)
    )
