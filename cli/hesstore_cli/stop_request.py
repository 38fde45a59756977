"""When a sweep should stop: a signal, or a time limit."""

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
"""Ctrl-C, what schedulers send when time is nearly up, and what a closed terminal leaves."""

UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


class StopRequest:
    """Whether to stop, as a context manager that listens to signals.

    The first signal asks a sweep to stop after what it has in hand, the second ends the process at once: whatever is
    recorded is on disk, so that costs no more than the work in hand. A signal handler that raised would not do:
    PyTorch swallows exceptions in places.

    Parameters
    ----------
    limit : float, optional
        Seconds from now after which to stop.

    Attributes
    ----------
    status : int, optional
        The exit status that says why to stop, once it was asked.
    is_shown : bool
        Whether a live block says on the terminal that it was: then the handler does not write across it.
    """

    def __init__(self, limit: float | None = None) -> None:
        self._end = None if limit is None else time.monotonic() + limit
        self.status: ExitStatus | None = None
        self.is_shown = False

    def __enter__(self) -> Self:
        heard = [each for each in SIGNALS if each != signal.SIGHUP or signal.getsignal(each) != signal.SIG_IGN]  # nohup
        self._before = {number: signal.signal(number, self._handle) for number in heard}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self) -> bool:
        """Whether to stop; sets ``status``, the exit status that says why."""
        if self.status is None and self._end is not None and time.monotonic() >= self._end:
            self.status = ExitStatus.OUT_OF_TIME
        return self.status is not None

    def _handle(self, *_: int | FrameType | None) -> None:
        if self.status == ExitStatus.INTERRUPTED:
            if sys.stderr.isatty():
                _write("\x1b[?25h\n")  # the bar has hidden the cursor
            _write("hesstore: stopped at once; the same command goes on from the last complete λ\n")
            os._exit(ExitStatus.INTERRUPTED)
        self.status = ExitStatus.INTERRUPTED
        if not self.is_shown:
            _write("hesstore: stopping after the λ in hand; once more to stop at once\n")


def _write(text: str) -> None:
    """Past all buffers, to a terminal that may be gone."""
    with contextlib.suppress(OSError):
        os.write(2, text.encode())


class Duration(click.ParamType[float]):
    """A time like ``7h50m``, ``90s`` or ``1d``, in seconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds, above 0."""
        if isinstance(value, float):
            return value
        text = str(value).strip().lower()
        if not re.fullmatch(r"(\d+d)?(\d+h)?(\d+m)?(\d+s)?", text):
            self.fail(f"{value!r} is not a time such as 7h50m, 90m or 45s", param, ctx)
        seconds = sum(int(number) * UNITS[unit] for number, unit in re.findall(r"(\d+)([dhms])", text))
        if seconds == 0:
            self.fail(f"{value!r} is no time at all: give one such as 7h50m, 90m or 45s", param, ctx)
        return float(seconds)
