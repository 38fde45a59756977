"""The request to stop a sweep, by a signal or a time limit."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import time
from typing import TYPE_CHECKING, Self

import click

from hesstore_cli.exit_status import ExitStatus

if TYPE_CHECKING:
    from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
"""The signals of Ctrl-C, of job schedulers shortly before the time is up, and of a closed terminal."""

UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


class StopRequest:
    """A context manager that handles signals and knows whether to stop.

    The first signal asks the sweep to stop after the current grid point. The second one ends the process immediately:
    all recorded results are on disk, so only the current work is lost. The handler does not raise an exception,
    because PyTorch suppresses exceptions in some places.

    Parameters
    ----------
    limit : float, optional
        Seconds from now after which to stop.

    Attributes
    ----------
    status : int, optional
        The exit status for the reason to stop; None while there is no request.
    is_shown : bool
        Whether a live block shows the request on the terminal. The handler then writes nothing, which would damage the
        block.
    """

    def __init__(self, limit: float | None = None) -> None:
        self._end = None if limit is None else time.monotonic() + limit
        self.status: ExitStatus | None = None
        self.is_shown = False

    def __enter__(self) -> Self:
        # Under nohup, SIGHUP stays ignored.
        handled = [each for each in SIGNALS if each != signal.SIGHUP or signal.getsignal(each) != signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._handle) for number in handled}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self) -> bool:
        """Return whether to stop; if the time limit has passed, set ``status``."""
        if self.status is None and self._end is not None and time.monotonic() >= self._end:
            self.status = ExitStatus.OUT_OF_TIME
        return self.status is not None

    def _handle(self, *_: int | FrameType | None) -> None:
        if self.status == ExitStatus.INTERRUPTED:
            if sys.stderr.isatty():
                _write("\x1b[?25h\n")  # the block has hidden the cursor
            _write("hesstore: stopped immediately; the same command continues after the last complete grid point\n")
            os._exit(ExitStatus.INTERRUPTED)
        self.status = ExitStatus.INTERRUPTED
        if not self.is_shown:
            _write("hesstore: stopping after the current grid point; a second signal stops immediately\n")


def _write(text: str) -> None:
    """Write to stderr without buffers; the terminal may no longer exist."""
    with contextlib.suppress(OSError):
        os.write(2, text.encode())


class Duration(click.ParamType[float]):
    """A duration such as ``7h50m``, ``90s`` or ``1d``, in seconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds, which are above 0."""
        if isinstance(value, float):
            return value
        text = str(value).strip().lower()
        if not re.fullmatch(r"(\d+d)?(\d+h)?(\d+m)?(\d+s)?", text):
            self.fail(f"{value!r} is not a duration: give one such as 7h50m, 90m or 45s", param, ctx)
        seconds = sum(int(number) * UNITS[unit] for number, unit in re.findall(r"(\d+)([dhms])", text))
        if seconds == 0:
            self.fail(f"{value!r} is not above 0: give a duration such as 7h50m, 90m or 45s", param, ctx)
        return float(seconds)
