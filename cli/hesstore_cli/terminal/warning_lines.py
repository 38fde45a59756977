"""hesstore's own warnings on the command line: a line each on stderr, without the place in the code."""

from __future__ import annotations

import sys
import warnings
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TextIO

from hesstore.errors import HesstoreWarning

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def told_in_a_line() -> Iterator[None]:
    """Within it, a :class:`HesstoreWarning` is ``hesstore: warning: …``; others are shown as Python shows them."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", HesstoreWarning)
        shown_by_python = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, HesstoreWarning):
                # Not by click, which writes past what a live bar has put in the place of stderr.
                with suppress(OSError):
                    sys.stderr.write(f"hesstore: warning: {' '.join(str(message).split())}\n")
            else:
                shown_by_python(message, category, filename, lineno, file, line)

        warnings.showwarning = show
        yield
