"""An executor that runs tasks on Dask workers.

A worker reads weights from the store, writes its own large arrays to it, and returns the small variables to the driver.
A task is (version, store, config, kind, point, start), so a worker can carry it out that has never seen the sweep. The
data, the network and the traced programs that a worker prepares serve all its tasks.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
import warnings
import zlib
from collections import Counter
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING, Any, Literal

import torch

from hesstore.config import SweepConfig
from hesstore.engine.devices import computing_on, free_memory, on_host, resolve_device
from hesstore.engine.experiment import Experiment
from hesstore.engine.outcome import Outcome
from hesstore.engine.work_sizes import GIB
from hesstore.engine.worker import Worker
from hesstore.errors import DeviceError, DeviceWarning, HesstoreError, HesstoreWarning, WorkersError
from hesstore.store.environments import record_environment
from hesstore.store.schema import BY_NAME, SCHEMA_VERSION
from hesstore.store.writing import SweepStore

try:
    import dask
    from distributed import Client, Future, KilledWorker, LocalCluster, get_worker, wait
    from distributed.client import FutureCancelledError, FuturesCancelledError
except ImportError:
    raise DeviceError('workers need Dask: pip install "hesstore[dask]"') from None

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hesstore.engine.collection import Collection
    from hesstore.engine.executor import Report
    from hesstore.store.schema import Point

Kind = Literal["fit", "analysis"]

ATTEMPTS = 3
"""Number of failures of a task after which its grid point is marked failed."""

POLL_SECONDS = 1.0
"""Time after which the driver looks again whether to stop, in seconds."""

PATIENCE_SECONDS = 10.0
"""Time without any worker after which the user is warned, in seconds."""

CONNECT_SECONDS = 10
"""Time that a scheduler has to answer."""

SHARERS = "HESSTORE_SHARERS"
"""Environment variable of a worker process: the number of workers that share the machine's cores and memory."""


