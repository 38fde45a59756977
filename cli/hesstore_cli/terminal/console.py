"""What work looks like while it goes on: a live bar or block on a terminal, lines elsewhere. All on stderr."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TextIO

import click

from hesstore_cli.stop_request import StopRequest
from hesstore_cli.terminal.amounts import duration, size

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.progress import Progress, ProgressColumn, TaskID

    from hesstore.engine.sweep import SweepEvent, SweepPlan
    from hesstore_cli.event_log import EventLog
    from hesstore_cli.terminal.live_block import LiveBlock, View


def talk(text: str) -> None:
    """A line on stderr. That nobody can read it any more, or the disk under it is full, is no reason to stop work."""
    try:
        click.echo(text, err=True)
    except OSError:
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - for the rest of this process


class Bar:
    """A progress bar on a terminal; nothing where there is none."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.live = is_live()
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
            talk(text)
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


class Pace:
    """How fast λ get finished, by the wall clock.

    The mean over the latest :data:`RECENT` of them, and over at least a tenth of all the time: where many are trained
    together they end together.
    """

    RECENT = 9

    def __init__(self) -> None:
        self._marks: list[tuple[float, int]] = []

    def note(self, done: int) -> None:
        """Take note that so many are finished now."""
        if not self._marks or done > self._marks[-1][1]:
            self._marks.append((time.monotonic(), done))

    @property
    def seen(self) -> int:
        """How many were finished since the first note."""
        return self._marks[-1][1] - self._marks[0][1] if self._marks else 0

    @property
    def each(self) -> float | None:
        """Seconds a λ; None before one was finished."""
        if len(self._marks) < 2:
            return None
        (began, _), (now, done) = self._marks[0], self._marks[-1]
        least = (now - began) / 10
        earlier = (mark for mark in reversed(self._marks) if done - mark[1] >= self.RECENT and now - mark[0] >= least)
        when, count = next(earlier, self._marks[0])
        return (now - when) / (done - count)

    def left(self, total: int) -> float | None:
        """Seconds until ``total`` are finished; None before one was."""
        if self.each is None:
            return None
        now, done = self._marks[-1]
        return max(0.0, self.each * (total - done) - min(time.monotonic() - now, self.each))


def is_live(stream: TextIO | None = None) -> bool:
    """Whether ``stream``, by default stderr, is a terminal on which lines can be drawn again."""
    return (stream or sys.stderr).isatty() and os.environ.get("TERM", "").lower() not in {"", "dumb", "unknown"}


