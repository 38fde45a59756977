"""Putting the stand-in devices in the place of ``torch.cuda``."""

from __future__ import annotations

import gc
import importlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.fx.experimental import proxy_tensor
from torch.utils._device import _device_constructors

from tests.support.stand_in_device import factories, graphs, streams
from tests.support.stand_in_device.backward import Engine
from tests.support.stand_in_device.machine import Machine
from tests.support.stand_in_device.tensors import DeviceTensor

MEMORY = 80 * 10**9
"""Bytes of memory that each device claims to have."""


@contextmanager
def stand_in(devices: int = 2, *, strict: bool = True) -> Iterator[Machine]:
    """A context in which this process has stand-in devices, in all its threads.

    Parameters
    ----------
    devices, strict
        As in :class:`~tests.support.stand_in_device.machine.Machine`.
    """
    if torch.cuda.is_available():
        raise RuntimeError("this machine has CUDA devices: a stand-in can't take their place")
    with warnings.catch_warnings(action="ignore", category=FutureWarning):
        importlib.import_module("torch._decomp.decompositions_for_jvp")  # compiles functions that call torch.zeros
    _device_constructors()  # remembers the functions of PyTorch, not those that take their place
    torch._C._ensureCUDADeviceGuardSet()  # without it, PyTorch asks the driver for the current device
    overwrites = torch.__future__.get_overwrite_module_params_on_conversion()
    with ExitStack() as stack:
        machine = Machine(devices, strict=strict)
        stack.enter_context(mock.patch.object(Machine, "active", machine))
        stack.enter_context(mock.patch.object(graphs.GraphContext, "default_capture_stream", None))
        for owner, names in _patches(machine):
            for name, value in names.items():
                stack.enter_context(mock.patch.object(owner, name, value))
        stack.enter_context(factories.registered())
        # nn.Module.to makes new parameters, because a host tensor can't become one of another type.
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, overwrites)
        gc.freeze()  # the first replay of a graph collects garbage, which takes long with all that is loaded by then
        stack.callback(gc.unfreeze)
        yield machine
        machine.close()


def _patches(machine: Machine) -> list[tuple[Any, dict[str, Any]]]:
    """What takes the place of PyTorch's names, by their owner."""
    properties = SimpleNamespace(name="stand-in", major=9, minor=0, total_memory=MEMORY, multi_processor_count=132)
    cuda = {
        "_lazy_init": lambda: None,
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "device_count": lambda: machine.devices,
        "current_device": lambda: machine.current_device,
        "set_device": machine.set_device,
        "device": streams.DeviceContext,
        "Stream": streams.Stream,
        "Event": streams.Event,
        "stream": streams.StreamContext,
        "current_stream": machine.current_stream,
        "default_stream": machine.default_stream,
        "set_stream": machine.set_stream,
        "synchronize": graphs.synchronize,
        "CUDAGraph": graphs.CUDAGraph,
        "graph": graphs.GraphContext,
        "is_current_stream_capturing": lambda: machine.current_stream().capture is not None,
        "mem_get_info": lambda device=None: (MEMORY, MEMORY),
        "get_device_properties": lambda device=None: properties,
        "get_device_name": lambda device=None: properties.name,
        "get_device_capability": lambda device=None: (properties.major, properties.minor),
        "empty_cache": lambda: None,
        "manual_seed": lambda seed: None,
        "manual_seed_all": lambda seed: None,
    }
    host = {
        "pin_memory": lambda self, device=None: machine.pin(self.clone()),
        "is_pinned": lambda self, device=None: machine.is_pinned(self),
    }
    return [
        (torch.cuda, cuda),
        (Tensor, host),
        (torch, {name: _pinning(machine, getattr(torch, name)) for name in ("empty", "zeros", "empty_like")}),
        (torch.autograd.Variable, {"_execution_engine": Engine(torch.autograd.Variable._execution_engine)}),
        (proxy_tensor, {"HANDLED_TYPES": (*proxy_tensor.HANDLED_TYPES, DeviceTensor)}),
    ]


def _pinning(machine: Machine, create: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A function that creates host tensors, also pinned ones."""

    def created(*args: Any, pin_memory: bool = False, **kwargs: Any) -> Tensor:
        tensor = create(*args, **kwargs)
        return machine.pin(tensor) if pin_memory else tensor

    return created
