"""The progress of a sweep on stderr: a live block on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Self

from hesstore.config.l2_grid import value_text
from hesstore_cli.stop_request import StopRequest
from hesstore_cli.terminal.amounts import duration
from hesstore_cli.terminal.pace import Pace
from hesstore_cli.terminal.point_text import PHASES, result_pieces
from hesstore_cli.terminal.streams import is_live, write_line

if TYPE_CHECKING:
    from hesstore.engine.sweep import SweepEvent, SweepPlan
    from hesstore_cli.event_log import EventLog
    from hesstore_cli.terminal.live_block import BlockContent, LiveBlock


class SweepReporter:
    """The observer of a sweep, as a context manager.

    On a terminal it draws a live block; elsewhere it writes a line from time to time.

    Parameters
    ----------
    quiet : int
        0 shows everything; 1 shows warnings and failures; 2 shows nothing.
    verbose : bool
        Whether to write a line for every grid point.
    log : EventLog, optional
        A log that receives every event.
    stop : StopRequest, optional
        Whether the sweep was asked to stop, which the block then shows.
    """

    EVERY = 5.0
    """Seconds between two lines."""
    SILENT = 60.0
    """Seconds after which a line is written even if no grid point was finished."""

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
        self._block: LiveBlock | None = None
        self._content: BlockContent | None = None
        self._failed = 0
        self._planned_time = ""
        self._last_line = time.monotonic()
        self._held_back = ""
        self._has_written = False

    def __enter__(self) -> Self:
        if is_live() and not self.quiet:
            from hesstore_cli.terminal.live_block import BlockContent, LiveBlock

            self._content = BlockContent(doing=("preparing data and network",))
            self._block = LiveBlock(self._current_content, sys.stderr).__enter__()
            self.stop.is_shown = True
        return self

    def __exit__(self, *details: object) -> None:
        if self._block is not None:
            self._block.__exit__(*details)
            self._block, self.stop.is_shown = None, False
        if self._held_back and not self.quiet:
            write_line(self._held_back)

    def plan(self, plan: SweepPlan) -> None:
        """Show the plan of the sweep."""
        from hesstore_cli.terminal.plan_text import short_lines, time_text

        if self.log is not None:
            self.log.write_plan(plan)
        if plan.unfinished and not self.quiet:
            for line in short_lines(plan):
                self.write(line)
            self._planned_time = f"{time_text(plan)} left" if plan.seconds else ""
        if self._content is not None:
            self._content.doing = ("starting",)

    def __call__(self, event: SweepEvent) -> None:
        """Show one event."""
        if self.log is not None:
            self.log.write_event(event)
        self.pace.note(event.finished)
        self._failed += event.phase == "failed"
        if self._content is not None:
            self._update(self._content, event)
        if "warning" in event.facts and self.quiet < 2:
            where = f"{value_text(event.axis, event.value)} of run {event.run.id}"
            self.write(f"hesstore: warning: {where}: {event.facts['warning']}")
        if event.phase == "failed" and self.quiet < 2:
            self._write_event(event)
        elif not self.quiet and (self.verbose or self._block is None):
            self._write_if_due(event)

    def write(self, text: str) -> None:
        """Write a line to stderr, above the block if one is drawn."""
        if self._block is None:
            write_line(text)
        else:
            self._block.write(self._block.folded(text))

    def _current_content(self) -> BlockContent:
        """Return what the block shows now."""
        from hesstore_cli.terminal.live_block import BlockContent

        content = self._content or BlockContent()
        left = self.pace.left(content.total)
        content.left = self._planned_time if left is None else f"about {duration(left)} left"
        stopping = "stopping after the current grid point; Ctrl-C again stops immediately"
        content.notes = [stopping] if self.stop.status else []
        return content

    def _update(self, content: BlockContent, event: SweepEvent) -> None:
        """Put an event into the block."""
        content.done, content.total, content.failed = event.finished, event.total, self._failed
        if event.phase == "complete":
            content.last = (value_text(event.axis, event.value), *result_pieces(event.facts))
        elif event.phase != "failed":
            content.doing = (f"run {event.run.id}  {value_text(event.axis, event.value)}", _phase_text(event))

    def _write_if_due(self, event: SweepEvent) -> None:
        """Write the first and the last grid point and one every few seconds; in verbose mode, write all of them."""
        silent = time.monotonic() - self._last_line
        if event.phase == "complete":
            is_last = event.finished == event.total
            if self.verbose or not self._has_written or is_last or silent >= self.EVERY:
                self._write_event(event)
            else:
                self._held_back = self._line(event)
        elif silent >= self.SILENT and self._block is None:
            self._write_event(event)

    def _write_event(self, event: SweepEvent) -> None:
        self._last_line, self._held_back, self._has_written = time.monotonic(), "", True
        self.write(self._line(event))

    def _line(self, event: SweepEvent) -> str:
        left = self.pace.left(event.total)
        pieces = [f"{event.finished}/{event.total}", f"run {event.run.id}", value_text(event.axis, event.value)]
        if event.phase == "complete":
            pieces += result_pieces(event.facts)
        elif event.phase == "failed":
            pieces.append(f"failed: {event.facts['reason']}")
        else:
            pieces.append(_phase_text(event))
        if left and self._block is None:  # the block shows the time left itself
            pieces.append(f"about {duration(left)} left")
        return "  ".join(pieces)


def _phase_text(event: SweepEvent) -> str:
    if event.phase == "fitting":
        return f"{PHASES[event.phase]}: epoch {event.facts['epoch']}, loss {event.facts['loss']:.4f}"
    if "product" in event.facts:
        return f"analysis: Hessian product {event.facts['product']}"
    return PHASES.get(event.phase, "starting")
