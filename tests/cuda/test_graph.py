"""Training steps as CUDA graphs: which of them are trusted, and what happens to the others."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from hesstore.errors import DeviceWarning
from hesstore.training import Trainer, cuda_graph
from hesstore.training.cuda_graph import LAUNCHED_AHEAD, GraphedStep, graph_or_eager
from tests.support import device_work
from tests.support.device_work import BATCH, SETTINGS
from tests.support.stand_in_device import Machine
from tests.support.stand_in_device.graphs import CUDAGraph

DEVICE = "cuda:1"  # not the current one


class Adding:
    """A step that adds its input to a sum; ``float`` in it waits for the device, which no capture permits."""

    def __init__(self, *, waits: bool = False) -> None:
        self.total, self.waits = torch.zeros(3, device=DEVICE), waits

    def __call__(self, argument: Tensor) -> None:
        self.total.add_(argument)
        if self.waits:
            float(argument.sum())


def record(step: Adding) -> object:
    return graph_or_eager(step, torch.zeros(3, device=DEVICE), torch.full((3,), 5.0, device=DEVICE), [step.total])


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("copies", [1, 2])
def test_a_replay_has_exactly_the_effect_of_the_steps(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, optimizer: str, copies: int
) -> None:
    """All that the steps change is restored before the comparison."""
    monkeypatch.setattr(cuda_graph, "TOLERANCE", 0.0)
    settings = replace(SETTINGS, optimizer=optimizer)
    rows = device_work.make_rows(DEVICE)
    trainer = Trainer(device_work.make_model(DEVICE), *rows, settings, copies=copies)
    trainer._l2.fill_(0.01)
    with torch.no_grad():
        assert isinstance(trainer._make_steps(2, BATCH), GraphedStep)


def test_the_host_is_only_a_few_replays_ahead(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[torch.cuda.Event] = []
    step = Adding()
    graphed = record(step)
    assert isinstance(graphed, GraphedStep)
    graphed._launched.clear()
    monkeypatch.setattr(torch.cuda.Event, "synchronize", lambda event: waited.append(event))  # noqa: PLW0108
    counts = []
    for _ in range(5):
        graphed(torch.ones(3, device=DEVICE))
        counts.append(len(waited))
    assert counts == [0, 0, 1, 2, 3]
    assert len(graphed._launched) == LAUNCHED_AHEAD


def test_a_graph_that_does_nothing_is_not_used(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CUDAGraph, "replay", lambda _: None)
    step = Adding()
    with pytest.warns(DeviceWarning, match="replay of its CUDA graph differs from it by 1 of what it changes"):
        assert record(step) is step


def test_a_step_that_can_not_be_recorded_runs_eagerly(machine: Machine) -> None:
    step, current = Adding(waits=True), torch.cuda.current_stream(DEVICE)
    with pytest.warns(DeviceWarning, match=r"can't be recorded as a CUDA graph \(.*\): its kernels are launched one"):
        assert record(step) is step
    assert torch.cuda.current_stream(DEVICE) is current


def test_running_out_of_memory_is_no_reason_to_run_eagerly(machine: Machine) -> None:
    def exhausted(_: object) -> None:
        raise torch.cuda.OutOfMemoryError

    zeros = torch.zeros(3, device=DEVICE)
    with pytest.raises(torch.OutOfMemoryError):
        graph_or_eager(exhausted, zeros, zeros, [])
