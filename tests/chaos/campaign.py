"""The campaign: sweeps in processes of their own, a reader after each kill, and a table at the end."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import xarray as xr

import hesstore
from hesstore.errors import HesstoreError
from hesstore.store import Status
from tests.chaos.forked_command import run_command
from tests.support.faulty_proxy import FaultyProxy, faulty_proxy
from tests.support.paths import ROOT
from tests.support.s3_server import ask, served
from tests.support.sweeps import TIMES
from tests.support.toy import TOY

CONFIG = {**TOY, "direction": "both", "epochs": 2, "l2": "0:0.05:12", "threads": 1}
FAULTS = 0.05
"""The share of requests to the bucket with a fault."""
EVENTS = 8
"""The event after which a sweep is killed at the latest; a grid point has four."""
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.chaos.forked_command"])


@dataclass
class Row:
    """What happened in one place."""

    place: str
    kills: int = 0
    ends: int = 0
    faults: int = 0
    complete: int = 0
    wrong: int = 0
    lost: int = 0


@dataclass
class Sweeps:
    """The sweeps of one place.

    Attributes
    ----------
    row : Row
        What has happened.
    location : str
        The store.
    options : list of str
        Further options of the sweep.
    environment : dict
        The environment variables of its process.
    log : Path
        The file that receives a line for each event of the sweep.
    reset : callable
        Removes the store.
    proxy : FaultyProxy, optional
        The proxy in front of the bucket.
    """

    row: Row
    location: str
    options: list[str]
    environment: dict[str, str]
    log: Path
    reset: Callable[[], object]
    proxy: FaultyProxy | None = None

    def start(self) -> BaseProcess:
        """Start or resume the sweep, in a fork of a process that has imported everything: imports take longest."""
        self.log.unlink(missing_ok=True)
        settings = [part for key, value in CONFIG.items() for part in (f"--{key.replace('_', '-')}", str(value))]
        arguments = ["sweep", self.location, *settings, *self.options, "-q", "--log-file", str(self.log)]
        process = FORKS.Process(target=run_command, args=(arguments, self.environment, self.said))
        process.start()
        return process

    @property
    def said(self) -> Path:
        """The file that receives what the sweep writes to stderr."""
        return self.log.with_suffix(".stderr")

    def events(self) -> int:
        return self.log.read_bytes().count(b"\n") if self.log.exists() else 0

    def complete(self) -> bool:
        return self.row.complete == 24


def run_campaign(folder: Path, kills: int, seed: int, seconds: float) -> list[Row]:
    """Kill sweeps ``kills`` times, in all places in turn, unless the time is over before.

    Every fifth sweep has Dask workers, because they import everything again.
    """
    rng, end = random.Random(seed), time.monotonic() + seconds  # noqa: S311 - not for secrets
    with ExitStack() as stack:
        places = [stack.enter_context(place(folder, seed)) for place in (_local, _bucket, _dask)]
        reference = _reference(folder, places[0])
        for number in range(kills):
            if time.monotonic() > end:
                break
            sweeps = places[(0, 1, 0, 1, 2)[number % 5]]
            _kill(sweeps, rng)
            _read(sweeps, reference)
            if number % 30 == 29:
                sys.stderr.write(f"{table([sweeps.row for sweeps in places])}\n")
        for sweeps in places:
            _finish(sweeps, reference)
    return [sweeps.row for sweeps in places]


def _reference(folder: Path, sweeps: Sweeps) -> xr.Dataset:
    """The results of a sweep that is not killed."""
    whole = Sweeps(
        Row("reference"), str(folder / "reference.zarr"), [], sweeps.environment, folder / "reference.log", lambda: None
    )
    process = whole.start()
    process.join()
    assert process.exitcode == 0, whole.said.read_text()
    return hesstore.open(whole.location, chunked=False, check=True).load()


def _kill(sweeps: Sweeps, rng: random.Random) -> None:
    """Start or resume a sweep, and kill it, with all processes that it has started, at a random moment.

    The moment is up to half a second after a random event, however fast the machine is. Some kills come before the
    first event, while the store is made or opened.
    """
    process = sweeps.start()
    event = rng.randint(0, EVENTS)
    wait = rng.uniform(0.0, 0.5 if event else 6.0)
    while process.is_alive() and sweeps.events() < event:
        time.sleep(0.01)
    process.join(wait)
    if process.exitcode is None:
        assert process.pid is not None
        os.killpg(process.pid, signal.SIGKILL)
        process.join()
        sweeps.row.kills += 1
        return
    assert process.exitcode == 0, sweeps.said.read_text()
    sweeps.row.ends += 1


def _read(sweeps: Sweeps, reference: xr.Dataset) -> None:
    """Compare the store with the reference; begin again with a new one once it is complete."""
    if sweeps.proxy is not None:
        sweeps.row.faults = sum(count for fault, count in sweeps.proxy.injected.items() if fault)
    try:
        found = hesstore.open(sweeps.location, chunked=False, check=True).load()
    except HesstoreError as error:
        if "no such store" in str(error) and not sweeps.row.complete:
            return
        sys.stderr.write(f"{sweeps.row.place}: {error}\n")
        sweeps.row.wrong += 1
        return
    complete = found["status"].values == Status.COMPLETE
    if int(complete.sum()) < sweeps.row.complete:
        sweeps.row.lost += 1
    for name in sorted({*map(str, found.data_vars)} - {*TIMES, "status", "failure"}):
        values, expected = found[name].values[complete], reference[name].values[complete]
        if not np.array_equal(values, expected, equal_nan=values.dtype.kind == "f"):
            sys.stderr.write(f"{sweeps.row.place}: {name} differs\n")
            sweeps.row.wrong += 1
    sweeps.row.complete = int(complete.sum())
    if sweeps.complete():
        sweeps.reset()
        sweeps.row.complete = 0


def _finish(sweeps: Sweeps, reference: xr.Dataset) -> None:
    """Let a sweep end, and compare all of it."""
    process = sweeps.start()
    process.join()
    if process.exitcode:
        sys.stderr.write(f"{sweeps.row.place}: {sweeps.said.read_text()}\n")
        sweeps.row.wrong += 1
        return
    found = hesstore.open(sweeps.location, chunked=False, check=True)
    if not (found["status"].values == Status.COMPLETE).all():
        sweeps.row.lost += 1
    sweeps.reset = lambda: None
    _read(sweeps, reference)


# -- places ---------------------------------------------------------------------------------------------------


def _environment(**further: str) -> dict[str, str]:
    path = os.pathsep.join([str(ROOT), str(ROOT / "cli")])
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return {**kept, "PYTHONPATH": path, **further}


def _remove(store: Path) -> None:
    shutil.rmtree(store)


@contextmanager
def _local(folder: Path, seed: int) -> Iterator[Sweeps]:
    store = folder / "local.zarr"
    yield Sweeps(Row("folder"), str(store), [], _environment(), folder / "local.log", lambda: _remove(store))


@contextmanager
def _dask(folder: Path, seed: int) -> Iterator[Sweeps]:
    store = folder / "dask.zarr"
    yield Sweeps(
        Row("Dask workers"), str(store), ["--workers", "2"], _environment(), folder / "dask.log", lambda: _remove(store)
    )


@contextmanager
def _bucket(folder: Path, seed: int) -> Iterator[Sweeps]:
    with served() as server, faulty_proxy(server, seed=seed, rate=FAULTS, hang=0.5) as proxy:
        variables = {
            "AWS_ENDPOINT_URL": proxy.url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        ask(f"{server}/bucket", method="PUT")

        def reset() -> None:
            ask(f"{server}/moto-api/reset", b"", method="POST")
            ask(f"{server}/bucket", method="PUT")

        before = {name: os.environ.get(name) for name in variables}
        os.environ.update(variables)
        try:
            log = folder / "bucket.log"
            there = _environment(**variables)
            yield Sweeps(Row("bucket, with faults"), "s3://bucket/s.zarr", [], there, log, reset, proxy)
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def table(rows: list[Row]) -> str:
    """The rows as text."""
    heading = f"{'place':<20} {'kills':>6} {'ends':>6} {'faults':>7} {'wrong':>6} {'lost':>6}"
    lines = [
        f"{row.place:<20} {row.kills:>6} {row.ends:>6} {row.faults:>7} {row.wrong:>6} {row.lost:>6}" for row in rows
    ]
    sums = [sum(getattr(row, name) for row in rows) for name in ("kills", "ends", "faults", "wrong", "lost")]
    total = f"{'all':<20} {sums[0]:>6} {sums[1]:>6} {sums[2]:>7} {sums[3]:>6} {sums[4]:>6}"
    return "\n".join([heading, *lines, total])
