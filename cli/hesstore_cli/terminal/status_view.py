"""The status of a store's sweep, read once or repeatedly, and the texts that show it."""

from __future__ import annotations

import datetime as dt
import shlex
import socket
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from hesstore.config.l2_grid import value_text
from hesstore_cli.terminal.amounts import duration
from hesstore_cli.terminal.point_text import PHASES, result_pieces

if TYPE_CHECKING:
    import xarray as xr

    from hesstore.dataset.progress import Progress, Result, RunProgress
    from hesstore.store.places.claims import Holder
    from hesstore.store.places.place import Place
    from hesstore_cli.terminal.live_block import BlockContent
    from hesstore_cli.terminal.pace import Pace

MEASURED = 3
"""Grid points that must be finished while watching before their pace gives the time left."""
TRIES = 3
"""Reads in a row that may fail while watching: a store that is being extended is missing for a moment."""


@dataclass(frozen=True)
class StatusView:
    """The status of a store's sweep at one moment.

    Attributes
    ----------
    store : str
        The location of the store.
    progress : Progress
        Its progress.
    holders : dict
        The holder of each run by the run's ID, for runs that are held.
    newest : datetime, optional
        When the newest result was recorded.
    """

    store: str
    progress: Progress
    holders: dict[int, Holder]
    newest: dt.datetime | None

    @property
    def is_driven(self) -> bool:
        """Whether a driver that is alive, or may be, holds a run."""
        return any(holder.alive is not False for holder in self.holders.values())

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the drivers have finished the runs that they hold; without a driver, for all work left.

        Drivers work at the same time, and each computes its runs one after another.
        """
        sums: dict[tuple[str, int], float] = {}
        for run in self.progress.runs:
            holder = self.holders.get(run.run)
            if holder is not None and holder.alive is not False and run.seconds_left is not None:
                key = holder.host, holder.pid
                sums[key] = sums.get(key, 0.0) + run.seconds_left / holder.workers
        return max(sums.values(), default=self.progress.seconds_left)

    @property
    def current_run(self) -> RunProgress:
        """The run to show: a driven one if any is driven."""
        driven = [run for run in self.progress.runs if (held := self.holders.get(run.run)) and held.alive is not False]
        unfinished = [run for run in driven if run.current is not None]
        started = [run for run in unfinished if run.finished or run.fitted]
        return (started or unfinished or [self.progress.current_run])[0]

    @property
    def key(self) -> tuple[object, ...]:
        """A value that differs between two views if there is a change to show."""
        run = self.current_run
        return self.progress.finished, run.run, run.current, run.phase, self.is_driven

    def facts(self) -> dict[str, Any]:
        """Return the facts for ``--json``."""
        progress = self.progress
        runs = [
            {
                **asdict(run),
                "last": _result_facts(run.last) if run.last else None,
                "spectra": run.spectra.facts() if run.spectra else None,
                "holder": _holder_facts(self.holders.get(run.run)),
            }
            for run in progress.runs
        ]
        return {
            "path": self.store,
            "total": progress.total,
            "complete": progress.complete,
            "failed": progress.failed,
            "is_over": progress.is_over,
            "is_driven": self.is_driven,
            "spectra": progress.spectra.facts() if progress.spectra else None,
            "seconds_left": self.seconds_left,
            "newest_record": None if self.newest is None else self.newest.isoformat(timespec="seconds"),
            "runs": runs,
        }

    def block_content(self, pace: Pace | None = None) -> BlockContent:
        """Return the content of a live block; ``pace`` gives the time left once it is measured."""
        from hesstore_cli.terminal.live_block import BlockContent

        run, progress = self.current_run, self.progress
        left = pace.left(progress.total) if pace is not None and pace.seen >= MEASURED else None
        left = self.seconds_left if left is None else left
        doing: tuple[str, ...] = ()
        if run.current is not None and run.phase is not None:
            where = f"run {run.run}  {value_text(run.axis, run.current)}"
            doing = (where if self.is_driven else f"next: {where}", PHASES[run.phase])
        last = run.last or progress.last
        word = "left" if self.is_driven else "of work left"
        return BlockContent(
            done=progress.finished,
            failed=progress.failed,
            total=progress.total,
            doing=doing,
            last=(value_text(last.axis, last.value), *result_pieces(asdict(last))) if last else (),
            left=f"about {duration(left)} {word}" if left else "",
            notes=self.notes(),
        )

    def notes(self) -> list[str]:
        """Return a line per driver, and how long ago the newest result was recorded."""
        notes = []
        drivers: dict[tuple[str, int], list[int]] = {}
        for run_id, holder in self.holders.items():
            drivers.setdefault((holder.host, holder.pid), []).append(run_id)
        for runs in drivers.values():
            which = "" if len(self.progress.runs) == 1 else f" (run {', '.join(map(str, runs))})"
            notes.append(holder_text(self.holders[runs[0]]) + which)
        if not self.is_driven and not self.progress.is_over:
            notes.append(
                f"no process computes this sweep: hesstore sweep {shlex.quote(self.store)} (or the same hesstore "
                "analyse) continues it"
            )
        if self.newest is not None and not self.progress.is_over:
            notes.append(f"newest result recorded {_ago(self.newest)}")
        return notes

    def as_text(self, width: int) -> str:
        """Return the status in lines of ``width`` columns."""
        from hesstore_cli.terminal.live_block import block_lines, flow

        progress = self.progress
        head = f"{self.store}: {progress.complete} of {progress.total} grid points complete"
        runs = [line for run in progress.runs for line in flow([_run_text(run)], width)]
        spectra = progress.spectra.text.split(" ") if progress.spectra else []
        return "\n".join(
            [
                *flow([head], max(width, len(self.store) + 50)),
                *(runs if len(progress.runs) > 1 else []),
                *flow(spectra, width, gap=" "),
                *(line.plain for line in block_lines(self.block_content(), width)),
            ]
        )

    def as_line(self, pace: Pace) -> str:
        """Return the status in one line, like the lines of the sweep itself."""
        from hesstore_cli.terminal.live_block import last_pieces

        content = self.block_content(pace)
        doing = content.doing or (["finished"] if self.progress.is_over else [])
        failed = [f"{content.failed} failed"] if content.failed else []
        left = [content.left] if content.left else []
        return "  ".join([f"{content.done}/{content.total}", *failed, *doing, *last_pieces(content), *left])


class StoreWatcher:
    """Reads the status of a store, once or repeatedly; each read needs only a few small files."""

    def __init__(self, store: str) -> None:
        from hesstore.store.places.location import locate

        self._place: Place = locate(store)
        self._ds: xr.Dataset | None = None
        self._revision: object = None
        self._failed_reads = 0

    def exists(self) -> bool:
        """Whether the store exists."""
        return not self._place.is_new()

    def read(self) -> StatusView:
        """Return the status now.

        Raises
        ------
        StoreError
            If the store was moved, or its metadata were written, during the read: files that are missing for a moment
            would be read as empty.
        """
        from hesstore.errors import CorruptStoreError, StoreError
        from hesstore.store.reading import check_dataset, open_store

        revision = self._place.revision()
        try:
            if self._ds is None or revision != self._revision:  # an extended store is opened again
                ds = open_store(self._place, chunked=False)
                check_dataset(ds)
                self._ds, self._revision = ds, revision
            view = self._view(self._ds)
        except (KeyError, ValueError, CorruptStoreError):  # values that do not fit together
            if self._place.revision() == revision:
                raise
        else:
            if self._place.revision() == revision:
                return view
        raise StoreError(f"{self._place}: was moved or extended while it was read: run the command again")

    def _view(self, ds: xr.Dataset) -> StatusView:
        from hesstore.dataset.progress import progress_of
        from hesstore.store.chunk_files import chunk_files
        from hesstore.store.schema import BY_NAME, axis_of

        found = progress_of(ds)
        holders = {run.run: self._place.holder(run.run) for run in found.runs}
        count = ds.sizes[axis_of(ds)]
        files = [file for run in found.runs for file in chunk_files(BY_NAME["status"], run.run, count)]
        written = [self._place.last_modified(file) for file in files]
        return StatusView(
            store=str(self._place),
            progress=found,
            holders={run_id: holder for run_id, holder in holders.items() if holder is not None},
            newest=max((each for each in written if each is not None), default=None),
        )

    def read_again(self, previous: StatusView) -> StatusView:
        """Return the status now, or the ``previous`` one if the read fails, except after several failures in a row."""
        from hesstore.errors import HesstoreError

        try:
            view = self.read()
        except (HesstoreError, OSError):
            self._failed_reads += 1
            if self._failed_reads >= TRIES:
                raise
            self._ds = None
            return previous
        self._failed_reads = 0
        return view


def holder_text(holder: Holder) -> str:
    """Return who holds a run, and whether that process is alive."""
    workers = f" with {holder.workers} workers" if holder.workers > 1 else ""
    process = f"process {holder.pid} on {holder.host}{workers}, started {_ago(holder.since)}"
    if holder.alive:
        return f"driven by {process}"
    if holder.alive is None:
        return f"claimed by {process}; {_unknown_text(holder)}"
    return f"{process}, no longer runs"


def _unknown_text(holder: Holder) -> str:
    if holder.renewed:
        return f"claim renewed {_ago(holder.renewed)}"
    if holder.host == socket.gethostname():  # the name may be that of several machines
        return "in another container, on another machine of this name, or before a restart: it may no longer run"
    return "only that machine knows if it runs"


def _run_text(run: RunProgress) -> str:
    counts = {"complete": run.complete, "failed": run.failed, "fitted": run.fitted, "pending": run.pending}
    states = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    return f"run {run.run} (seed {run.seed}, {run.direction}): {states}"


def _ago(when: dt.datetime) -> str:
    return f"{duration(max(0.0, (dt.datetime.now(dt.UTC) - when).total_seconds()))} ago"


def _result_facts(result: Result) -> dict[str, Any]:
    """Return a result with its value on the grid under the name of the axis."""
    facts = asdict(result)
    return {facts.pop("axis"): facts.pop("value"), **facts}


def _holder_facts(holder: Holder | None) -> dict[str, Any] | None:
    if holder is None:
        return None
    facts = asdict(holder)
    return {key: value.isoformat() if isinstance(value, dt.datetime) else value for key, value in facts.items()}
