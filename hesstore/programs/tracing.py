"""From a Python function on tensors to the graph of the operations that it performs."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from torch.fx.experimental.proxy_tensor import make_fx

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, fx


def graph_of(f: Callable[..., object], *arguments: Tensor) -> fx.Graph:
    """The operations of ``f`` on tensors like ``arguments``, a placeholder for each; derivatives are spelt out."""
    with warnings.catch_warnings():  # PyTorch's own rules for forward mode are built with its deprecated torch.jit
        warnings.simplefilter("ignore", FutureWarning)
        graph: fx.Graph = make_fx(f)(*arguments).graph
    return graph
