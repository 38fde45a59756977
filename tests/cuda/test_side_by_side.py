"""The analyses of a run take place while its next fits do, in another thread and on another stream."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hesstore import run_sweep
from hesstore.engine.experiment import Experiment
from hesstore.engine.worker import Worker
from hesstore.errors import DeviceWarning
from tests.cuda.test_sweep import assert_equal_results, config
from tests.support.stand_in_device import Machine, RaceError
from tests.support.sweeps import results

SETTINGS = {"l2": "0,0.001,0.002,0.005", "response": 0, "probes": 0, "lowest": 0}
SECONDS = 60

Patch = pytest.MonkeyPatch


@pytest.fixture(scope="module")
def on_cpu(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cpu") / "s.zarr"
    run_sweep(config(SETTINGS, "cpu"), path)
    return path


def before(patch: Patch, name: str, call: Callable[[int], object]) -> None:
    """Have the experiment call a function with the index of the grid point before a fit or an analysis."""
    method = getattr(Experiment, name)

    def wrapped(experiment: Experiment, thetas: Any, points: Any, *rest: Any) -> object:
        call(points[0].index)
        return method(experiment, thetas, points, *rest)

    patch.setattr(Experiment, name, wrapped)


@pytest.mark.slow
def test_an_analysis_runs_while_the_next_point_is_fitted(
    machine: Machine, tmp_path: Path, monkeypatch: Patch, on_cpu: Path
) -> None:
    """Each waits until the other one has begun, which one after the other would never do; the first analysis is alone.

    The stand-in device raises if a stream uses memory of the other one without waiting for it.
    """
    fits, analyses = (defaultdict[int, threading.Event](threading.Event) for _ in range(2))
    streams = set()

    def fit(index: int) -> None:
        fits[index].set()
        assert index < 2 or analyses[index - 1].wait(SECONDS)

    def analyse(index: int) -> None:
        streams.add((threading.current_thread().name.partition("_")[0], machine.current_stream("cuda:0").id))
        analyses[index].set()
        assert index in {0, 3} or fits[index + 1].wait(SECONDS)

    before(monkeypatch, "fit", fit)
    before(monkeypatch, "analyse", analyse)
    run_sweep(config(SETTINGS, "cuda:0"), tmp_path / "s.zarr")
    assert sorted(name for name, _ in streams) == ["MainThread", "hesstore-analysis"]
    assert len({stream for _, stream in streams}) == 2
    assert_equal_results(results(tmp_path / "s.zarr"), results(on_cpu))


@pytest.mark.slow
def test_weights_that_the_next_fit_changes_are_caught(machine: Machine, tmp_path: Path, monkeypatch: Patch) -> None:
    """A planted fault: the analysis reads the weights of the trainer instead of a copy."""
    monkeypatch.setattr(Worker, "weights", lambda worker, _: worker.experiment.trainer(1)._theta[0])
    with pytest.raises(RaceError):
        run_sweep(config(SETTINGS, "cuda:0"), tmp_path / "s.zarr")


@pytest.mark.slow
@pytest.mark.parametrize("thread", ["hesstore-analysis_0", "MainThread"])
def test_running_out_of_memory(machine: Machine, tmp_path: Path, monkeypatch: Patch, on_cpu: Path, thread: str) -> None:
    """An analysis is done again alone. A fit is done again with smaller sizes, once no analysis runs."""
    armed = threading.Event()

    def fail(_: object) -> None:
        if armed.is_set() and threading.current_thread().name == thread:
            armed.clear()
            raise torch.OutOfMemoryError("CUDA out of memory")

    first = iter([armed.set])

    def arm(index: int) -> None:
        for call in first if index == 2 else ():
            call()

    before(monkeypatch, "fit" if thread == "MainThread" else "analyse", arm)
    machine.before_kernel.append(fail)
    if thread == "MainThread":
        with pytest.warns(DeviceWarning, match="out of memory .*: the sweep continues with"):
            run_sweep(config(SETTINGS, "cuda:0"), tmp_path / "s.zarr")
    else:
        run_sweep(config(SETTINGS, "cuda:0"), tmp_path / "s.zarr")
    assert not armed.is_set()
    assert_equal_results(results(tmp_path / "s.zarr"), results(on_cpu))
