"""The progress of a sweep, computed from its store alone.

It says how many grid points have which status, which one comes next, how long the remaining ones may take, and how
complete the spectra are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from hesstore.analysis.selection import has_analyses
from hesstore.dataset.class_accuracy import worst_class
from hesstore.dataset.completeness import SpectrumSettings
from hesstore.errors import AnalysisError
from hesstore.store.decoding import decoding
from hesstore.store.schema import Status, axis_of

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

    from hesstore.dataset.completeness import SpectraSummary

Phase = Literal["fitting", "analysing"]

RECENT = 9
"""Number of latest grid points of a run whose median time is its pace, which changes along λ."""

_OF_FITS = ("fit_seconds", "accuracy", "class_accuracy")
_READ = (*_OF_FITS, "analysis_seconds", "eigenvalues", "eigenvalue_bound")


@dataclass(frozen=True)
class Result:
    """The main results at a complete grid point; None for values that the store lacks.

    Attributes
    ----------
    axis, value : str, float
        The name of the grid's dimension, and the value there: λ in a sweep.
    test_accuracy : float
        Fraction of the test rows that are classified correctly.
    worst_class : int
        The class with the lowest test accuracy.
    worst_class_accuracy : float
        That accuracy.
    eigenvalue : float
        The first eigenvalue, in nat.
    spectrum : str
        How complete the spectrum is, in words.
    """

    axis: str
    value: float
    test_accuracy: float | None
    worst_class: int | None
    worst_class_accuracy: float | None
    eigenvalue: float | None
    spectrum: str | None


@dataclass(frozen=True)
class RunProgress:
    """The progress of one run.

    Attributes
    ----------
    run, seed, direction
        ID, seed and direction of the run.
    pending, fitted, complete, failed : int
        Number of grid points with each status.
    current : float, optional
        λ of the first unfinished grid point in the run's direction, or its value on the ``axis`` of a collection; None
        if all are finished.
    axis : str
        The name of the grid's dimension.
    phase : str, optional
        The next step of the current grid point: ``fitting`` or ``analysing``. The store does not show whether a
        process is working on it.
    last : Result, optional
        The last complete grid point in the run's direction.
    seconds_each : float, optional
        Median time of the latest complete grid points, for fit and analysis together; that of the other runs if this
        run has none.
    seconds_left : float, optional
        Time for the remaining grid points at that pace, one after the other, in seconds; None if it is unknown.
    spectra : SpectraSummary, optional
        How complete the spectra of the complete grid points are; None if there are none.
    """

    run: int
    seed: int
    direction: str
    pending: int
    fitted: int
    complete: int
    failed: int
    current: float | None
    axis: str
    phase: Phase | None
    last: Result | None
    seconds_each: float | None
    seconds_left: float | None
    spectra: SpectraSummary | None

    @property
    def total(self) -> int:
        """Number of grid points."""
        return self.pending + self.fitted + self.complete + self.failed

    @property
    def finished(self) -> int:
        """Number of grid points that are complete or failed."""
        return self.complete + self.failed


@dataclass(frozen=True)
class Progress:
    """The progress of a store: of each run, and in total.

    Attributes
    ----------
    runs : tuple of RunProgress
        The progress of each run.
    spectra : SpectraSummary, optional
        How complete the spectra of all complete grid points are; None if there are none.
    """

    runs: tuple[RunProgress, ...]
    spectra: SpectraSummary | None

    @property
    def total(self) -> int:
        """Number of grid points of all runs."""
        return sum(run.total for run in self.runs)

    @property
    def complete(self) -> int:
        """Number of complete grid points."""
        return sum(run.complete for run in self.runs)

    @property
    def failed(self) -> int:
        """Number of failed grid points."""
        return sum(run.failed for run in self.runs)

    @property
    def finished(self) -> int:
        """Number of grid points that are complete or failed."""
        return self.complete + self.failed

    @property
    def is_over(self) -> bool:
        """Whether all grid points are finished."""
        return self.finished == self.total

    @property
    def current_run(self) -> RunProgress:
        """The current run: the first that has begun and is not finished, else the first unfinished, else the last."""
        unfinished = [run for run in self.runs if run.current is not None]
        begun = [run for run in unfinished if run.pending < run.total]
        return (begun or unfinished or list(self.runs[-1:]))[0]

    @property
    def last(self) -> Result | None:
        """The last result of the current run, else of the nearest earlier run that has one."""
        before = self.runs[: self.runs.index(self.current_run) + 1]
        return next((run.last for run in reversed(before) if run.last is not None), None)

    @property
    def seconds_each(self) -> float | None:
        """Median time of the latest grid points of the current run, in seconds."""
        return self.current_run.seconds_each

    @property
    def seconds_left(self) -> float | None:
        """Time for all remaining grid points, one after the other, in seconds; None if it is unknown."""
        left = [run.seconds_left for run in self.runs]
        return None if any(each is None for each in left) else float(sum(each for each in left if each is not None))


def progress_of(ds: xr.Dataset) -> Progress:
    """Return the progress of a store, to which a sweep may be writing at the same time.

    Only small variables are read. The status is read first, because the results that it promises were written before
    it.

    Parameters
    ----------
    ds : Dataset
        A whole store, as :func:`hesstore.open` or ``xr.open_zarr`` opened it.

    Raises
    ------
    AnalysisError
        If ``ds`` is not the Dataset of a whole store.
    CorruptStoreError
        If a small variable is damaged.

    Examples
    --------
    >>> import hesstore
    >>> from hesstore.dataset.progress import progress_of
    >>> progress = progress_of(hesstore.open("quickstart.zarr"))  # doctest: +SKIP
    >>> progress.complete, progress.total  # doctest: +SKIP
    (16, 16)
    """
    axis = axis_of(ds)
    names = _READ if has_analyses(ds) else _OF_FITS
    missing = [name for name in ("status", *names) if name not in ds]
    if missing or ds["status"].dims != ("run", axis) or not ds["status"].size:
        lacks = f" (it lacks {', '.join(missing)})" if missing else ""
        raise AnalysisError(f"this is not the Dataset of a whole store{lacks}: give the one that hesstore.open returns")
    small = ds[["status", *names]].copy()  # a Dataset caches what it has read; a copy reads again
    with decoding("a small variable"):
        status = small["status"].load().values
        small = small.load()
    overall = _median(_seconds(small)[status == Status.COMPLETE])
    settings = SpectrumSettings.of(ds.attrs)
    runs = tuple(_run_progress(small.isel(run=row), settings, overall) for row in range(len(status)))
    return Progress(runs, _spectra(small, settings))


def _spectra(ds: xr.Dataset, settings: SpectrumSettings | None) -> SpectraSummary | None:
    return None if settings is None else settings.summary(settings.spectra(ds))


def _run_progress(part: xr.Dataset, settings: SpectrumSettings | None, overall: float | None) -> RunProgress:
    """The progress of one run.

    Parameters
    ----------
    part : Dataset
        The status and the small variables of the run.
    settings : SpectrumSettings, optional
        The settings of its spectra.
    overall : float, optional
        Median time of the complete grid points of all runs, in seconds.
    """
    axis = axis_of(part)
    status = part["status"].values
    direction = str(part["direction"].values)
    order = np.arange(len(status))[:: -1 if direction == "down" else 1]
    complete = order[status[order] == Status.COMPLETE]
    left = order[status[order] < Status.COMPLETE]
    counts = {each.name.lower(): int((status == each).sum()) for each in Status}
    latest = part.isel({axis: complete[-RECENT:]})
    each = _median(_seconds(latest))
    each = overall if each is None else each
    fits = part["fit_seconds"].values[status == Status.FITTED]  # at these only the analysis is left
    return RunProgress(
        run=int(part["run"]),
        seed=int(part["seed"]),
        direction=direction,
        **counts,
        current=float(part[axis][left[0]]) if len(left) else None,
        axis=axis,
        phase=None if not len(left) else "analysing" if status[left[0]] == Status.FITTED else "fitting",
        last=_result(part.isel({axis: int(complete[-1])}), settings) if len(complete) else None,
        seconds_each=each,
        seconds_left=0.0 if not len(left) else None if each is None else _seconds_left(each, len(left), fits),
        spectra=_spectra(part, settings),
    )


def _seconds(ds: xr.Dataset) -> NDArray[np.float64]:
    """The time that each grid point took, for its fit and its analysis, if the store has analyses."""
    seconds: NDArray[np.float64] = ds["fit_seconds"].values
    return seconds + ds["analysis_seconds"].values if "analysis_seconds" in ds else seconds


def _seconds_left(each: float, count: int, fits: NDArray[np.float64]) -> float:
    """The time for ``count`` grid points that take ``each`` seconds, less the ``fits`` that are done."""
    return max(0.0, each * count - float(np.nansum(np.minimum(fits, each))))


def _result(point: xr.Dataset, settings: SpectrumSettings | None) -> Result:
    worst = worst_class(point["class_accuracy"].sel(split="test").values)
    spectra = [] if settings is None else settings.spectra(point)
    return Result(
        axis=axis_of(point),
        value=float(point[axis_of(point)]),
        test_accuracy=_finite(float(point["accuracy"].sel(split="test"))),
        worst_class=worst[0] if worst else None,
        worst_class_accuracy=worst[1] if worst else None,
        eigenvalue=_finite(float(point["eigenvalues"][0])) if "eigenvalues" in point else None,
        spectrum=spectra[0].text if spectra else None,
    )


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _median(values: NDArray[np.float64]) -> float | None:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else None
