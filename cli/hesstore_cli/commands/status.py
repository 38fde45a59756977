"""``hesstore status``."""

from __future__ import annotations

import json
import sys
import time

import click

from hesstore_cli.exit_status import ExitStatus
from hesstore_cli.help_pages import Command
from hesstore_cli.options import store_argument
from hesstore_cli.terminal.status_view import Sight, Watcher

EVERY = 5.0
WIDTH = 100
"""Columns where there is no terminal."""


class Seconds(click.ParamType[float]):
    """Seconds between two looks."""

    name = "seconds"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """At least a tenth of one."""
        try:
            seconds = float(str(value))
        except ValueError:
            self.fail(f"{value!r} is not a number of seconds: STORE stands before --watch", param, ctx)
        if not 0.1 <= seconds <= 86400:
            self.fail(f"{value} s is not between 0.1 and 86400", param, ctx)
        return seconds


@click.command(cls=Command)
@store_argument
@click.option(
    "--watch",
    is_flag=False,
    flag_value=EVERY,
    type=Seconds(),
    metavar="[SECONDS]",
    help=f"Look again every so many seconds ({EVERY:g}) until every λ is complete or failed.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs; with --watch a line each change.")
def status(store: str, watch: float | None, *, as_json: bool) -> int:
    """Say how far the sweep of STORE is: λ done, what is in hand, the last result, pace, time left, and who drives it.

    All of it is read from STORE, so any machine that sees it can ask, while it is written; nobody is disturbed. With
    --watch a live block on a terminal, and elsewhere a line each time something has changed. The exit status is 4 if
    nothing is left to do and some λ failed.

    \b
    Examples:
      hesstore status run.zarr
      hesstore status run.zarr --watch
      hesstore status s3://bucket/run.zarr --json
    """
    watcher = Watcher(store)
    seen = watcher.look()
    if watch is None:
        click.echo(json.dumps(seen.facts(), indent=2, allow_nan=False) if as_json else seen.as_text(_width()))
        return _ended(seen)
    try:
        return _ended(
            _watched_live(watcher, seen, watch)
            if _is_live(as_json=as_json)
            else _watched(watcher, seen, watch, as_json=as_json)
        )
    except KeyboardInterrupt:
        return ExitStatus.INTERRUPTED


def _ended(seen: Sight) -> ExitStatus:
    return ExitStatus.SOME_FAILED if seen.progress.is_over and seen.progress.failed else ExitStatus.DONE


def _is_live(*, as_json: bool) -> bool:
    from hesstore_cli.terminal.console import is_live

    return not as_json and is_live(sys.stdout)


def _watched(watcher: Watcher, seen: Sight, every: float, *, as_json: bool) -> Sight:
    """A line each change, until all is done; returns the last look."""
    from hesstore_cli.terminal.console import Pace

    pace, mark = Pace(), None
    while True:
        pace.note(seen.progress.finished)
        if seen.mark != mark:
            mark = seen.mark
            click.echo(json.dumps(seen.facts(), allow_nan=False) if as_json else seen.line(pace))
            sys.stdout.flush()
        if seen.progress.is_over:
            return seen
        time.sleep(every)
        seen = watcher.look_again(seen)


def _watched_live(watcher: Watcher, seen: Sight, every: float) -> Sight:
    """The block, drawn again and again, until all is done; returns the last look."""
    from hesstore_cli.terminal.console import Pace
    from hesstore_cli.terminal.live_block import LiveBlock

    pace = Pace()
    with LiveBlock(lambda: seen.view(pace), sys.stdout, keep=True):
        while True:
            pace.note(seen.progress.finished)
            if seen.progress.is_over:
                return seen
            time.sleep(every)
            seen = watcher.look_again(seen)


def _width() -> int:
    """Columns of the terminal, if that is where the text goes."""
    import shutil

    return shutil.get_terminal_size((WIDTH, 24)).columns if sys.stdout.isatty() else WIDTH
