"""Tracing: the graph of the tensor operations that a Python function performs."""

from __future__ import annotations

import gc
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch._decomp import get_decompositions
from torch._guards import TracingContext, tracing
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx._lazy_graph_module import _use_lazy_graph_module
from torch.fx.experimental.proxy_tensor import make_fx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor, fx

aten = torch.ops.aten

# Operations for which PyTorch 2.14 has no rule in nested forward mode or, for layer norm, a wrong one.
_DECOMPOSITIONS = get_decompositions(
    [aten.native_layer_norm, aten.native_batch_norm, aten._native_batch_norm_legit, aten.silu, aten.mish, aten.glu]  # noqa: SLF001
)


def trace_graph(f: Callable[..., object], *arguments: Tensor) -> fx.Graph:
    """Trace the operations of ``f`` on tensors like ``arguments``, with one placeholder for each argument.

    Derivatives that ``f`` takes become plain operations of the graph.
    """
    with warnings.catch_warnings():  # PyTorch builds its own rules for forward mode with its deprecated torch.jit
        warnings.simplefilter("ignore", FutureWarning)
        return _traced(make_fx(f), *arguments)


def decompose_operations(f: Callable[..., Tensor], *arguments: Tensor) -> fx.Graph:
    """Trace ``f``, for arguments of these shapes, with operations that forward mode can differentiate twice.

    Layer norm and others are replaced by their decompositions into such operations.
    """
    return _traced(make_fx(f, decomposition_table=_DECOMPOSITIONS), *arguments)  # type: ignore[arg-type]


def _traced(trace: Callable[..., fx.GraphModule], *arguments: Tensor) -> fx.Graph:
    """The graph that ``trace`` makes.

    PyTorch notes the shape of each value as a tensor of a FakeTensorMode. Without a current one it makes a new mode,
    with a stack trace, for each value, which takes two thirds of the time of tracing. Only the graph is used, so no
    Python code is generated for it.
    """
    lazy = _use_lazy_graph_module(True)  # noqa: FBT003 - PyTorch's function
    with tracing(TracingContext(FakeTensorMode())), lazy, _collector_paused():
        return trace(*arguments).graph


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Pause Python's search for unreachable objects.

    Tracing makes so many objects that all of PyTorch's are searched again and again, for about a quarter of its time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
