"""The work of a function, counted by PyTorch's dispatch, so that it does not depend on the load of the machine."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

if TYPE_CHECKING:
    from collections.abc import Callable

_SECOND_FACTOR = {"aten::mm": 1, "aten::bmm": 1, "aten::addmm": 2, "aten::baddbmm": 2}
"""The place of the second factor among the arguments of a matrix product; the first factor precedes it."""


class WorkCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]  # PyTorch's
    """Counts operations while it is active.

    Attributes
    ----------
    kernels : int
        Operations that compute or copy something; views and empty tensors do not count.
    flop : int
        Floating-point operations of matrix products.
    moved : int
        Bytes that all other operations read and write.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kernels = self.flop = self.moved = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func._schema.name
        if func.is_view or "empty" in name:
            return result
        self.kernels += 1
        place = _SECOND_FACTOR.get(name.removesuffix("_"))
        if place is None:
            tensors = [each for each in (*args, result) if isinstance(each, torch.Tensor)]
            self.moved += sum(each.numel() * each.element_size() for each in tensors)
        else:
            self.flop += 2 * math.prod(args[place - 1].shape) * args[place].shape[-1]
        return result


def count(run: Callable[[], object]) -> WorkCounter:
    """Return the work of a call of ``run``."""
    counter = WorkCounter()
    with counter:
        run()
    return counter
