"""What one look at a store shows of its sweep, and looking again and again."""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from hesstore_cli.terminal.amounts import duration

if TYPE_CHECKING:
    import xarray as xr

    from hesstore.dataset.progress import Progress, RunProgress
    from hesstore.store.places.base import Place
    from hesstore.store.places.claims import Holder
    from hesstore_cli.terminal.console import Pace
    from hesstore_cli.terminal.live_block import View

SEEN = 3
"""λ that must have been finished before one's eyes to tell the pace."""
TRIES = 3
"""Looks in a row that may fail while watching: a store that grows is not there for a moment."""

DOING = {"fitting": "fit", "analysing": "spectrum and classes"}


@dataclass(frozen=True)
class Sight:
    """What one look at a store has shown.

    Attributes
    ----------
    store : str
        Its name.
    progress : Progress
        How far it is.
    holders : dict
        Who holds each run, by its ID; runs that nobody holds are not there.
    newest : datetime, optional
        When the newest record was written.
    """

    store: str
    progress: Progress
    holders: dict[int, Holder]
    newest: dt.datetime | None

    @property
    def is_driven(self) -> bool:
        """Whether somebody is at it, or may be."""
        return any(holder.alive is not False for holder in self.holders.values())

    @property
    def seconds_left(self) -> float | None:
        """For what is held, drivers side by side and the runs of one after each other; if nobody is there, for all."""
        sums: dict[tuple[str, int], float] = {}
        for run in self.progress.runs:
            holder = self.holders.get(run.run)
            if holder is not None and holder.alive is not False and run.seconds_left is not None:
                key = holder.host, holder.pid
                sums[key] = sums.get(key, 0.0) + run.seconds_left
        return max(sums.values(), default=self.progress.seconds_left)

    @property
    def at(self) -> RunProgress:
        """The run to look at: of those that are driven, if any is."""
        driven = [run for run in self.progress.runs if (held := self.holders.get(run.run)) and held.alive is not False]
        unfinished = [run for run in driven if run.current is not None]
        begun = [run for run in unfinished if run.finished or run.fitted]
        return (begun or unfinished or [self.progress.at])[0]

    def facts(self) -> dict[str, Any]:
        """For ``--json``."""
        far = self.progress
        runs = [{**asdict(run), "holder": _plain(self.holders.get(run.run))} for run in far.runs]
        return {
            "path": self.store,
            "total": far.total,
            "complete": far.complete,
            "failed": far.failed,
            "is_over": far.is_over,
            "is_driven": self.is_driven,
            "seconds_left": self.seconds_left,
            "newest_record": None if self.newest is None else self.newest.isoformat(timespec="seconds"),
            "runs": runs,
        }

    def view(self, pace: Pace | None = None) -> View:
        """For the block; time left by ``pace``, where it was seen, else by what λ took."""
        from hesstore_cli.terminal.console import result_pieces
        from hesstore_cli.terminal.live_block import View

        run, far = self.at, self.progress
        left = pace.left(far.total) if pace is not None and pace.seen >= SEEN else None
        left = self.seconds_left if left is None else left
        doing: tuple[str, ...] = ()
        if run.current is not None and run.phase is not None:
            where = f"run {run.run}  λ = {run.current:.10g}"
            doing = (where if self.is_driven else f"next: {where}", DOING[run.phase])
        last = run.last or far.last
        word = "left" if self.is_driven else "of work left"
        return View(
            done=far.finished,
            failed=far.failed,
            total=far.total,
            doing=doing,
            last=(f"λ = {last.l2:.10g}", *result_pieces(asdict(last))) if last else (),
            left=f"about {duration(left)} {word}" if left else "",
            notes=self.notes(),
        )

    def notes(self) -> list[str]:
        """Who drives it, and what else is to be known."""
        notes = []
        drivers: dict[tuple[str, int], list[int]] = {}
        for run_id, holder in self.holders.items():
            drivers.setdefault((holder.host, holder.pid), []).append(run_id)
        for runs in drivers.values():
            which = "" if len(self.progress.runs) == 1 else f" (run {', '.join(map(str, runs))})"
            notes.append(_of_holder(self.holders[runs[0]]) + which)
        if not self.is_driven and not self.progress.is_over:
            notes.append("nobody is at it: the same hesstore sweep goes on from there")
        if self.newest is not None and not self.progress.is_over:
            notes.append(f"newest record {_ago(self.newest)}")
        return notes

    def as_text(self, width: int) -> str:
        """For people."""
        from hesstore_cli.terminal.live_block import flow, lines

        far = self.progress
        head = flow([f"{self.store}: {far.complete} of {far.total} λ complete"], max(width, len(self.store) + 40))
        runs = [line for run in far.runs for line in flow(_counts(run), width)] if len(far.runs) > 1 else []
        return "\n".join([*head, *runs, *(line.plain for line in lines(self.view(), width))])

    def line(self, pace: Pace) -> str:
        """One line, as the sweep itself writes them."""
        view = self.view(pace)
        said = view.doing or (["all is done"] if self.progress.is_over else [])
        failed = [f"{view.failed} failed"] if view.failed else []
        last = ["last", *view.last] if view.last else []
        return "  ".join([f"{view.done}/{view.total}", *failed, *said, *last, *([view.left] if view.left else [])])

    @property
    def mark(self) -> tuple[object, ...]:
        """What has changed if this has."""
        run = self.at
        return self.progress.finished, run.run, run.current, run.phase, self.is_driven


