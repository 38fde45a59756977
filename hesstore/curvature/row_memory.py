"""The memory that a row of the data takes in a product, and how many rows fit into a chunk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from hesstore.curvature.row_chunks import first_rows

if TYPE_CHECKING:
    from torch import Tensor

    from hesstore.problem.models import FlatModel, Inputs

SAMPLE_ROWS = 16
"""Number of rows on which the memory of a row is measured, and the smallest number of rows in a chunk."""

_VALUES = 6
"""The memory of a product, in units of the values that the rows of its chunk save for the gradient."""

_VECTORS = 16
"""The number of vectors of the length of θ whose memory a product may always take.

Each chunk reads all weights and writes a gradient, which takes a third of the time of ResNet-18 in chunks of 50 rows. A
search for eigenpairs holds more vectors than these anyway.
"""


def rows_in(memory: float, most: int, model: FlatModel, x: Inputs, y: Tensor) -> int:
    """Return the number of rows, ``most`` or a fraction of it by a power of 2, whose products take ``memory`` bytes.

    If that is less than the memory of a few vectors of the length of θ, it is the latter.
    """
    row_bytes = _saved_bytes(model, x, y)
    memory = max(memory, _VECTORS * model.layout.size * model.theta().element_size())
    rows = most
    while rows > SAMPLE_ROWS and _VALUES * row_bytes * rows > memory:
        rows //= 2
    return rows


def _saved_bytes(model: FlatModel, x: Inputs, y: Tensor) -> float:
    """The number of bytes that are saved for the gradient of each row, measured on a few rows.

    The rows themselves do not count: they are views of the whole data set, which is in memory anyway.
    """
    x, y = first_rows(x, SAMPLE_ROWS), y[:SAMPLE_ROWS]
    theta = model.theta().to(y.device).requires_grad_()
    saved: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        loss = model.loss_sum(theta, x, y)
    for resident in (theta, y, *(x if isinstance(x, tuple) else (x,))):
        saved.pop(resident.untyped_storage().data_ptr(), None)
    del loss
    return sum(saved.values()) / len(y)
