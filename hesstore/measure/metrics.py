"""Loss and confusion counts of one split; accuracies are derived from the counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import nn

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from hesstore.problem.models import FlatModel


class SplitMetrics(NamedTuple):
    """What a split says of a model.

    Attributes
    ----------
    loss : float
        E, the mean cross-entropy in nats.
    confusion : ndarray
        (C, C) int32: counts of rows by true class (first axis) and predicted class (second).
    """

    loss: float
    confusion: NDArray[np.int32]

    @property
    def accuracy(self) -> float:
        """Fraction of rows whose predicted class is the true one."""
        return float(np.trace(self.confusion) / self.confusion.sum())

    @property
    def class_accuracy(self) -> NDArray[np.float64]:
        """(C,) fraction of each class's rows that are predicted as it; NaN for a class without rows."""
        totals = self.confusion.sum(axis=1)
        hits = np.diagonal(self.confusion).astype(np.float64)
        with np.errstate(invalid="ignore"):
            return np.asarray(hits / totals)  # 0/0 is NaN


def evaluate(
    model: FlatModel, theta: Tensor, x: Tensor, y: Tensor, num_classes: int, chunk_rows: int = 8192
) -> SplitMetrics:
    """Loss and confusion counts at ``theta`` (P,) over all rows of ``x``, ``y``; one host sync."""
    (metrics,) = evaluate_each(model, theta[None], x, y, num_classes, chunk_rows)
    return metrics


@torch.no_grad()
def evaluate_each(
    model: FlatModel, theta: Tensor, x: Tensor, y: Tensor, num_classes: int, chunk_rows: int = 8192
) -> list[SplitMetrics]:
    """The same at each row of ``theta`` (G, P); ``chunk_rows`` counts the rows of all."""
    totals = _totals(model, theta, x, y, num_classes, chunk_rows).cpu()
    losses, confusions = totals[:, 0] / len(y), totals[:, 1:].reshape(-1, num_classes, num_classes)
    return [
        SplitMetrics(float(loss), confusion.numpy().astype(np.int32))
        for loss, confusion in zip(losses, confusions, strict=True)
    ]


def _totals(model: FlatModel, theta: Tensor, x: Tensor, y: Tensor, num_classes: int, chunk_rows: int) -> Tensor:
    """(G, 1 + C²) float64, on the device: the summed loss of each model, then its counts."""
    copies, cells = len(theta), num_classes**2
    totals = torch.zeros(copies, 1 + cells, dtype=torch.float64, device=x.device)
    first_cell = 1 + torch.arange(copies, device=x.device)[:, None] * (1 + cells)
    ones = torch.ones((), dtype=torch.float64, device=x.device)
    most = max(1, chunk_rows // copies)
    for rows, labels in zip(torch.split(x, most), torch.split(y, most), strict=True):
        logits = torch.vmap(model.logits, (0, None))(theta, rows) if copies > 1 else model.logits(theta[0], rows)[None]
        losses = nn.functional.cross_entropy(logits.flatten(0, 1), labels.repeat(copies), reduction="none")
        totals[:, 0] += losses.view(copies, -1).sum(1, dtype=torch.float64)
        index = first_cell + labels * num_classes + logits.argmax(2)
        totals.view(-1).scatter_add_(0, index.flatten(), ones.expand(index.numel()))
    return totals
