"""The campaign: sweeps in processes of their own, a reader after each kill, and a table at the end."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

import hesstore
from hesstore.errors import HesstoreError
from hesstore.store import Status
from tests.support.faulty_proxy import FaultyProxy, faulty_proxy
from tests.support.paths import ROOT
from tests.support.s3_server import ask, served
from tests.support.sweeps import TIMES
from tests.support.toy import TOY

CONFIG = {**TOY, "direction": "both", "epochs": 2, "l2": "0:0.05:12"}
FAULTS = 0.05
"""The share of requests to the bucket with a fault."""
_SCRIPT = "import sys; from hesstore_cli.main import main; main()"


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
    reset : callable
        Removes the store.
    proxy : FaultyProxy, optional
        The proxy in front of the bucket.
    """

    row: Row
    location: str
    options: list[str]
    environment: dict[str, str]
    reset: Callable[[], object]
    proxy: FaultyProxy | None = None

    def start(self) -> subprocess.Popen[bytes]:
        arguments = [part for key, value in CONFIG.items() for part in (f"--{key.replace('_', '-')}", str(value))]
        command = [sys.executable, "-c", _SCRIPT, "sweep", self.location, *arguments, *self.options, "-q"]
        return subprocess.Popen(
            command, cwd=ROOT, env=self.environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip

    def complete(self) -> bool:
        return self.row.complete == 24


def run_campaign(folder: Path, kills: int, seed: int, seconds: float) -> list[Row]:
    """Kill sweeps ``kills`` times, in all places in turn, unless the time is over before."""
    rng, end = random.Random(seed), time.monotonic() + seconds  # noqa: S311 - not for secrets
    with ExitStack() as stack:
        places = [stack.enter_context(place(folder, seed)) for place in (_local, _bucket, _dask)]
        reference = _reference(folder, places[0])
        for number in range(kills):
            if time.monotonic() > end:
                break
            sweeps = places[number % len(places)]
            _kill(sweeps, rng)
            _read(sweeps, reference)
        for sweeps in places:
            _finish(sweeps, reference)
    return [sweeps.row for sweeps in places]


def _reference(folder: Path, sweeps: Sweeps) -> xr.Dataset:
    """The results of a sweep that is not killed."""
    whole = Sweeps(Row("reference"), str(folder / "reference.zarr"), [], sweeps.environment, lambda: None)
    process = whole.start()
    said = process.communicate()[1]
    assert process.returncode == 0, said.decode()
    return hesstore.open(whole.location, chunked=False, check=True).load()


def _kill(sweeps: Sweeps, rng: random.Random) -> None:
    """Start or resume a sweep, and kill it, with all processes that it has started, at a random moment."""
    process = sweeps.start()
    # Half of the time the process only imports torch: most kills should hit it at work.
    try:
        said = process.communicate(timeout=rng.uniform(4.0, 12.0))[1]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        sweeps.row.kills += 1
        return
    assert process.returncode == 0, said.decode()
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
    said = process.communicate()[1]
    if process.returncode:
        sys.stderr.write(f"{sweeps.row.place}: {said.decode()}\n")
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
    return {**kept, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **further}


def _remove(store: Path) -> None:
    shutil.rmtree(store)


@contextmanager
def _local(folder: Path, seed: int) -> Iterator[Sweeps]:
    store = folder / "local.zarr"
    yield Sweeps(Row("folder"), str(store), [], _environment(), lambda: _remove(store))


@contextmanager
def _dask(folder: Path, seed: int) -> Iterator[Sweeps]:
    store = folder / "dask.zarr"
    yield Sweeps(Row("Dask workers"), str(store), ["--workers", "2"], _environment(), lambda: _remove(store))


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
            yield Sweeps(Row("bucket, with faults"), "s3://bucket/s.zarr", [], _environment(**variables), reset, proxy)
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
