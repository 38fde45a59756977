"""The stand-in devices behave as CUDA devices do, as far as the tests of the engine rely on it."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.support.stand_in_device import (
    CaptureError,
    HostCopyError,
    Machine,
    MixedDevicesError,
    RaceError,
    StandInError,
    stand_in,
)

FIRST, SECOND = torch.device("cuda:0"), torch.device("cuda:1")


def test_the_devices_exist_only_within_the_context() -> None:
    before = torch.cuda.Stream, torch.empty, torch.Tensor.pin_memory
    with stand_in(3):
        assert torch.cuda.is_available()
        assert torch.cuda.device_count() == 3
        assert torch.zeros(2, device="cuda:2").device == torch.device("cuda:2")
        with pytest.raises(StandInError, match="cuda:3 does not exist: the last stand-in device is cuda:2"):
            torch.zeros(2, device="cuda:3")
    assert not torch.cuda.is_available()
    assert before == (torch.cuda.Stream, torch.empty, torch.Tensor.pin_memory)


def test_tensors_are_on_their_device(machine: Machine) -> None:
    with torch.cuda.device(1):
        assert torch.arange(3, device="cuda").device == SECOND
    x = torch.eye(2, device="cuda")
    assert x.device == FIRST
    assert (x[:, 0] + 1).to("cuda:1").is_cuda
    assert torch.tensor([1.5], device=SECOND).tolist() == [1.5]
    assert x[0].untyped_storage()._cdata == x.untyped_storage()._cdata
    with pytest.raises(TypeError, match="can't convert cuda:0 device type tensor to numpy"):
        x.numpy()


def test_operations_on_several_devices_are_refused(machine: Machine) -> None:
    x = torch.ones(3, device=FIRST)
    assert (x * torch.tensor(2.0)).tolist() == [2, 2, 2]  # a number may be on the host
    for other in (torch.ones(3), torch.ones(3, device=SECOND), torch.tensor(2.0, device=SECOND)):
        with pytest.raises(MixedDevicesError):
            x + other
    with pytest.raises(MixedDevicesError, match="'cuda' device type for generator but found 'cpu'"):
        torch.randn(3, device=FIRST, generator=torch.Generator())


def test_kernels_and_waits_are_counted(machine: Machine) -> None:
    x = torch.ones(2, 3, device=FIRST)
    machine.counts.clear()
    y = torch.sigmoid(x.T.reshape(6)[:3])
    assert machine.counts.kernels == {"aten.clone.default": 1, "aten.sigmoid.default": 1}
    assert not machine.counts.syncs
    waits: list[Callable[[], object]] = [y[0].item, y.cpu, y.nonzero, lambda: y[y > 0], lambda: y[[0]], y.tolist]
    for wait in waits:
        machine.counts.clear()
        wait()
        assert machine.counts.syncs.total() == 1, machine.counts.syncs


class Layer(nn.Module):
    """A layer whose gradient needs sums over broadcast dimensions and several uses of a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3, dtype=torch.float64)
        self.scale = nn.Parameter(torch.tensor([0.5, -2.0, 1.0], dtype=torch.float64))
        self.idle = nn.Parameter(torch.zeros(2, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.linear(x)) * self.scale
        return (h + self.scale.square() * h.mean(0)).logsumexp(1)


def test_gradients_are_those_of_pytorch(machine: Machine) -> None:
    """With respect to some of the parameters, in reverse mode twice and in forward over reverse mode."""
    x = torch.linspace(-1, 1, 20, dtype=torch.float64).view(5, 4)
    layer = Layer()
    found = []
    for device in ("cpu", "cuda:1"):
        on_device, rows = copy.deepcopy(layer).to(device), x.to(device)
        parameters = list(on_device.parameters())
        first: tuple[Tensor | None, ...] = torch.autograd.grad(
            on_device(rows).sum(), parameters, create_graph=True, allow_unused=True
        )
        square = sum((each.square().sum() for each in first if each is not None), torch.zeros((), device=device))
        second = torch.autograd.grad(square, parameters[::2])

        def loss(scale: Tensor) -> Tensor:
            out: Tensor = torch.func.functional_call(on_device, {"scale": scale}, (rows,))  # noqa: B023
            return out.square().sum()

        third = torch.func.jvp(torch.func.grad(loss), (parameters[0].detach(),), (torch.ones_like(parameters[0]),))[1]
        assert first[1] is None
        found.append([each.detach().cpu() for each in (*first, *second, third) if each is not None])
    assert all(torch.allclose(a, b, rtol=1e-12) for a, b in zip(*found, strict=True))


def test_an_event_waits_for_the_copies_before_it(machine: Machine) -> None:
    early, late = torch.cuda.Event(), torch.cuda.Event()  # type: ignore[no-untyped-call]
    host = torch.empty(3, pin_memory=True)
    early.record()
    host.copy_(torch.ones(3, device=FIRST), non_blocking=True)
    late.record()
    early.synchronize()
    assert host.isnan().all()
    late.synchronize()
    assert host.tolist() == [1, 1, 1]


def test_pinned_memory_must_not_change_before_it_is_copied(machine: Machine) -> None:
    host = torch.ones(3).pin_memory()
    copied = host.to(FIRST, non_blocking=True)
    host.zero_()
    with pytest.raises(HostCopyError, match="pinned memory changed before"):
        copied.cpu()
    with pytest.raises(HostCopyError, match="memory that is not pinned"):
        torch.ones(3).to(FIRST, non_blocking=True)


def test_streams_that_do_not_wait_are_a_race(machine: Machine) -> None:
    x = torch.ones(3, device=FIRST)
    stream = torch.cuda.Stream(FIRST)  # type: ignore[no-untyped-call]
    with torch.cuda.stream(stream), pytest.raises(RaceError):
        x.add_(1)
    stream.wait_stream(torch.cuda.current_stream(FIRST))
    with torch.cuda.stream(stream):
        x.add_(1)
    with pytest.raises(RaceError):
        x.add_(1)
    stream.synchronize()
    assert x.add_(1).tolist() == [3, 3, 3]


def test_a_capture_records_and_a_replay_executes(machine: Machine) -> None:
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream(FIRST)  # type: ignore[no-untyped-call]
    total, term = torch.zeros(2, device=FIRST), torch.ones(2, device=FIRST)
    with torch.cuda.graph(graph, stream=stream):
        result = total.add_(term * torch.full((), 2.0, device=FIRST) * torch.tensor(1.0)).sum()
    assert total.tolist() == [0, 0]
    machine.counts.clear()
    graph.replay()
    term.fill_(5.0)
    graph.replay()
    assert (total.tolist(), float(result)) == ([12, 12], 24)
    assert machine.counts.launches == 3
    assert machine.counts.kernels.total() == 11


def test_what_a_capture_forbids(machine: Machine) -> None:
    x, graph = torch.zeros(2, device=FIRST), torch.cuda.CUDAGraph()
    with pytest.raises(CaptureError, match="stream other than the default one"):
        graph.capture_begin()
    calls: list[Callable[[], object]] = [
        x[0].item,
        lambda: x.copy_(torch.ones(2)),
        torch.cuda.synchronize,
        torch.ones(2).pin_memory,
    ]
    for call in calls:
        stream = torch.cuda.Stream(FIRST)  # type: ignore[no-untyped-call]
        before = torch.cuda.current_stream()
        with pytest.raises(CaptureError, match="invalidated by"), torch.cuda.graph(graph, stream=stream):
            call()
        torch.cuda.set_stream(before)  # which PyTorch does not do after an error
    with pytest.raises(CaptureError, match="the graph would lack it"), torch.cuda.graph(graph):
        torch.zeros(2, device=SECOND)
