from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import hesstore
from hesstore.config import SweepConfig
from hesstore.dataset.progress import Progress, progress_of
from hesstore.engine.sweep import SweepEvent, run_sweep
from hesstore.errors import AnalysisError
from hesstore.store import Run, Status
from hesstore.store.writing import SweepStore

MakeConfig = Callable[..., SweepConfig]


def synthetic(status: list[list[int]], seconds: list[list[float]], directions: list[str]) -> xr.Dataset:
    """Small variables of a store with three classes; fits take a third of the ``seconds`` of each grid point."""
    runs, l2 = len(status), len(status[0])
    nothing = np.array(status) < Status.COMPLETE
    took = np.array(seconds)
    classes = np.full((runs, l2, 2, 3), np.nan)
    classes[:, :, 1] = np.linspace(0.9, 0.1, l2)[:, None] * np.array([0.5, 0.25, 1.0])
    return xr.Dataset(
        {
            "status": (("run", "l2"), np.array(status, np.int8)),
            "fit_seconds": (("run", "l2"), np.where(np.array(status) == Status.PENDING, np.nan, took / 3)),
            "analysis_seconds": (("run", "l2"), np.where(nothing, np.nan, took * 2 / 3)),
            "accuracy": (("run", "l2", "split"), classes.mean(-1)),
            "class_accuracy": (("run", "l2", "split", "label"), classes),
            "eigenvalues": (("run", "l2", "mode"), np.where(nothing, np.nan, 2.5)[..., None]),
            "eigenvalue_bound": (("run", "l2"), np.where(nothing, np.nan, 2.505)),
        },
        {
            "run": np.arange(runs),
            "l2": np.arange(l2) / 100,
            "split": ["train", "test"],
            "seed": ("run", np.arange(runs) + 7),
            "direction": ("run", directions),
        },
        {"config": json.dumps({"k": 1, "which": "LM", "slack": 0.003, "dtype": "float32"})},
    )


def test_a_run_in_progress_and_one_that_waits() -> None:
    far = progress_of(synthetic([[0, 1, 3, 2], [0, 0, 0, 0]], [[9, 6, 9, 9], [0, 0, 0, 0]], ["down", "up"]))
    first, second = far.runs
    assert (first.pending, first.fitted, first.complete, first.failed) == (1, 1, 1, 1)
    assert (first.current, first.phase, first.seconds_each) == (0.01, "analysing", 9.0)
    assert first.seconds_left == pytest.approx(9 + 9 - 2)  # the fit of one grid point is done
    assert first.last is not None
    assert (first.last.value, first.last.worst_class, first.last.eigenvalue) == (0.03, 1, 2.5)
    assert first.last.test_accuracy == pytest.approx(0.1 * 1.75 / 3)
    assert first.last.worst_class_accuracy == pytest.approx(0.025)
    assert (second.current, second.phase, second.last) == (0.0, "fitting", None)
    assert (second.seconds_each, second.seconds_left) == (9.0, 36.0)  # at the pace of the other run
    assert (far.total, far.finished, far.complete, far.failed, far.is_over) == (8, 2, 1, 1, False)
    assert (far.current_run, far.last) == (first, first.last)
    assert far.seconds_left == pytest.approx(52)
    assert first.last.spectrum == "complete to 0.2 %"
    assert first.spectra is not None
    assert (first.spectra, first.spectra.text) == (far.spectra, "the spectrum is complete to 0.3 %")
    assert second.spectra is None


def test_the_pace_is_that_of_the_latest_grid_points() -> None:
    took = [100.0] * 20 + [4.0] * 9 + [0.0]
    far = progress_of(synthetic([[2] * 29 + [0]], [took], ["up"]))
    assert (far.seconds_each, far.seconds_left) == (4.0, 4.0)


def test_new_and_finished_stores() -> None:
    new = progress_of(synthetic([[0, 0]], [[0, 0]], ["up"]))
    assert (new.last, new.seconds_each, new.seconds_left, new.current_run.phase) == (None, None, None, "fitting")
    over = progress_of(synthetic([[2, 3], [2, 2]], [[1, 1], [1, 1]], ["up", "up"]))
    assert (over.is_over, over.seconds_left, over.current_run.current, over.current_run.phase) == (
        True,
        0.0,
        None,
        None,
    )
    assert over.current_run.run == 1


def test_datasets_that_are_not_whole_stores() -> None:
    whole = synthetic([[2, 2]], [[1, 1]], ["up"])
    for part in (whole.isel(run=0), whole.isel(l2=[]), whole.drop_vars("accuracy"), xr.Dataset()):
        with pytest.raises(AnalysisError, match="give the one that"):
            progress_of(part)
    bare = whole.assign(class_accuracy=whole["class_accuracy"] * np.nan)  # as in an import
    last = progress_of(bare).last
    assert last is not None
    assert last.worst_class is None


def test_progress_agrees_with_the_events_of_a_sweep(toy_config: MakeConfig, tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    ends: list[tuple[Progress, SweepEvent]] = []

    def observe(event: SweepEvent) -> None:
        if event.phase == "complete":
            ends.append((progress_of(hesstore.open(path)), event))

    run_sweep(toy_config(direction="down", epochs=1, l2="0,0.01"), path, observer=observe)
    assert [event.value for _, event in ends] == [0.01, 0.0]
    for far, event in ends:
        assert far.complete >= event.finished
        if far.complete == event.finished:
            assert far.last is not None
            assert far.last.value == event.value
            assert far.last.test_accuracy == event.facts["test_accuracy"]
            assert far.last.worst_class == event.facts["worst_class"]
            assert far.last.eigenvalue == event.facts["eigenvalue"]
    store = SweepStore.open(path)
    ds = hesstore.open(path)
    assert progress_of(ds).is_over
    store.withdraw(Run(0, 0, "down"), [1])
    assert progress_of(ds).runs[0].pending == 1  # the Dataset does not cache the values
