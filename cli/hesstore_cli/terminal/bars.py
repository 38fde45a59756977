"""Progress bars on stderr."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from hesstore.errors import size_text
from hesstore_cli.terminal.amounts import duration
from hesstore_cli.terminal.streams import is_live, write_line
from hesstore_cli.terminal.widths import printable

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn, TaskID


class Bar:
    """A progress bar, as a context manager; it draws nothing if stderr is not a terminal.

    Parameters
    ----------
    label : str
        The text before the bar.
    """

    def __init__(self, label: str) -> None:
        self.label = label
        self.live = is_live()
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._started: float | None = None
        self._first = 0

    def __enter__(self) -> Self:
        if self.live:
            from rich import progress
            from rich.console import Console

            self._progress = progress.Progress(
                progress.TextColumn("{task.description}"),
                progress.BarColumn(bar_width=None),
                *self.columns(),
                progress.TextColumn("{task.fields[left]}"),
                console=Console(stderr=True),
                expand=False,
            )
            self._task = self._progress.add_task(self.label, total=None, left="")
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def columns(self) -> list[ProgressColumn]:
        """Return the columns between the bar and the time left."""
        from rich import progress

        return [progress.MofNCompleteColumn()]

    def advance(self, done: int, total: int, label: str | None = None) -> None:
        """Show ``done`` of ``total``; the time is measured from the first call."""
        if self._started is None:
            self._started, self._first = time.monotonic(), done
        if self._progress is not None and self._task is not None:
            left = self.time_left(done, total)
            self._progress.update(self._task, completed=done, total=total, description=label or self.label, left=left)

    def write(self, text: str) -> None:
        """Write a line to stderr, above the bar if one is drawn."""
        if self._progress is None:
            write_line(text)
        else:
            self._progress.console.print(printable(text), markup=False, highlight=False, soft_wrap=True)

    def time_left(self, done: int, total: int) -> str:
        """Return «about 3 min 05 s left», from the mean pace so far; empty if the pace is not known yet."""
        if self._started is None or done <= self._first or done == total:
            return ""
        return f"about {duration((time.monotonic() - self._started) / (done - self._first) * (total - done))} left"


class ByteBar(Bar):
    """A progress bar that counts bytes; without a terminal, it writes a line every few seconds."""

    EVERY = 10.0
    """Seconds between two lines."""

    def __init__(self, label: str) -> None:
        super().__init__(label)
        self._written = time.monotonic()

    def columns(self) -> list[ProgressColumn]:
        """Return the columns for the bytes done and the rate."""
        from rich import progress

        return [progress.DownloadColumn(), progress.TransferSpeedColumn()]

    def advance(self, done: int, total: int, label: str | None = None) -> None:
        """Show ``done`` of ``total`` bytes."""
        super().advance(done, total, label)
        if not self.live and done < total and time.monotonic() - self._written > self.EVERY:
            self._written = time.monotonic()
            self.write(
                f"{self.label}: {size_text(done)} of about {size_text(total)}  {self.time_left(done, total)}".rstrip()
            )
