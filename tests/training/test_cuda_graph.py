"""The recording of a training step, against stand-ins for PyTorch's graphs, streams and devices."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from inspect import signature
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from hesstore.errors import DeviceWarning
from hesstore.problem.models import build
from hesstore.training import FitSettings, Trainer, cuda_graph
from hesstore.training.cuda_graph import GraphedStep, graph_or_eager
from tests.support import toy

SETTINGS = FitSettings(
    optimizer="adam",
    lr=1.5e-3,
    momentum=0.9,
    batch_size=16,
    epochs=1,
    patience=5,
    stop_on="objective",
    keep="best",
    penalty_scale=0.5,
)
FIRST, SECOND = torch.device("cuda:0"), torch.device("cuda:1")


class OnSecondGpu(Tensor):
    """A tensor that says it is on the second GPU."""

    device = SECOND


@dataclass(eq=False)
class Stream:
    device: torch.device
    priority: int = 0

    def wait_stream(self, other: object) -> None:
        pass


@dataclass(eq=False)
class Graph:
    kernels: list[Callable[[], object]] = field(default_factory=list)

    def replay(self) -> None:
        for kernel in self.kernels:
            kernel()


class Gpus:
    """Two GPUs whose kernels run on the CPU; a kernel that is launched during a capture is recorded instead.

    As with CUDA, only what is launched on the stream of the capture is recorded.
    """

    def __init__(self) -> None:
        self.device, self.stream = FIRST, Stream(SECOND)
        self.capture: tuple[Graph, Stream] | None = None
        self.modes: list[str] = []
        self.failure: RuntimeError | None = None
        self.loses_kernels = False

    def launch(self, kernel: Callable[[], object]) -> None:
        if self.capture is None:
            kernel()
        elif self.failure is not None:
            raise self.failure
        elif not self.loses_kernels:
            graph, stream = self.capture
            assert self.stream is stream
            graph.kernels.append(kernel)

    @contextmanager
    def on_device(self, device: torch.device) -> Iterator[None]:
        before, self.device = self.device, device
        yield
        self.device = before

    @contextmanager
    def on_stream(self, stream: Stream) -> Iterator[None]:
        before, self.stream = self.stream, stream
        try:
            yield
        finally:
            self.stream = before

    @contextmanager
    def graph(self, graph: Graph, *, stream: Stream, capture_error_mode: str) -> Iterator[None]:
        assert self.device == stream.device == SECOND
        self.modes.append(capture_error_mode)
        before, self.stream = self.stream, stream
        self.capture = graph, stream
        try:
            yield
        except RuntimeError:
            raise RuntimeError("the capture is invalid") from None  # PyTorch leaves the stream as it is
        else:
            self.stream = before
        finally:
            self.capture = None


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Gpus:
    found = Gpus()
    for name, stub in {
        "device": found.on_device,
        "stream": found.on_stream,
        "current_stream": lambda _: found.stream,
        "Stream": Stream,
        "CUDAGraph": Graph,
        "graph": found.graph,
    }.items():
        monkeypatch.setattr(torch.cuda, name, stub)
    return found


@dataclass
class Adding:
    """A step that adds its input and a constant to a sum."""

    gpus: Gpus
    total: Tensor = field(default_factory=lambda: torch.zeros(3))
    constant: Tensor = field(default_factory=lambda: torch.ones(3))

    def __call__(self, argument: Tensor) -> None:
        total, constant = self.total, weakref.ref(self.constant)

        def kernel() -> None:
            value = constant()
            assert value is not None, "use after free"
            total.add_(argument.as_subclass(Tensor) + value)

        self.gpus.launch(kernel)


def record(step: Adding) -> Callable[[Tensor], None]:
    example = torch.zeros(3).as_subclass(OnSecondGpu)
    return graph_or_eager(step, example, torch.full((3,), 5.0), [step.total])


def test_the_graph_is_recorded_on_the_device_of_its_input(gpus: Gpus) -> None:
    """It is not the current device, and the calls of other threads do not disturb the capture."""
    current = gpus.stream
    step = Adding(gpus)
    graphed = record(step)
    assert isinstance(graphed, GraphedStep)
    assert gpus.modes == ["thread_local"]
    assert (gpus.device, gpus.stream) == (FIRST, current)
    step.total.zero_()
    graphed(torch.full((3,), 2.0))
    graphed(torch.full((3,), 7.0))
    assert step.total.tolist() == [11.0] * 3


def test_a_graph_keeps_what_it_needs(gpus: Gpus) -> None:
    step = Adding(gpus)
    total, constant = step.total, weakref.ref(step.constant)
    graphed = record(step)
    del step
    gc.collect()
    before = total.clone()
    graphed(torch.zeros(3))
    assert (total - before).tolist() == [1.0] * 3
    del graphed
    gc.collect()
    assert constant() is None


def test_a_graph_that_does_nothing_is_not_used(gpus: Gpus) -> None:
    gpus.loses_kernels = True
    step = Adding(gpus)
    with pytest.warns(DeviceWarning, match="replay of its CUDA graph differs from it by 1 of what it changes"):
        assert record(step) is step


def test_a_step_that_can_not_be_recorded_runs_eagerly(gpus: Gpus) -> None:
    gpus.failure = RuntimeError("operation not permitted\nwhen stream is capturing")
    step, current = Adding(gpus), gpus.stream
    with pytest.warns(DeviceWarning, match=r"can't be recorded as a CUDA graph \(.*\): its kernels are launched one"):
        assert record(step) is step
    assert gpus.stream is current


def test_running_out_of_memory_is_no_reason_to_run_eagerly(gpus: Gpus) -> None:
    step = Adding(gpus)

    def exhausted(_: object) -> None:
        raise torch.cuda.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        graph_or_eager(exhausted, torch.zeros(3).as_subclass(OnSecondGpu), torch.zeros(3), [step.total])


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("copies", [1, 2])
def test_a_replay_starts_from_the_same_state(monkeypatch: pytest.MonkeyPatch, optimizer: str, copies: int) -> None:
    """A graph that replays the step itself has exactly the same effect, since all that the step changes is restored."""
    monkeypatch.setattr(cuda_graph, "TOLERANCE", 0.0)
    monkeypatch.setattr(torch.cuda, "device", lambda _: nullcontext())

    def record(step: Callable[[Tensor], None], static: Tensor) -> object:
        for _ in range(3):
            step(static)
        return SimpleNamespace(replay=lambda: step(static))

    monkeypatch.setattr(cuda_graph, "_record", record)
    model = build("mlp", (6, 5), (5,), 3, seed=0)
    x, y = toy.blobs(50)
    trainer = Trainer(model, x.float(), y, replace(SETTINGS, optimizer=optimizer), copies=copies)
    trainer._l2.fill_(0.01)
    with torch.no_grad():
        assert isinstance(trainer._make_graphed_steps(2, 16), GraphedStep)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_graph_on_each_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Newer versions of PyTorch check that the inputs of a graph stay alive."""
    graph = torch.cuda.graph

    def checked(recorded: torch.cuda.CUDAGraph, *, stream: torch.cuda.Stream, capture_error_mode: str) -> object:
        options: dict[str, Any] = (
            {"check_input_liveness": True} if "check_input_liveness" in signature(graph).parameters else {}
        )
        return graph(recorded, stream=stream, capture_error_mode=capture_error_mode, **options)

    monkeypatch.setattr(torch.cuda, "graph", checked)
    x, y = toy.blobs(50)
    for index in range(torch.cuda.device_count()):
        model = build("mlp", (6, 5), (5,), 3, seed=0)
        model.module.to(f"cuda:{index}", torch.float64)
        trainer = Trainer(model, x.to(f"cuda:{index}"), y.to(f"cuda:{index}"), SETTINGS, copies=2)
        with torch.no_grad():
            step = trainer._make_steps(2, 16)
            assert isinstance(step, GraphedStep)
            gc.collect()
            step(torch.arange(32, device=f"cuda:{index}").view(1, 2, 16).expand(2, -1, -1))
            assert bool(torch.isfinite(trainer._total).all())
