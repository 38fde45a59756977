"""The standard streams: whether one is a terminal, and lines on stderr that never stop the work."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hesstore_cli.terminal.widths import fitted

if TYPE_CHECKING:
    from typing import TextIO


def write_line(text: str) -> None:
    """Write a line to stderr; on a terminal, it is broken between words.

    If stderr cannot be written (its reader has ended, or the disk is full), the work continues and all further lines
    are discarded.
    """
    try:
        click.echo(fitted(text, sys.stderr), err=True)
    except OSError:
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - for the rest of this process


def is_live(stream: TextIO | None = None) -> bool:
    """Whether ``stream`` (by default stderr) is a terminal on which a line can be drawn again."""
    return (stream or sys.stderr).isatty() and os.environ.get("TERM", "").lower() not in {"", "dumb", "unknown"}
