"""Tracing: the graph of the tensor operations that a Python function performs."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch
from torch._decomp import get_decompositions
from torch.fx.experimental.proxy_tensor import make_fx

if TYPE_CHECKING:
    from collections.abc import Callable

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
        graph: fx.Graph = make_fx(f)(*arguments).graph
    return graph


def decompose_operations(f: Callable[..., Tensor], *arguments: Tensor) -> fx.Graph:
    """Trace ``f``, for arguments of these shapes, with operations that forward mode can differentiate twice.

    Layer norm and others are replaced by their decompositions into such operations.
    """
    graph: fx.Graph = make_fx(f, decomposition_table=_DECOMPOSITIONS)(*arguments).graph  # type: ignore[arg-type]
    return graph
