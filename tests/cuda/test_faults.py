"""Faults that a GPU would not report, planted in the engine: the stand-in device catches each of them.

A fault is caught if the stand-in device raises, if a warning is issued, or if the results differ from the CPU's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from hesstore.engine.devices import HostCopy
from hesstore.measure import class_response
from hesstore.training import Trainer
from tests.support import device_work
from tests.support.stand_in_device import (
    CaptureError,
    FreedMemoryError,
    HostCopyError,
    Machine,
    MixedDevicesError,
    RaceError,
    stand_in,
)
from tests.support.stand_in_device.streams import Stream

Patch = pytest.MonkeyPatch
Step = Callable[[Tensor], None]


def choose_steps(device: str) -> Tensor:
    """Step lengths from slopes on the device and eigenvalues of the solver, which are on the host."""
    slope, eigenvalues = torch.tensor([0.5, -0.25], device=device), torch.tensor([2.0, 1.0])
    return class_response.choose_steps(slope, eigenvalues.to(slope.device), 0.1, 1.0).length.cpu()


SCENARIOS: tuple[Callable[[str], Tensor], ...] = (
    device_work.train,
    device_work.train_stack,
    device_work.train_with_constant,
    device_work.search,
    device_work.copy_home,
    choose_steps,
)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_without_a_fault_the_results_are_those_of_the_cpu(machine: Machine, scenario: Callable[[str], Tensor]) -> None:
    """On a device that is not the current one; the faults are planted on the one that is."""
    assert torch.allclose(scenario("cuda:1"), scenario("cpu"), rtol=1e-9, atol=1e-12)


# -- the faults -----------------------------------------------------------------------------------------------


def read_a_host_copy_early(patch: Patch) -> None:
    patch.setattr(HostCopy, "numpy", lambda copy: copy._host.numpy())


def reuse_pinned_memory(patch: Patch) -> None:
    """All permutations are drawn into the same memory, while the copy of the last one is under way."""
    buffers: list[Tensor] = []

    def pin_memory(self: Tensor) -> Tensor:
        if not buffers:
            buffers.append(pin(self))
        return buffers[0].copy_(self)

    pin = Tensor.pin_memory
    patch.setattr(Tensor, "pin_memory", pin_memory)


def copy_from_pageable_memory(patch: Patch) -> None:
    patch.setattr(Tensor, "pin_memory", Tensor.clone)


def copy_to_pageable_memory(patch: Patch) -> None:
    empty = torch.empty
    patch.setattr(torch, "empty", lambda *size, **options: empty(*size, **{**options, "pin_memory": False}))


def in_step(extra: Callable[[Trainer, Tensor], object]) -> Callable[[Patch], None]:
    """A fault that is one more operation in the training step; it is called with the trainer and the losses."""

    def plant(patch: Patch) -> None:
        bind = Trainer._bind_gradient

        def bind_with_fault(trainer: Trainer, size: int) -> Callable[[Tensor, Tensor], Tensor]:
            loss_and_gradient = bind(trainer, size)

            def faulty(x: Tensor, y: Tensor) -> Tensor:
                losses = loss_and_gradient(x, y)
                extra(trainer, losses)
                return losses

            return faulty

        patch.setattr(Trainer, "_bind_gradient", bind_with_fault)

    return plant


def leave_coefficients_on_the_host(patch: Patch) -> None:
    prepare = Trainer._prepare

    def prepare_on_host(trainer: Trainer, *arguments: Any) -> None:
        trainer._l2 = trainer._l2.cpu()
        prepare(trainer, *arguments)

    patch.setattr(Trainer, "_prepare", prepare_on_host)


def leave_eigenvalues_on_the_host(patch: Patch) -> None:
    choose = class_response.choose_steps
    patch.setattr(class_response, "choose_steps", lambda slope, mu, *rest: choose(slope, mu.cpu(), *rest))


def draw_on_the_device(patch: Patch) -> None:
    """Random vectors are drawn on the device, with a generator of the host."""
    randn = torch.randn
    patch.setattr(torch, "randn", lambda *size, **options: randn(*size, **{**options, "device": "cuda:0"}))


def capture_on_the_first_device(patch: Patch) -> None:
    graph, stream = torch.cuda.graph, torch.cuda.Stream
    patch.setattr(torch.cuda, "graph", lambda captured, **_: graph(captured, stream=stream("cuda:0")))  # type: ignore[no-untyped-call]


def capture_without_waiting(patch: Patch) -> None:
    patch.setattr(Stream, "wait_stream", lambda *_: None)


def capture_in_global_mode(patch: Patch) -> None:
    """A thread waits for an event during the capture, as the one that writes results may do."""
    graph = torch.cuda.graph
    patch.setattr(torch.cuda, "graph", lambda captured, stream=None, **_: graph(captured, stream=stream))

    def wait() -> None:
        with suppress(CaptureError):
            torch.cuda.Event().synchronize()  # type: ignore[no-untyped-call]

    def wait_elsewhere(*_: object) -> None:
        thread = threading.Thread(target=wait)
        thread.start()
        thread.join()

    in_step(wait_elsewhere)(patch)


def with_capture(capture: Callable[[Step, Tensor], Step]) -> Callable[[Patch], None]:
    """A fault in the function that captures a step, given an example of its input."""

    def plant(patch: Patch) -> None:
        def make_steps(trainer: Trainer, count: int, size: int) -> Step:
            example = torch.zeros(count, trainer.copies, size, dtype=torch.int64, device=trainer.x.device)
            return capture(trainer._make_eager_steps(size), example)

        patch.setattr(Trainer, "_make_steps", make_steps)

    return plant


def captured_graph(step: Step, static: Tensor) -> torch.cuda.CUDAGraph:
    """The graph of a step, captured as it should be."""
    step(static)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=torch.cuda.Stream(static.device)):  # type: ignore[no-untyped-call]
        step(static)
    return graph


def without_fault(step: Step, example: Tensor) -> Step:
    static = example.clone()
    graph = captured_graph(step, static)

    def replay(argument: Tensor) -> None:
        assert step is not None  # which keeps it
        static.copy_(argument)
        graph.replay()

    return replay


def forgetting_the_step(step: Step, example: Tensor) -> Step:
    """Nothing keeps the constants that the step was traced with."""
    static = example.clone()
    graph = captured_graph(step, static)

    def replay(argument: Tensor) -> None:
        static.copy_(argument)
        graph.replay()

    return replay


def with_a_stale_input(step: Step, example: Tensor) -> Step:
    graph = captured_graph(step, example)

    def replay(argument: Tensor) -> None:
        assert step is not None
        assert example is not None
        graph.replay()

    return replay


def trusting_the_capture(step: Step, example: Tensor) -> Step:
    """The first call does not replay, as if the capture had executed the step."""
    static = example.clone()
    calls: list[Step] = []
    graph = captured_graph(step, static)

    def replay(argument: Tensor) -> None:
        static.copy_(argument)
        if calls:
            graph.replay()
        calls.append(step)

    return replay


@dataclass(frozen=True)
class Fault:
    """A fault, the work in which it shows, and how it is caught."""

    plant: Callable[[Patch], None]
    scenario: Callable[[str], Tensor]
    raises: tuple[type[Exception], ...] = ()
    device: str = "cuda:0"


FAULTS = {
    "a host copy read early": Fault(read_a_host_copy_early, device_work.copy_home),
    "pinned memory reused early": Fault(reuse_pinned_memory, device_work.train, (HostCopyError,)),
    "a copy from pageable memory": Fault(copy_from_pageable_memory, device_work.train, (HostCopyError,)),
    "a copy to pageable memory": Fault(copy_to_pageable_memory, device_work.copy_home, (HostCopyError,)),
    "float() in the step": Fault(
        in_step(lambda _, losses: float(losses.sum())), device_work.train, (CaptureError, Warning)
    ),
    "a tensor made from a list in the step": Fault(
        in_step(lambda _, losses: losses[[0]]), device_work.train_stack, (CaptureError, Warning)
    ),
    "coefficients left on the host": Fault(leave_coefficients_on_the_host, device_work.train, (MixedDevicesError,)),
    "eigenvalues left on the host": Fault(leave_eigenvalues_on_the_host, choose_steps, (MixedDevicesError,)),
    "a generator of the host": Fault(draw_on_the_device, device_work.search, (MixedDevicesError,)),
    "a capture on another device": Fault(
        capture_on_the_first_device, device_work.train, (CaptureError, Warning), "cuda:1"
    ),
    "a stream that does not wait": Fault(capture_without_waiting, device_work.train, (RaceError,)),
    "a capture that other threads disturb": Fault(capture_in_global_mode, device_work.train, (CaptureError, Warning)),
    "a constant that is freed": Fault(
        with_capture(forgetting_the_step), device_work.train_with_constant, (FreedMemoryError,)
    ),
    "a stale input": Fault(with_capture(with_a_stale_input), device_work.train),
    "a capture taken for a run": Fault(with_capture(trusting_the_capture), device_work.train),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_caught(machine: Machine, monkeypatch: Patch, name: str) -> None:
    fault = FAULTS[name]
    expected = fault.scenario("cpu")
    fault.plant(monkeypatch)
    if fault.raises:
        with pytest.raises(fault.raises):
            fault.scenario(fault.device)
    else:
        assert not torch.allclose(fault.scenario(fault.device), expected, rtol=1e-6)


def test_the_capture_in_which_faults_are_planted_has_none(machine: Machine, monkeypatch: Patch) -> None:
    expected = device_work.train_with_constant("cpu")
    with_capture(without_fault)(monkeypatch)
    assert torch.allclose(device_work.train_with_constant("cuda:1"), expected, rtol=1e-9)


def test_an_empty_graph_is_noticed_without_the_stand_in(monkeypatch: Patch) -> None:
    """A GPU executes what it does not capture. PyTorch's warning or the engine's own check shows the empty graph."""
    with stand_in(strict=False):
        capture_on_the_first_device(monkeypatch)
        with pytest.raises(Warning):
            device_work.train("cuda:1")
