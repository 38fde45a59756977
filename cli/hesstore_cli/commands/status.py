"""``hesstore status``."""

from __future__ import annotations

import json
import sys
import time

import click

from hesstore_cli.exit_status import ExitStatus
from hesstore_cli.help_pages import Command
from hesstore_cli.options import store_argument
from hesstore_cli.terminal.pace import Pace
from hesstore_cli.terminal.status_view import StatusView, StoreWatcher
from hesstore_cli.terminal.streams import is_live, write_line
from hesstore_cli.terminal.widths import UNLIMITED, printable, width

EVERY = 5.0
WIDTH = 100
"""Columns of the output if it does not go to a terminal."""


class Seconds(click.ParamType[float]):
    """The seconds between two updates."""

    name = "seconds"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return a number from 0.1 to 86400."""
        try:
            seconds = float(str(value))
        except ValueError:
            self.fail(f"{value!r} is not a number of seconds: put STORE before --watch", param, ctx)
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
    help=f"Update every SECONDS (by default {EVERY:g}) until every grid point is complete or failed.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object, for programs; with --watch, one for every change."
)
def status(store: str, watch: float | None, *, as_json: bool) -> int:
    """Show the progress of a sweep.

    The output shows the finished grid points, how complete their spectra are, the current grid point, the latest
    result, the time left, and the process that drives the sweep. The command only reads STORE: it works on every
    machine that can read STORE, and it does not disturb the sweep.

    With --watch, the display is updated on a terminal; elsewhere, a line is printed for every change. If STORE does not
    exist yet, because a sweep is still preparing it, the command waits for it. The exit status is 4 if the sweep has
    finished and some grid points failed.

    \b
    Examples:
      hesstore status run.zarr
      hesstore status run.zarr --watch
      hesstore status s3://bucket/run.zarr --json
    """
    watcher = StoreWatcher(store)
    try:
        if watch is not None:
            _wait_for(watcher, store, watch)
    except KeyboardInterrupt:
        return ExitStatus.INTERRUPTED
    view = watcher.read()
    if watch is None:
        click.echo(json.dumps(view.facts(), indent=2, allow_nan=False) if as_json else view.as_text(_width()))
        return _exit_status(view)
    try:
        if not as_json and is_live(sys.stdout):
            view = _watch_live(watcher, view, watch)
        else:
            view = _watch(watcher, view, watch, as_json=as_json)
    except KeyboardInterrupt:
        return ExitStatus.INTERRUPTED
    return _exit_status(view)


def _wait_for(watcher: StoreWatcher, store: str, every: float) -> None:
    """Wait until the store exists: a sweep first loads its data and checks its network."""
    if watcher.exists():
        return
    write_line(f"waiting for {store}, which does not exist yet (Ctrl-C ends)")
    while not watcher.exists():
        time.sleep(min(every, 1.0))


def _exit_status(view: StatusView) -> ExitStatus:
    return ExitStatus.SOME_FAILED if view.progress.is_over and view.progress.failed else ExitStatus.DONE


def _watch(watcher: StoreWatcher, view: StatusView, every: float, *, as_json: bool) -> StatusView:
    """Print a line for every change until the sweep has finished; return the last view."""
    pace, key = Pace(), None
    while True:
        pace.note(view.progress.finished)
        if view.key != key:
            key = view.key
            click.echo(json.dumps(view.facts(), allow_nan=False) if as_json else printable(view.as_line(pace)))
            sys.stdout.flush()
        if view.progress.is_over:
            return view
        time.sleep(every)
        view = watcher.read_again(view)


def _watch_live(watcher: StoreWatcher, view: StatusView, every: float) -> StatusView:
    """Draw the live block until the sweep has finished; return the last view."""
    from hesstore_cli.terminal.live_block import LiveBlock

    pace = Pace()
    with LiveBlock(lambda: view.block_content(pace), sys.stdout, keep=True):
        while True:
            pace.note(view.progress.finished)
            if view.progress.is_over:
                return view
            time.sleep(every)
            view = watcher.read_again(view)


def _width() -> int:
    """Return the columns of the terminal, or :data:`WIDTH` if the output does not go to one."""
    return WIDTH if (columns := width()) == UNLIMITED else columns
