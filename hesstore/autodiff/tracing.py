"""From a Python function on tensors to the graph of the operations that it performs."""

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

# What PyTorch 2.14 has no rule for in nested forward mode, or, for layer norm, a wrong one.
_SPELT_OUT = get_decompositions(
    [aten.native_layer_norm, aten.native_batch_norm, aten._native_batch_norm_legit, aten.silu, aten.mish, aten.glu]  # noqa: SLF001
)


def trace_graph(f: Callable[..., object], *arguments: Tensor) -> fx.Graph:
    """The operations of ``f`` on tensors like ``arguments``, a placeholder for each; derivatives are spelt out."""
    with warnings.catch_warnings():  # PyTorch's own rules for forward mode are built with its deprecated torch.jit
        warnings.simplefilter("ignore", FutureWarning)
        graph: fx.Graph = make_fx(f)(*arguments).graph
    return graph


def spelt_out(f: Callable[..., Tensor], *arguments: Tensor) -> Callable[..., Tensor]:
    """``f``, for arguments of these shapes, in operations that forward mode differentiates twice."""
    program: Callable[..., Tensor] = make_fx(f, decomposition_table=_SPELT_OUT)(*arguments)  # type: ignore[arg-type]
    return program
