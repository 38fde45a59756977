"""Tasks on Dask's workers: each reads weights from the store, writes its own large arrays, and returns the small ones.

A task is (store, config, kind, point, start): a worker that has never seen the sweep can do it. What a worker prepares,
data, network and traced programs, serves all its tasks.
"""

from __future__ import annotations

import json
import os
import threading
import warnings
import zlib
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import torch

from hesstore.config import SweepConfig
from hesstore.engine.devices import free_memory, on_host, resolve_device
from hesstore.engine.experiment import Experiment
from hesstore.engine.work_sizes import GIB
from hesstore.engine.worker import Outcome, Worker
from hesstore.errors import DeviceError, HesstoreError, HesstoreWarning
from hesstore.store.schema import BY_NAME, Status
from hesstore.store.writing import SweepStore

try:
    import dask
    from distributed import Client, Future, KilledWorker, LocalCluster, get_worker, wait
except ImportError:
    raise DeviceError('workers need Dask: pip install "hesstore[dask]"') from None

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hesstore.store.schema import Point

Kind = Literal["fit", "analysis"]

ATTEMPTS = 3
"""Failures of a task after which its λ is marked failed."""

CONNECT_SECONDS = 10

SHARERS = "HESSTORE_SHARERS"
"""Environment variable of a worker: with how many like it it shares its machine's cores and memory."""


@contextmanager
def connect(workers: int, scheduler: str) -> Iterator[Client]:
    """A client of the scheduler at an address, or of a new one with so many worker processes on this machine.

    The machine's cores are divided among its workers.

    Raises
    ------
    DeviceError
        If no scheduler answers.
    """
    if scheduler:
        try:
            client = Client(scheduler, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:
            raise DeviceError(f"dask: no scheduler answers at {scheduler!r} ({error})") from None
        with client:
            yield client
        return
    threads = _threads(workers)
    with (
        dask.config.set(
            {
                "distributed.scheduler.allowed-failures": ATTEMPTS - 1,
                "distributed.scheduler.worker-saturation": 1.0,  # a task waits for a free worker, not behind another
                # Dask would have malloc give freed memory back at once, which costs a third of the speed here.
                "distributed.nanny.pre-spawn-environ": {"OMP_NUM_THREADS": threads},
            }
        ),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address="127.0.0.1:0",
            silence_logs=50,
            env={SHARERS: str(workers), "OMP_NUM_THREADS": str(threads)},
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def _threads(workers: int) -> int:
    return max(1, len(os.sched_getaffinity(0)) // workers)


class DaskExecutor:
    """Submits tasks to the workers of a client.

    Parameters
    ----------
    client : Client
        Of the scheduler.
    config : SweepConfig
        What the tasks belong to.
    location : str
        The store, by a name under which workers find it.
    """

    def __init__(self, client: Client, config: SweepConfig, location: str) -> None:
        self._client = client
        self._sweep = (location, json.dumps(config.to_mapping()))
        self._tasks: dict[Future[Outcome], tuple[Kind, Point, Point | None]] = {}
        self._faults: Counter[tuple[Kind, Point]] = Counter()

    @property
    def capacity(self) -> int:
        """A task for each worker, and one that is on its way."""
        return max(1, len(self._client.scheduler_info(n_workers=-1)["workers"])) + 1

    def submit_fit(self, point: Point, start: Point | None) -> None:
        """Have a worker fit ``point``; fits come first, for others wait for them."""
        self._submit("fit", point, start)

    def submit_analysis(self, point: Point) -> None:
        """Have a worker analyse ``point``."""
        self._submit("analysis", point, None)

    def _submit(self, kind: Kind, point: Point, start: Point | None) -> None:
        fault = self._faults[kind, point]
        future = self._client.submit(
            compute,
            *self._sweep,
            kind,
            point,
            start,
            key=f"{kind}-run{point.run.id}-l2={point.l2:.10g}-{fault}-{id(self)}",
            priority=int(kind == "fit"),
            pure=False,
        )
        self._tasks[future] = kind, point, start

    def wait(self) -> list[Outcome]:
        """Outcomes of what is done; tasks that broke are submitted again until they have broken too often."""
        outcomes: list[Outcome] = []
        while not outcomes:
            with self._client.as_current():  # it is not the default: what else this process does is not its business
                done = wait(list(self._tasks), return_when="FIRST_COMPLETED").done
            for future in done:
                task = self._tasks.pop(future)
                fault = _fault(future)
                outcomes += [future.result()] if fault is None else self._again(*task, fault)
        return outcomes

    def _again(self, kind: Kind, point: Point, start: Point | None, fault: BaseException) -> list[Outcome]:
        if isinstance(fault, HesstoreError):
            raise fault  # a store or a device that is no use to any task
        self._faults[kind, point] += ATTEMPTS if isinstance(fault, KilledWorker) else 1
        if self._faults[kind, point] < ATTEMPTS:
            self._submit(kind, point, start)
            return []
        reason = f"{kind} failed {ATTEMPTS} times, at last by {type(fault).__name__}: {fault}"
        return [Outcome(point, Status.FAILED, {"failure": reason}, {"reason": reason})]

    def withdraw_fits(self) -> list[Point]:
        """None: what is submitted has a worker, or nearly."""
        return []


def _fault(future: Future[Outcome]) -> BaseException | None:
    if future.status == "finished":
        return None
    error: BaseException | None = future.exception() if future.status == "error" else None
    return error or RuntimeError(f"the task was {future.status}")


# -- on the workers -------------------------------------------------------------------------------------------

_prepared: dict[tuple[str, str], Worker] = {}
_one_at_a_time = threading.Lock()  # a worker's programs and buffers serve one task at a time


def compute(location: str, config: str, kind: Kind, point: Point, start: Point | None) -> Outcome:
    """Do one task; its large arrays are in the store when it returns."""
    with _one_at_a_time:
        worker = _worker(location, config)
        (outcome,) = worker.fit([point], [start]) if kind == "fit" else worker.analyse([point])
        arrays = {name: on_host(value) for name, value in outcome.values.items() if BY_NAME[name].is_large}
        entries = {name: value for name, value in outcome.values.items() if name not in arrays}
        covering = worker.store.put_arrays(point.run, point.index, outcome.status, arrays) if arrays else None
        return Outcome(point, outcome.status, entries, outcome.facts, covering)


def _worker(location: str, config: str) -> Worker:
    if (location, config) not in _prepared:
        settings: dict[str, Any] = {**json.loads(config), "models": 1}
        settings["device"] = device = _device(settings["device"])
        if sharers := int(os.environ.get(SHARERS, "0")):
            torch.set_num_threads(_threads(sharers))
            free = free_memory(resolve_device(device)) / 2 / GIB
            settings["memory_gib"] = (settings["memory_gib"] or free) / sharers
        with warnings.catch_warnings():  # what the process that drives the sweep has warned of
            warnings.simplefilter("ignore", HesstoreWarning)
            experiment = Experiment.prepare(SweepConfig.from_mapping(settings))
        store = SweepStore.open(location)
        store.require(experiment.identity())
        _prepared.clear()  # a worker that serves another sweep now needs its memory
        _prepared[location, config] = Worker(experiment, store, remember=False)
    return _prepared[location, config]


def _device(name: str) -> str:
    """The device of this worker: of several GPUs one each, in the order of the workers' names or addresses."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name not in {"auto", "cuda"} or count < 2:
        return name
    own = get_worker()
    number = own.name if isinstance(own.name, int) else zlib.crc32(str(own.address).encode())
    return f"cuda:{number % count}"
