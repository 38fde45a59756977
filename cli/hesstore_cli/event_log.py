"""A log of what a sweep does, for programs: a file of JSON objects, a line each."""

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
    """Appends to ``path`` as a context manager; an error that leaves it is the last line.

    Each line is one write, so that several processes may share a file. Where the file can't be written any more (a full
    disk) the sweep goes on without it.

    Parameters
    ----------
    path : str
        The file, made if it is not there.

    Raises
    ------
    click.UsageError
        If it can't be opened for that.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._file = Path(path).open("ab", buffering=0)  # noqa: SIM115 - the context is this object's own
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise click.UsageError(
                f"--log-file: {path}: can't be written ({reason}): give a file in a folder that is there"
            ) from None
        self._broken = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.write("ended", error=" ".join(str(error).split()), type=type(error).__name__)
        self._file.close()

    def write(self, event: str, **facts: Any) -> None:
        """One line: the time, in UTC, what happened, and its facts."""
        if self._broken:
            return
        now = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
        line = json.dumps(_finite({"time": now, "event": event, **facts}), ensure_ascii=False, allow_nan=False)
        try:
            self._file.write(f"{line}\n".encode())
        except OSError as error:
            self._broken = True
            click.echo(f"hesstore: warning: {self.path}: {error.strerror}: the log ends here", err=True)

    def started(self, store: str, config: SweepConfig) -> None:
        """Who does what."""
        self.write(
            "started",
            store=store,
            version=metadata.version("hesstore"),
            pid=os.getpid(),
            host=socket.gethostname(),
            config=config.to_mapping(),
        )

    def plan(self, plan: SweepPlan) -> None:
        """What it will take; with the fingerprint of the config."""
        from dataclasses import asdict

        self.write("plan", **asdict(plan))

    def happened(self, event: SweepEvent) -> None:
        """An event of the sweep."""
        run = event.run
        where = {"run": run.id, "seed": run.seed, "direction": run.direction, "l2": event.l2}
        self.write(event.phase, finished=event.finished, total=event.total, **where, facts=event.facts)
        if "warning" in event.facts:
            self.write("warning", **where, message=event.facts["warning"])

    def ended(self, summary: SweepSummary, status: int) -> None:
        """How it ended."""
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
    """``value`` with None for numbers that JSON has no word for."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
