"""Loss and confusion counts of one split; accuracies are derived from the counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from hesstore.models import FlatModel


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


@torch.no_grad()
def evaluate(
    model: FlatModel, theta: Tensor, x: Tensor, y: Tensor, num_classes: int, chunk_rows: int = 8192
) -> SplitMetrics:
    """Loss and confusion counts at ``theta`` over all rows of ``x``, ``y``; one host sync."""
    loss = torch.zeros((), dtype=torch.float64, device=x.device)
    cells = torch.zeros(num_classes * num_classes, dtype=torch.int64, device=x.device)
    for rows, labels in zip(torch.split(x, chunk_rows), torch.split(y, chunk_rows), strict=True):
        logits = model.logits(theta, rows)
        loss += torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
        cells += torch.bincount(labels * num_classes + logits.argmax(1), minlength=num_classes * num_classes)
    confusion = cells.reshape(num_classes, num_classes).cpu().numpy().astype(np.int32)
    return SplitMetrics(float(loss) / len(y), confusion)
