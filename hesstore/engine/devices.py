"""The device on which the work is done: its name, settings and free memory, and copies from it to the host."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from hesstore.config.suggestions import did_you_mean
from hesstore.engine.precision import full_precision
from hesstore.errors import DeviceError, first_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import Tensor


def resolve_device(name: str) -> torch.device:
    """The device that ``auto``, ``cpu``, ``cuda`` or a name such as ``cuda:1`` stands for.

    Raises
    ------
    DeviceError
        If the name is unknown, or if this machine has no CUDA device or not that one.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        hint = did_you_mean(name, ("auto", "cpu", "cuda"))
        raise DeviceError(f"device: {name!r} is unknown: use auto, cpu, cuda or cuda:N{hint}") from None
    if device.type not in {"cpu", "cuda"}:
        raise DeviceError(f"device: {name!r} is not supported: use auto, cpu, cuda or cuda:N")
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count == 0:
            raise DeviceError(f"device: {name!r} is not available: this machine has no CUDA device: use --device cpu")
        if device.index is not None and device.index >= count:
            raise DeviceError(
                f"device: {name!r} is not available: the last CUDA device of this machine is cuda:{count - 1}"
            )
    return device


@contextlib.contextmanager
def computing_on(device: torch.device, threads: int = 0) -> Iterator[None]:
    """Apply the settings under which hesstore computes until the block ends; then restore those of the process.

    ``device`` becomes the current CUDA device, if it is one, and float32 operations use their full precision.

    Parameters
    ----------
    device : torch.device
        The device.
    threads : int
        The number of PyTorch's CPU threads; 0 leaves it as it is. It is restored, too, if the block changes it.

    Raises
    ------
    DeviceError
        If the device runs out of memory and the block does not handle it.
    """
    before = torch.get_num_threads()
    current = torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()
    with full_precision(), current:
        try:
            if threads:
                torch.set_num_threads(threads)
            yield
        except torch.OutOfMemoryError as error:
            raise DeviceError(
                f"device: {device} is out of memory ({first_line(error, 120)}): close other programs that use it, or "
                "use fewer rows, a smaller --k or another --device"
            ) from None
        finally:
            if torch.get_num_threads() != before:
                torch.set_num_threads(before)


def free_memory(device: torch.device) -> int:
    """Bytes of memory that are free on ``device``; on a CPU, within the limit of this process's control group.

    Cached files that were not used recently count as free, because the kernel drops them when memory is needed.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free)
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    available = int(fields["MemAvailable"].split()[0]) * 1024
    group = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError, ValueError, KeyError):  # these files do not exist, or the limit is "max"
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        cached = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())["inactive_file"]
        available = min(available, limit - used + int(cached))
    return max(available, 0)


def on_host(value: object) -> object:
    """Return the array of a :class:`HostCopy`, once it has arrived, and any other value unchanged."""
    return value.numpy() if isinstance(value, HostCopy) else value


class HostCopy:
    """A copy of a tensor on the host. A copy from a GPU is asynchronous; a tensor on a CPU is not copied.

    Parameters
    ----------
    tensor : Tensor
        If it is on a CPU, it must not change afterwards.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._host, self._arrived = tensor.detach(), None
        if tensor.is_cuda:
            self._host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._host.copy_(tensor.detach(), non_blocking=True)
            self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._arrived.record(torch.cuda.current_stream(tensor.device))

    def numpy(self) -> NDArray[Any]:
        """Wait for the copy and return it."""
        if self._arrived is not None:
            self._arrived.synchronize()
        values: NDArray[Any] = self._host.numpy()
        return values
