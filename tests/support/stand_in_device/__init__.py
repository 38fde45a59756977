"""A stand-in for CUDA devices: tensors that live on the host and claim to be on ``cuda:0`` or ``cuda:1``.

The code that is meant for a GPU runs on it unchanged, on any machine, with the numbers of the CPU. The stand-in refuses
what a GPU refuses or silently gets wrong, and counts what costs time there:

- tensors on different devices in one operation, and random numbers from a generator of another device;
- values that the host reads before an asynchronous copy has arrived, pinned memory that changes before it was copied,
  and asynchronous copies from or to memory that is not pinned;
- operations on two streams that do not wait for each other;
- waiting for the device while a CUDA graph is captured, kernels that miss the capture because they run on another
  device or stream, and replays that read memory that was freed since;
- kernels, launches and waits, by the line of code that causes them.

Capturing a graph executes nothing, as on a GPU: the operations are recorded with the memory that they read and write,
and :meth:`CUDAGraph.replay` executes them on the same memory.

The modules: ``machine`` holds the state of all devices; ``streams`` has streams, events and copies that have not
arrived; ``tensors`` dispatches operations; ``factories`` creates tensors; ``graphs`` captures and replays; ``backward``
is autograd's backward pass; ``installation`` puts all of this in the place of ``torch.cuda``.
"""

from tests.support.stand_in_device.installation import stand_in
from tests.support.stand_in_device.machine import (
    CaptureError,
    FreedMemoryError,
    HostCopyError,
    Machine,
    MixedDevicesError,
    RaceError,
    StandInError,
)
from tests.support.stand_in_device.tensors import DeviceTensor

__all__ = [
    "CaptureError",
    "DeviceTensor",
    "FreedMemoryError",
    "HostCopyError",
    "Machine",
    "MixedDevicesError",
    "RaceError",
    "StandInError",
    "stand_in",
]
