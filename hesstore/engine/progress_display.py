"""The progress of a sweep that is run from Python: one line, which a terminal or a notebook draws again and again.

The command line has its own, larger display; this one needs no further package.
"""

from __future__ import annotations

import html
import os
import shutil
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from hesstore.config.l2_grid import value_text
from hesstore.engine.events import log_event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hesstore.engine.events import SweepEvent

EVERY = {"notebook": 0.5, "terminal": 0.2, "lines": 10.0}
"""Seconds between two updates, by the kind of output."""


class ProgressDisplay:
    """An observer of a sweep that shows its progress.

    In a notebook it updates one output cell; on a terminal it draws one line on stderr again and again; elsewhere it
    writes a line to stderr every ten seconds.

    Parameters
    ----------
    stream : text stream, optional
        Where to write, by default stderr. A notebook uses its own display.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._show_in_notebook = None if stream else notebook_display()
        is_terminal = self._stream.isatty()
        self.kind = "notebook" if self._show_in_notebook else "terminal" if is_terminal else "lines"
        self._handle: Any = None
        self._line = ProgressLine(0, 0, "preparing data and network")
        self._began: tuple[float, int] | None = None
        self._shown = 0.0
        self._result = ""
        self._draw()

    def __call__(self, event: SweepEvent) -> None:
        """Show one event."""
        if self._began is None:
            self._began = time.monotonic(), event.finished
        where = value_text(event.axis, event.value)
        doing = f"run {event.run.id}, {where}" if event.phase in {"fitting", "analysing"} else ""
        doing += f", product {event.facts['product']}" if "product" in event.facts else ""
        if event.phase == "complete":
            self._result = f"last: {where}, test accuracy {event.facts.get('test_accuracy', float('nan')):.3f}"
        elif event.phase == "failed":
            self._result = f"{where} failed: {event.facts['reason']}"
        pieces = [doing, self._result, self._time_left(event)]
        self._line = ProgressLine(event.finished, event.total, "  ".join(filter(None, pieces)))
        is_last = event.finished == event.total
        if is_last or event.phase == "failed" or time.monotonic() - self._shown >= EVERY[self.kind]:
            self._draw()

    def close(self) -> None:
        """Draw the last state, and end the line."""
        if self._began is None and self.kind == "lines":
            return
        self._line.text = self._result or "nothing was left to compute"
        self._draw()
        if self.kind == "terminal":
            self._stream.write("\n")

    def _time_left(self, event: SweepEvent) -> str:
        when, first = self._began or (0.0, 0)
        if not first < event.finished < event.total:
            return ""
        seconds = (time.monotonic() - when) / (event.finished - first) * (event.total - event.finished)
        minutes = round(seconds / 60)
        return f"about {minutes} min left" if minutes >= 2 else f"about {seconds:.0f} s left"

    def _draw(self) -> None:
        self._shown = time.monotonic()
        if self._show_in_notebook is not None:
            if self._handle is None:
                self._handle = self._show_in_notebook(self._line, display_id=True)
            else:
                self._handle.update(self._line)
        elif self.kind == "terminal":
            try:
                columns = os.get_terminal_size(self._stream.fileno()).columns
            except OSError:
                columns = shutil.get_terminal_size().columns
            self._stream.write(f"\r\x1b[2K{str(self._line)[: columns - 1]}")
            self._stream.flush()
        elif self._line.total:
            self._stream.write(f"{self._line}\n")


class ProgressLine:
    """A line about the progress of a sweep, which a notebook shows with a bar.

    Parameters
    ----------
    done, total : int
        The number of grid points that are finished, and of all; a ``total`` of 0 is not known yet.
    text : str
        What follows the numbers.
    """

    def __init__(self, done: int, total: int, text: str) -> None:
        self.done, self.total, self.text = done, total, text

    def __str__(self) -> str:
        return "  ".join(filter(None, [f"{self.done}/{self.total} grid points" if self.total else "", self.text]))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        bar = f"<progress max='{self.total}' value='{self.done}'></progress> " if self.total else ""
        return f"<div style='white-space: pre-wrap'>{bar}{html.escape(str(self))}</div>"


@contextmanager
def observing(
    observer: Callable[[SweepEvent], None] | None, *, progress: bool
) -> Iterator[Callable[[SweepEvent], None]]:
    """Return a context with one observer that logs events, passes them on to ``observer``, and shows the progress."""
    display = ProgressDisplay() if progress else None
    observers = [each for each in (log_event, display, observer) if each is not None]

    def observe(event: SweepEvent) -> None:
        for each in observers:
            each(event)

    try:
        yield observe
    finally:
        if display is not None:
            display.close()


def notebook_display() -> Any:
    """Return IPython's function that displays an object in a notebook; None outside of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is None or getattr(shell, "kernel", None) is None:
        return None
    from IPython.display import display  # noqa: PLC0415 - a notebook has it

    return display
