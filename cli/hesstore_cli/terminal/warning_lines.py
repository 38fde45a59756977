"""Warnings of hesstore on the command line: one line each on stderr, without the position in the code."""

from __future__ import annotations

import sys
import warnings
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TextIO

from hesstore.errors import HesstoreWarning
from hesstore_cli.terminal.widths import fitted

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def one_line_warnings() -> Iterator[None]:
    """Show each :class:`HesstoreWarning` as ``hesstore: warning: …``, and other warnings as Python shows them."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", HesstoreWarning)
        show_as_python = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, HesstoreWarning):
                # click.echo would bypass the stream with which a live bar has replaced stderr.
                with suppress(OSError):
                    sys.stderr.write(fitted(f"hesstore: warning: {' '.join(str(message).split())}", sys.stderr) + "\n")
            else:
                show_as_python(message, category, filename, lineno, file, line)

        warnings.showwarning = show
        yield
