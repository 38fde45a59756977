"""What a sweep looks like while it runs: a live bar on a terminal, a line a λ elsewhere. All on stderr."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Self

import click

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn, TaskID

    from hesstore.sweep import SweepEvent


def duration(seconds: float) -> str:
    """Seconds for people: ``42 s``, ``3 min 05 s``, ``7 h 20 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def size(count: float) -> str:
    """Bytes for people: ``512 B``, ``31.2 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


class Bar:
    """A progress bar on a terminal; nothing where there is none."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.live = sys.stderr.isatty()
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._began: float | None = None
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

    def columns(self) -> list[ProgressColumn]:
        """What stands between the bar and the time that is left."""
        from rich import progress

        return [progress.MofNCompleteColumn()]

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def advance(self, done: int, total: int, label: str | None = None) -> None:
        """Show ``done`` of ``total``; time is counted from the first call."""
        if self._began is None:
            self._began, self._first = time.monotonic(), done
        if self._progress is not None and self._task is not None:
            left = self.time_left(done, total)
            self._progress.update(self._task, completed=done, total=total, description=label or self.label, left=left)

    def say(self, text: str) -> None:
        """A line on stderr, above the bar if there is one."""
        if self._progress is None:
            click.echo(text, err=True)
        else:
            self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def time_left(self, done: int, total: int) -> str:
        """«about 3 min 05 s left» at the mean pace so far, or nothing while there is none."""
        if self._began is None or done <= self._first or done == total:
            return ""
        return f"about {duration((time.monotonic() - self._began) / (done - self._first) * (total - done))} left"


class ByteBar(Bar):
    """A bar that counts bytes; where there is no terminal, a line every few seconds."""

    EVERY = 10.0

    def __init__(self, label: str) -> None:
        super().__init__(label)
        self._said = time.monotonic()

    def columns(self) -> list[ProgressColumn]:
        """Bytes done of all, and the rate."""
        from rich import progress

        return [progress.DownloadColumn(), progress.TransferSpeedColumn()]

    def advance(self, done: int, total: int, label: str | None = None) -> None:
        """Show ``done`` of ``total`` bytes."""
        super().advance(done, total, label)
        if not self.live and done < total and time.monotonic() - self._said > self.EVERY:
            self._said = time.monotonic()
            self.say(f"{self.label}: {size(done)} of about {size(total)}  {self.time_left(done, total)}".rstrip())


class SweepReporter:
    """The observer of a sweep: feeds the bar, and prints a line a λ where there is no terminal."""

    def __init__(self) -> None:
        self.bar = Bar("starting")

    def __enter__(self) -> Self:
        self.bar.__enter__()
        return self

    def __exit__(self, *details: object) -> None:
        self.bar.__exit__(*details)

    def __call__(self, event: SweepEvent) -> None:
        """Show one event."""
        self.bar.advance(event.finished, event.total, self._label(event))
        if event.phase in {"complete", "failed"} and not self.bar.live:
            left = self.bar.time_left(event.finished, event.total)
            click.echo(f"{event.finished}/{event.total}  {self._line(event)}  {left}".rstrip(), err=True)
        if "warning" in event.facts:
            self.bar.say(f"hesstore: warning: λ = {event.l2:.10g} of run {event.run.id}: {event.facts['warning']}")

    def _label(self, event: SweepEvent) -> str:
        where = f"run {event.run.id}  λ = {event.l2:.10g}"
        if event.phase == "fitting":
            return f"{where}  fit: epoch {event.facts['epoch']}, loss {event.facts['loss']:.4f}"
        if event.phase == "analysing":
            return f"{where}  spectrum and classes"
        return where if event.phase == "opened" else self._line(event)

    def _line(self, event: SweepEvent) -> str:
        where = f"run {event.run.id}  λ = {event.l2:.10g}"
        if event.phase == "failed":
            return f"{where}  failed: {event.facts['reason']}"
        facts = event.facts
        return (
            f"{where}  test accuracy {facts['test_accuracy']:.3f}  "
            f"worst class {facts['worst_class']}: {facts['worst_class_accuracy']:.3f}  "
            f"μ₁ {facts['eigenvalue']:.4g}"
        )