class Watcher:
    """Looks at a store again and again; each look costs a few small reads."""

    def __init__(self, store: str) -> None:
        from hesstore.store.places.location import locate

        self._place: Place = locate(store)
        self._ds: xr.Dataset | None = None
        self._made: dt.datetime | None = None
        self._misses = 0

    def look(self) -> Sight:
        """What is there now."""
        from hesstore.dataset import progress
        from hesstore.store.chunk_files import chunk_files
        from hesstore.store.reading import open_store
        from hesstore.store.schema import AXIS, BY_NAME

        made = self._place.written("zarr.json")
        if self._ds is None or made != self._made:  # a store that has grown is another one
            self._ds, self._made = open_store(self._place, chunked=False), made
        far = progress.of(self._ds)
        holders = {run.run: self._place.holder(run.run) for run in far.runs}
        count = self._ds.sizes[AXIS]
        files = [file for run in far.runs for file in chunk_files(BY_NAME["status"], run.run, count)]
        written = [self._place.written(file) for file in files]
        return Sight(
            store=str(self._place),
            progress=far,
            holders={run_id: holder for run_id, holder in holders.items() if holder is not None},
            newest=max((each for each in written if each is not None), default=None),
        )

    def look_again(self, before: Sight) -> Sight:
        """What is there now, or what was ``before`` where a look fails; not too often in a row."""
        from hesstore.errors import HesstoreError

        try:
            seen = self.look()
        except (HesstoreError, OSError):
            self._misses += 1
            if self._misses >= TRIES:
                raise
            self._ds = None
            return before
        self._misses = 0
        return seen


def _counts(run: RunProgress) -> list[str]:
    counts = {"complete": run.complete, "failed": run.failed, "fitted": run.fitted, "pending": run.pending}
    states = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    return [f"run {run.run} (seed {run.seed}, {run.direction}): {states}"]


def _of_holder(holder: Holder) -> str:
    who = f"process {holder.pid} on {holder.host}"
    if holder.alive:
        return f"driven by {who}, which began {_ago(holder.since)}"
    if holder.alive is None:
        heard = f"heard of {_ago(holder.renewed)}" if holder.renewed else "whether it lives only that machine can tell"
        return f"held by {who}, which began {_ago(holder.since)}; {heard}"
    return f"{who}, which began {_ago(holder.since)}, is gone"


def _ago(when: dt.datetime) -> str:
    return f"{duration(max(0.0, (dt.datetime.now(dt.UTC) - when).total_seconds()))} ago"


def _plain(holder: Holder | None) -> dict[str, Any] | None:
    if holder is None:
        return None
    facts = asdict(holder)
    return {key: value.isoformat() if isinstance(value, dt.datetime) else value for key, value in facts.items()}
