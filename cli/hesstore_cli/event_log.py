"""A log of the events of a sweep for programs: a file with one JSON object per line."""

from __future__ import annotations

import datetime as dt
import json
import math
import os
import socket
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import click

if TYPE_CHECKING:
    from types import TracebackType

    from hesstore.config import SweepConfig
    from hesstore.engine.sweep import SweepEvent, SweepPlan, SweepSummary


class EventLog:
    """A context manager that appends to ``path``; an error that leaves the context is the last line.

    Each line is one write, so that several processes can share a file. If the file can no longer be written (for
    example because the disk is full), the sweep continues without it.

    Parameters
    ----------
    path : str
        The file, which is created if it does not exist.

    Raises
    ------
    click.UsageError
        If the file cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._file = Path(path).open("ab", buffering=0)  # noqa: SIM115 - closed when this context ends
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise click.UsageError(
                f"--log-file: {path}: cannot be written ({reason}): give a file in an existing folder"
            ) from None
        self._is_broken = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.write("ended", error=" ".join(str(error).split()), type=type(error).__name__)
        self._file.close()

    def write(self, event: str, **facts: Any) -> None:
        """Write a line: the time in UTC, the name of the event, and its facts."""
        if self._is_broken:
            return
        now = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
        line = json.dumps(_finite({"time": now, "event": event, **facts}), ensure_ascii=False, allow_nan=False)
        try:
            self._file.write(f"{line}\n".encode())
        except OSError as error:
            self._is_broken = True
            click.echo(f"hesstore: warning: {self.path}: {error.strerror}: the log ends here", err=True)

    def write_start(self, store: str, config: SweepConfig) -> None:
        """Write which process starts a sweep, with its store and config."""
        self.write(
            "started",
            store=store,
            version=metadata.version("hesstore"),
            pid=os.getpid(),
            host=socket.gethostname(),
            config=config.to_mapping(),
        )

    def write_plan(self, plan: SweepPlan) -> None:
        """Write the plan, which includes the fingerprint of the config."""
        from dataclasses import asdict

        self.write("plan", **asdict(plan))

    def write_event(self, event: SweepEvent) -> None:
        """Write an event of the sweep, except those within an analysis."""
        if "product" in event.facts:
            return
        run = event.run
        where = {"run": run.id, "seed": run.seed, "direction": run.direction, event.axis: event.value}
        self.write(event.phase, finished=event.finished, total=event.total, **where, facts=event.facts)
        if "warning" in event.facts:
            self.write("warning", **where, message=event.facts["warning"])

    def write_end(self, summary: SweepSummary, status: int) -> None:
        """Write how the sweep ended."""
        self.write(
            "ended",
            status=status,
            complete=summary.complete,
            failed=summary.failed,
            pending=summary.pending,
            computed=summary.computed,
            seconds=summary.seconds,
        )


def _finite(value: Any) -> Any:
    """Return ``value`` with None for the numbers that JSON cannot represent."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
