"""How far the sweep of a store is, from the store alone: what is done, what is next, how long the rest may take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from hesstore.errors import AnalysisError, CorruptStoreError
from hesstore.store.schema import Status

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

Phase = Literal["fitting", "analysing"]

RECENT = 9
"""λ of a run whose median is its pace: fits get shorter and longer along λ."""

_READ = ("fit_seconds", "analysis_seconds", "accuracy", "class_accuracy", "eigenvalues")


@dataclass(frozen=True)
class Result:
    """What a complete λ is told by; None for what the store lacks.

    Attributes
    ----------
    l2 : float
        Which λ.
    test_accuracy : float
        Fraction of the test rows that are right.
    worst_class : int
        The class of the lowest test accuracy.
    worst_class_accuracy : float
        That accuracy.
    eigenvalue : float
        The first eigenvalue, nat.
    """

    l2: float
    test_accuracy: float | None
    worst_class: int | None
    worst_class_accuracy: float | None
    eigenvalue: float | None


@dataclass(frozen=True)
class RunProgress:
    """How far one run is.

    Attributes
    ----------
    run, seed, direction
        Which run.
    pending, fitted, complete, failed : int
        λ by status; together they are all.
    current : float, optional
        The first λ in the run's direction that is not finished; None once all are.
    phase : str, optional
        What comes next for it: ``fitting`` or ``analysing``. Whether anybody is at it the Dataset does not know.
    last : Result, optional
        The last complete λ in the run's direction.
    seconds_each : float, optional
        Median seconds of the latest complete λ, fit and analysis together; of other runs, if this one has none.
    seconds_left : float, optional
        Seconds that the rest takes at that pace, one λ after the other; None if nothing tells.
    """

    run: int
    seed: int
    direction: str
    pending: int
    fitted: int
    complete: int
    failed: int
    current: float | None
    phase: Phase | None
    last: Result | None
    seconds_each: float | None
    seconds_left: float | None

    @property
    def total(self) -> int:
        """All λ."""
        return self.pending + self.fitted + self.complete + self.failed

    @property
    def finished(self) -> int:
        """λ that are complete or failed."""
        return self.complete + self.failed


@dataclass(frozen=True)
class Progress:
    """How far a store is: its runs, and the sums over them."""

    runs: tuple[RunProgress, ...]

    @property
    def total(self) -> int:
        """All λ of all runs."""
        return sum(run.total for run in self.runs)

    @property
    def complete(self) -> int:
        """λ that are complete."""
        return sum(run.complete for run in self.runs)

    @property
    def failed(self) -> int:
        """λ that failed."""
        return sum(run.failed for run in self.runs)

    @property
    def finished(self) -> int:
        """λ that are complete or failed."""
        return self.complete + self.failed

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to do."""
        return self.finished == self.total

    @property
    def at(self) -> RunProgress:
        """The run to look at: the first that is under way, else the first to come; once all is done, the last."""
        unfinished = [run for run in self.runs if run.current is not None]
        begun = [run for run in unfinished if run.pending < run.total]
        return (begun or unfinished or list(self.runs[-1:]))[0]

    @property
    def last(self) -> Result | None:
        """The latest result of :attr:`at`, else of the nearest earlier run that has one."""
        before = self.runs[: self.runs.index(self.at) + 1]
        return next((run.last for run in reversed(before) if run.last is not None), None)

    @property
    def seconds_each(self) -> float | None:
        """Median seconds of the latest λ of :attr:`at`."""
        return self.at.seconds_each

    @property
    def seconds_left(self) -> float | None:
        """Seconds for all that is left, one λ after the other; None if nothing tells."""
        left = [run.seconds_left for run in self.runs]
        return None if any(each is None for each in left) else float(sum(each for each in left if each is not None))


