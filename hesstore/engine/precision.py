"""The precision of float32 operations: whether devices may round the numbers that they multiply to fewer digits.

By default, PyTorch lets cuDNN's convolutions use TF32, which keeps 10 bits of the significand instead of 23. Users or
environment variables can allow the same, or bfloat16, for matrix products. Products with the Hessian would then be too
inaccurate for the tolerance of the eigensolver.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import backends

from hesstore.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class _Blocks:
    """The blocks of :func:`full_precision` that are open in this process, in whatever threads.

    The settings belong to the process: the first block saves them, and the last one to end restores them. If each block
    restored what it found, one that began within another and ended after it would restore the wrong ones.
    """

    def __init__(self) -> None:
        self._lock, self._open = threading.Lock(), 0
        self._restore: Callable[[], None] = lambda: None

    def enter(self) -> None:
        with self._lock:
            restore = set_full_precision()  # also within another block, in which the user's code may have changed it
            if not self._open:
                self._restore = restore
            self._open += 1

    def leave(self) -> None:
        with self._lock:
            self._open -= 1
            if not self._open:
                self._restore()


_blocks = _Blocks()


@contextmanager
def full_precision() -> Iterator[None]:
    """Compute float32 matrix products and convolutions in float32 until the block ends; then restore the settings.

    Blocks may overlap in several threads; the last one that ends restores the settings.
    """
    _blocks.enter()
    try:
        yield
    finally:
        _blocks.leave()


def set_full_precision() -> Callable[[], None]:
    """Compute float32 operations in float32 from now on; return a function that restores the settings."""
    matmul: str | None = None
    cudnn: bool | None = None
    with suppress(RuntimeError):  # PyTorch refuses to say if a user has set only some of its newer settings
        matmul = torch.get_float32_matmul_precision()
    with suppress(RuntimeError):
        cudnn = backends.cudnn.allow_tf32
    operations = _operations()
    before = [operation.fp32_precision for operation in operations]
    _set(operations, "highest", ["ieee"] * len(operations), cudnn=False)
    return partial(_set, operations, matmul, before, cudnn=cudnn)


def _set(operations: list[Any], matmul: str | None, each: list[str], *, cudnn: bool | None) -> None:
    """Set both the older settings, which exist in all versions of PyTorch, and the newer ones of each operation."""
    if matmul is not None:
        torch.set_float32_matmul_precision(matmul)
    if cudnn is not None:
        backends.cudnn.allow_tf32 = cudnn
    for operation, precision in zip(operations, each, strict=True):
        operation.fp32_precision = precision


def _operations() -> list[Any]:
    """The operations whose precision PyTorch 2.9 and later can set separately; none before."""
    found = [
        (backends.cuda, "matmul"),
        *((backends.cudnn, name) for name in ("conv", "rnn")),
        *((backends.mkldnn, name) for name in ("matmul", "conv", "rnn")),
    ]
    operations = [getattr(library, name, None) for library, name in found]
    return [operation for operation in operations if _has_precision(operation)]


def _has_precision(operation: object) -> bool:
    """Whether an operation has the newer setting. Older versions of ``cuda.matmul`` raise an error of their own."""
    try:
        return hasattr(operation, "fp32_precision")
    except RuntimeError:
        return False


def check_precision(device: torch.device) -> None:
    """Check that ``device`` multiplies float32 numbers without rounding them to TF32 or bfloat16 first.

    Raises
    ------
    DeviceError
        If it rounds them, for example because an environment variable demands it.
    """
    values = torch.full((64, 64), 1 + 2.0**-12, dtype=torch.float32, device=device)  # TF32 would round them to 1
    if not bool((values @ torch.eye(64, dtype=torch.float32, device=device) == values).all()):
        raise DeviceError(
            f"device: {device} rounds float32 numbers to fewer digits before it multiplies them: unset "
            "NVIDIA_TF32_OVERRIDE and TORCH_ALLOW_TF32_CUBLAS_OVERRIDE, or use --dtype float64"
        )