@contextmanager
def connect(workers: int, scheduler: str, threads: int = 0) -> Iterator[Client]:
    """Connect to the scheduler at an address, or start one with worker processes on this machine.

    New worker processes share the cores of the machine, unless the number of their threads is given.

    Parameters
    ----------
    workers : int
        Number of worker processes to start if no ``scheduler`` is given.
    scheduler : str
        Address of a running scheduler.
    threads : int
        Number of threads of each new worker process; 0 divides the cores among them.

    Raises
    ------
    DeviceError
        If no scheduler answers at the address.
    """
    if scheduler:
        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # an error of the sweep says it in one line
        try:
            client = Client(scheduler, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:
            raise DeviceError(
                f"dask: no scheduler answers at {scheduler!r} ({error}): check its address and whether it is running"
            ) from None
        with client:
            yield client
        return
    threads = threads or _threads(workers)
    with (
        dask.config.set(
            {
                "distributed.scheduler.allowed-failures": ATTEMPTS - 1,
                "distributed.scheduler.worker-saturation": 1.0,  # a task waits for a free worker, not behind a task
                # By default, Dask makes malloc return freed memory immediately, which costs a third of the speed here.
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
    """The number of threads of each of ``workers`` processes that share this machine."""
    return max(1, len(os.sched_getaffinity(0)) // workers)


class DaskExecutor:
    """Submits tasks to Dask workers.

    Parameters
    ----------
    client : Client
        A client of the workers' scheduler.
    config : SweepConfig
        The config of the sweep.
    location : str
        The location of the store, as the workers can find it.
    collection : Collection, optional
        The checkpoints from which the weights come; the workers must be able to read them.
    """

    def __init__(
        self, client: Client, config: SweepConfig, location: str, collection: Collection | None = None
    ) -> None:
        self._client = client
        self._sweep = (location, json.dumps(config.to_mapping()), collection)
        self._tasks: dict[Future[Outcome], tuple[Kind, Point, Point | None]] = {}
        self._faults: Counter[tuple[Kind, Point]] = Counter()
        self._address = str(client.scheduler_info(n_workers=0)["address"])
        self._alone_since: float | None = None
        self._is_warned = False

    @property
    def capacity(self) -> int:
        """One task for each worker, and one more that is ready when a worker becomes free."""
        with self._connection():
            return max(1, self._workers()) + 1

    def submit_fit(self, point: Point, start: Point | None) -> None:
        """Submit a fit. Fits have priority, because other tasks wait for them."""
        self._submit("fit", point, start)

    def submit_analysis(self, point: Point) -> None:
        """Submit an analysis."""
        self._submit("analysis", point, None)

    def _submit(self, kind: Kind, point: Point, start: Point | None) -> None:
        fault = self._faults[kind, point]
        with self._connection():
            future = self._client.submit(
                compute,
                _version(),
                *self._sweep,
                kind,
                point,
                start,
                key=f"{kind}-run{point.run.id}-{point.axis}={point.value:.10g}-{fault}-{id(self)}",
                priority=int(kind == "fit"),
                pure=False,
            )
        self._tasks[future] = kind, point, start

    def wait(self, report: Report) -> list[Outcome]:  # noqa: ARG002 - workers report nothing while a task runs
        """Return the outcomes of finished tasks. A task that broke is submitted again, up to :data:`ATTEMPTS` times.

        Raises
        ------
        WorkersError
            If the scheduler no longer answers, or a worker has another hesstore.
        """
        with self._connection():
            try:
                with self._client.as_current():  # not the default client: this process may use Dask for other work too
                    done = wait(list(self._tasks), timeout=POLL_SECONDS, return_when="FIRST_COMPLETED").done
            except TimeoutError:
                done = set()
                self._warn_without_workers()
        outcomes: list[Outcome] = []
        for future in done:
            task = self._tasks.pop(future)
            fault = _fault(future)
            outcomes += [future.result()] if fault is None else self._retry(*task, fault)
        return outcomes

    @contextmanager
    def _connection(self) -> Iterator[None]:
        """Raise :class:`WorkersError` if the connection to the scheduler is lost."""
        cause: BaseException | None = None
        try:
            yield
        except (OSError, FutureCancelledError, FuturesCancelledError) as error:
            cause = error
        if cause is not None or self._client.status != "running":
            raise WorkersError(
                f"dask: the scheduler at {self._address} no longer answers: start it and its workers again, then run "
                "the same command to continue"
            ) from cause

    def _workers(self) -> int:
        return len(self._client.scheduler_info(n_workers=-1)["workers"])

    def _warn_without_workers(self) -> None:
        """Warn once if no worker has been connected for :data:`PATIENCE_SECONDS`."""
        if self._workers():
            self._alone_since = None
            return
        self._alone_since = self._alone_since or time.monotonic()
        if time.monotonic() - self._alone_since >= PATIENCE_SECONDS and not self._is_warned:
            self._is_warned = True
            message = f"dask: no worker is connected to the scheduler at {self._address}: the sweep waits for one"
            warnings.warn(DeviceWarning(message), stacklevel=2)

    def _retry(self, kind: Kind, point: Point, start: Point | None, fault: BaseException) -> list[Outcome]:
        """Submit a broken task again, or return its outcome if it has broken too often."""
        if isinstance(fault, HesstoreError):
            raise fault  # such as an unusable store or device, with which every task would fail
        if isinstance(fault, ImportError):
            raise WorkersError(
                f"dask: a worker can't carry out a task ({fault}): install {_version()} there"
            ) from fault
        self._faults[kind, point] += ATTEMPTS if isinstance(fault, KilledWorker) else 1
        if self._faults[kind, point] < ATTEMPTS:
            self._submit(kind, point, start)
            return []
        reason = f"{kind} failed {ATTEMPTS} times, the last time with {type(fault).__name__}: {fault}"
        return [Outcome.failed(point, reason)]

    def withdraw(self) -> list[Point]:
        """Cancel the tasks that no worker has, and return their grid points."""
        with self._connection():
            on_workers = {key for keys in self._client.processing().values() for key in keys}
            waiting = [future for future in self._tasks if future.key not in on_workers and not future.done()]
            self._client.cancel(waiting)
        return [self._tasks.pop(future)[1] for future in waiting]


def _fault(future: Future[Outcome]) -> BaseException | None:
    """The error of a task that did not finish; None if it finished."""
    if future.status == "finished":
        return None
    error: BaseException | None = future.exception() if future.status == "error" else None
    return error or RuntimeError(f"the task was {future.status}")


# -- on the workers -------------------------------------------------------------------------------------------

_prepared: dict[tuple[str, str, Collection | None], Worker] = {}
_one_at_a_time = threading.Lock()  # because the tasks of a worker share its programs and buffers


def compute(
    version: str,
    location: str,
    config: str,
    collection: Collection | None,
    kind: Kind,
    point: Point,
    start: Point | None,
) -> Outcome:
    """Carry out one task. Its large arrays are in the store when this function returns.

    Raises
    ------
    WorkersError
        If the driver has another ``version`` of hesstore.
    """
    if version != _version():
        raise WorkersError(
            f"dask: the worker at {get_worker().address} has {_version()}, but the driver has {version}: install the "
            "same version on all machines"
        )
    settings = _settings(config)
    with _one_at_a_time, computing_on(resolve_device(settings["device"]), settings["threads"]):
        worker = _prepare_worker(location, config, collection, settings)
        (outcome,) = worker.fit([point], [start]) if kind == "fit" else worker.analyse([point])
        arrays = {name: on_host(value) for name, value in outcome.values.items() if BY_NAME[name].is_large}
        entries = {name: value for name, value in outcome.values.items() if name not in arrays}
        digest = worker.store.put_arrays(point.run, point.index, outcome.status, arrays) if arrays else None
        return Outcome(point, outcome.status, entries, outcome.facts, digest)


@cache
def _version() -> str:
    """The version of hesstore, and that of the schema, which the driver and its workers must share."""
    return f"hesstore {metadata.version('hesstore')} with schema {SCHEMA_VERSION}"


def _settings(config: str) -> dict[str, Any]:
    """The settings of a sweep on this worker: one model at a time, and its share of the machine."""
    settings: dict[str, Any] = {**json.loads(config), "models": 1}
    settings["device"] = _device(settings["device"])
    if sharers := int(os.environ.get(SHARERS, "0")):
        settings["threads"] = settings["threads"] or _threads(sharers)
    return settings


def _prepare_worker(location: str, config: str, collection: Collection | None, settings: dict[str, Any]) -> Worker:
    """Return this process's worker for a sweep; prepare it at the sweep's first task."""
    key = location, config, collection
    if key not in _prepared:
        if sharers := int(os.environ.get(SHARERS, "0")):
            free = free_memory(resolve_device(settings["device"])) / 2 / GIB
            settings = {**settings, "memory_gib": (settings["memory_gib"] or free) / sharers}
        store = SweepStore.open(location)
        with warnings.catch_warnings():  # the driver has already shown these warnings
            warnings.simplefilter("ignore", HesstoreWarning)
            experiment = Experiment.prepare(
                SweepConfig.from_mapping(settings), store, reread=False, collection=collection
            )
        store.require(experiment.identity())
        record_environment(store, experiment.environment)
        _prepared.clear()  # to free the memory of an earlier sweep
        _prepared[key] = Worker(experiment, store, remember=False)
    return _prepared[key]


def _device(name: str) -> str:
    """The device of this worker. Several GPUs are divided among the workers, by their numbers or addresses."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name not in {"auto", "cuda"} or count < 2:
        return name
    worker = get_worker()
    number = worker.name if isinstance(worker.name, int) else zlib.crc32(str(worker.address).encode())
    return f"cuda:{number % count}"