def of(ds: xr.Dataset) -> Progress:
    """The progress of a store, as ``hesstore.open`` or ``xr.open_zarr`` opened it; a sweep may be writing to it.

    Only small variables are read, status first: what it promises was there before it.

    Raises
    ------
    AnalysisError
        If ``ds`` is no such Dataset.
    CorruptStoreError
        If what says so is damaged.

    Examples
    --------
    >>> import hesstore
    >>> from hesstore.dataset import progress
    >>> far = progress.of(hesstore.open("quickstart.zarr"))  # doctest: +SKIP
    >>> far.complete, far.total  # doctest: +SKIP
    (16, 16)
    """
    missing = [name for name in ("status", *_READ) if name not in ds]
    if missing or ds["status"].dims != ("run", "l2") or not ds["status"].size:
        lacks = f" (it lacks {', '.join(missing)})" if missing else ""
        raise AnalysisError(f"this is not the Dataset of a whole store{lacks}: give the one that hesstore.open returns")
    small = ds[["status", *_READ]].copy()  # what a Dataset has once read it keeps; a copy reads anew
    try:
        status = small["status"].values
        small = small[[*_READ]].load()
    except (ValueError, RuntimeError) as error:
        raise CorruptStoreError(f"a small variable is damaged ({error}): `hesstore verify` says which") from error
    seconds = (small["fit_seconds"] + small["analysis_seconds"]).values
    ways = [slice(None, None, -1) if str(each) == "down" else slice(None) for each in ds["direction"].values]
    of_all = _median(seconds[status == Status.COMPLETE])
    return Progress(tuple(_run(small, row, status[row], way, of_all) for row, way in enumerate(ways)))


def _run(small: xr.Dataset, row: int, status: NDArray[np.int8], way: slice, of_all: float | None) -> RunProgress:
    """Of the run in ``row``, whose λ are visited the ``way`` given; ``of_all`` is the median seconds of all runs."""
    part = small.isel(run=row)
    order = np.arange(len(status))[way]
    complete = order[status[order] == Status.COMPLETE]
    left = order[status[order] < Status.COMPLETE]
    counts = {each.name.lower(): int((status == each).sum()) for each in Status}
    latest = part.isel(l2=complete[-RECENT:])
    each = _median((latest["fit_seconds"] + latest["analysis_seconds"]).values)
    each = of_all if each is None else each
    fits = part["fit_seconds"].values[status == Status.FITTED]  # of these only the analysis is left
    return RunProgress(
        run=int(part["run"]),
        seed=int(part["seed"]),
        direction=str(part["direction"].values),
        **counts,
        current=float(part["l2"][left[0]]) if len(left) else None,
        phase=None if not len(left) else "analysing" if status[left[0]] == Status.FITTED else "fitting",
        last=_result(part.isel(l2=int(complete[-1]))) if len(complete) else None,
        seconds_each=each,
        seconds_left=0.0 if not len(left) else None if each is None else _left(each, len(left), fits),
    )


def _left(each: float, count: int, fits: NDArray[np.float64]) -> float:
    return max(0.0, each * count - float(np.nansum(np.minimum(fits, each))))


def _result(cell: xr.Dataset) -> Result:
    classes = cell["class_accuracy"].sel(split="test").values
    known = bool(np.isfinite(classes).any())  # an import may lack them
    worst = int(np.nanargmin(classes)) if known else None
    return Result(
        l2=float(cell["l2"]),
        test_accuracy=_finite(float(cell["accuracy"].sel(split="test"))),
        worst_class=worst,
        worst_class_accuracy=None if worst is None else float(classes[worst]),
        eigenvalue=_finite(float(cell["eigenvalues"][0])),
    )


def worst_class(class_accuracy: NDArray[np.float64]) -> tuple[int, float] | None:
    """The label of the lowest of accuracies by class (C,), and that accuracy; None if all are NaN."""
    if not np.isfinite(class_accuracy).any():
        return None
    label = int(np.nanargmin(class_accuracy))
    return label, float(class_accuracy[label])


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _median(values: NDArray[np.float64]) -> float | None:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else None