class SweepReporter:
    """The observer of a sweep: a live block on a terminal, now and then a line where there is none.

    Parameters
    ----------
    quiet : int
        0: all; 1: warnings and failures; 2: nothing.
    verbose : bool
        Whether there is a line for every λ.
    log : EventLog, optional
        Is told everything.
    stop : StopRequest, optional
        Whether the sweep was asked to stop: the block says so.
    """

    EVERY = 5.0
    """Seconds between two lines."""
    SILENT = 60.0
    """Seconds after which there is one even if no λ was finished."""

    def __init__(
        self,
        quiet: int = 0,
        log: EventLog | None = None,
        stop: StopRequest | None = None,
        *,
        verbose: bool = False,
    ) -> None:
        self.quiet, self.verbose, self.log = quiet, verbose, log
        self.stop = stop or StopRequest()
        self.pace = Pace()
        self._live: LiveBlock | None = None
        self._view: View | None = None
        self._failed = 0
        self._planned = ""
        self._said = time.monotonic()
        self._unsaid = ""
        self._told = False

    # -- the block ----------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        if is_live() and not self.quiet:
            from hesstore_cli.terminal.live_block import LiveBlock, View

            self._view = View(doing=("preparing: data and network",))
            self._live = LiveBlock(self._now, sys.stderr).__enter__()
            self.stop.is_shown = True
        return self

    def __exit__(self, *details: object) -> None:
        if self._live is not None:
            self._live.__exit__(*details)
            self._live, self.stop.is_shown = None, False
        if self._unsaid and not self.quiet:
            talk(self._unsaid)

    def _now(self) -> View:
        """What the block says at this moment."""
        from hesstore_cli.terminal.live_block import View

        view = self._view or View()
        left = self.pace.left(view.total)
        view.left = self._planned if left is None else f"about {duration(left)} left"
        view.notes = ["stopping after the λ in hand; Ctrl-C once more stops at once"] if self.stop.status else []
        return view

    def say(self, text: str) -> None:
        """A line on stderr, above the block if there is one."""
        if self._live is None:
            talk(text)
        else:
            self._live.say(text)

    # -- what happens -------------------------------------------------------------------------------------

    def plan(self, plan: SweepPlan) -> None:
        """Tell what the sweep will take."""
        from hesstore_cli.terminal.plan_text import briefly, time_of

        if self.log is not None:
            self.log.plan(plan)
        if plan.analyses and not self.quiet:
            for line in briefly(plan):
                self.say(line if self._live is None else self._live.folded(line))
            self._planned = f"{time_of(plan)} left" if plan.seconds else ""
        if self._view is not None:
            self._view.doing = ("beginning",)

    def __call__(self, event: SweepEvent) -> None:
        """Show one event."""
        if self.log is not None:
            self.log.happened(event)
        self.pace.note(event.finished)
        self._failed += event.phase == "failed"
        if self._view is not None:
            self._show(self._view, event)
        if "warning" in event.facts and self.quiet < 2:
            self.say(f"hesstore: warning: λ = {event.l2:.10g} of run {event.run.id}: {event.facts['warning']}")
        if event.phase == "failed" and self.quiet < 2:
            self._tell(event)
        elif not self.quiet and (self.verbose or self._live is None):
            self._tell_now_and_then(event)

    def _show(self, view: View, event: SweepEvent) -> None:
        view.done, view.total, view.failed = event.finished, event.total, self._failed
        if event.phase == "complete":
            view.last = (f"λ = {event.l2:.10g}", *result_pieces(event.facts))
        elif event.phase != "failed":
            view.doing = (f"run {event.run.id}  λ = {event.l2:.10g}", _doing(event))

    def _tell_now_and_then(self, event: SweepEvent) -> None:
        """Every λ if asked for; else the first, the last, and one every few seconds."""
        silent = time.monotonic() - self._said
        if event.phase == "complete":
            is_last = event.finished == event.total
            if self.verbose or not self._told or is_last or silent >= self.EVERY:
                self._tell(event)
            else:
                self._unsaid = self._line(event)
        elif silent >= self.SILENT and self._live is None:
            self._tell(event)

    def _tell(self, event: SweepEvent) -> None:
        self._said, self._unsaid, self._told = time.monotonic(), "", True
        self.say(self._line(event))

    def _line(self, event: SweepEvent) -> str:
        left = self.pace.left(event.total)
        pieces = [f"{event.finished}/{event.total}", f"run {event.run.id}", f"λ = {event.l2:.10g}"]
        if event.phase == "complete":
            pieces += result_pieces(event.facts)
        elif event.phase == "failed":
            pieces.append(f"failed: {event.facts['reason']}")
        else:
            pieces.append(_doing(event))
        if left and self._live is None:  # the block has it
            pieces.append(f"about {duration(left)} left")
        return "  ".join(pieces)


def _doing(event: SweepEvent) -> str:
    if event.phase == "fitting":
        return f"fit: epoch {event.facts['epoch']}, loss {event.facts['loss']:.4f}"
    return "spectrum and classes" if event.phase == "analysing" else "beginning"


def result_pieces(facts: Mapping[str, Any]) -> list[str]:
    """What a complete λ is told by, in pieces; an import may lack some."""
    forms = (
        ("test_accuracy", "test accuracy {test_accuracy:.3f}"),
        ("worst_class", "worst class {worst_class}: {worst_class_accuracy:.3f}"),
        ("eigenvalue", "μ₁ {eigenvalue:.4g}"),
    )
    return [form.format_map(facts) for name, form in forms if facts[name] is not None]
