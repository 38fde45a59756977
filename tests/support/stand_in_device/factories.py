"""The operations that create a tensor on a device from numbers alone, such as ``torch.zeros``.

They have no argument whose type could dispatch them, so they are registered as CUDA kernels, for all threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from tests.support.stand_in_device.machine import Machine
from tests.support.stand_in_device.tensors import HOST, DeviceTensor, copy, count_launch, refuse_random, traits

aten = torch.ops.aten


@cache
def _factories() -> list[OpOverload]:
    """The operations of PyTorch that take a device and no tensor, and return a tensor."""
    found = []
    for name in torch._C._dispatch_get_all_op_names():
        namespace, _, operation = name.partition("::")
        base, _, overload = operation.partition(".")
        if namespace != "aten" or not hasattr(getattr(aten, base, None), overload or "default"):
            continue
        operator: OpOverload = getattr(getattr(aten, base), overload or "default")
        arguments, returns = operator._schema.arguments, operator._schema.returns
        takes_device = any(argument.name == "device" for argument in arguments)
        takes_tensor = any("Tensor" in str(argument.type) for argument in arguments)
        if takes_device and not takes_tensor and any("Tensor" in str(each.type) for each in returns):
            found.append(operator)
    return found


def _kernel(operator: OpOverload) -> Callable[..., Tensor]:
    """The function that carries out a factory operation on a stand-in device."""

    def create(*args: Any, **kwargs: Any) -> Tensor:
        machine = Machine.current()
        device = machine.indexed(kwargs.get("device"))
        if traits(operator).is_random:
            refuse_random(operator, kwargs.get("generator"))
        kwargs = {**kwargs, "device": HOST, "pin_memory": None}
        if operator is aten._efficientzerotensor.default:
            kwargs.pop("pin_memory")
            return DeviceTensor(aten.zeros.default(*args, **kwargs), device, zero=True)
        stream = machine.current_stream(device)
        is_kernel = "empty" not in str(operator)
        if is_kernel and stream.capture is not None:
            return DeviceTensor(stream.capture.record(operator, args, kwargs), device)
        host: Tensor = operator(*args, **kwargs)
        if is_kernel:
            machine.stray(stream, operator)
            count_launch(machine, operator)
        machine.note_new(stream, machine.launch(stream, [], []) if is_kernel else 0, host)
        if stream.capture is not None:
            stream.capture.keep([host])
        return DeviceTensor(host, device)

    return create


def _copy(to: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    """``copy_`` where PyTorch skips the dispatch by type: in ``torch.tensor`` with a device."""
    return copy(Machine.current(), to, source, non_blocking)


@contextmanager
def registered() -> Iterator[None]:
    """A context in which the factory operations create stand-in tensors."""
    library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    try:
        for operator in _factories():
            library.impl(operator, _kernel(operator), "CUDA", allow_override=True)  # type: ignore[no-untyped-call]
        library.impl("copy_", _copy, "CUDA", allow_override=True)  # type: ignore[no-untyped-call]
        yield
    finally:
        library._destroy()  # type: ignore[no-untyped-call]
