"""The metrics of one split: its loss and confusion counts, from which accuracies are derived."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from hesstore.problem.models import FlatModel


class SplitMetrics(NamedTuple):
    """The metrics of a network on one split.

    Attributes
    ----------
    loss : float
        E, the mean loss.
    confusion : ndarray
        (C, C) int32: the number of rows by true class (first axis) and predicted class (second axis).
    """

    loss: float
    confusion: NDArray[np.int32]

    @property
    def accuracy(self) -> float:
        """The fraction of rows that are classified correctly."""
        return float(np.trace(self.confusion) / self.confusion.sum())

    @property
    def class_accuracy(self) -> NDArray[np.float64]:
        """(C,) the fraction of each class's rows that are classified correctly; NaN for a class without rows."""
        totals = self.confusion.sum(axis=1)
        hits = np.diagonal(self.confusion).astype(np.float64)
        with np.errstate(invalid="ignore"):
            return np.asarray(hits / totals)  # 0/0 is NaN


@torch.no_grad()
def evaluate_each(
    model: FlatModel, theta: Tensor, x: Tensor, y: Tensor, num_classes: int, chunk_rows: int = 8192
) -> list[SplitMetrics]:
    """Evaluate a network at each row of ``theta``, over all rows of ``x`` and ``y``.

    Parameters
    ----------
    model : FlatModel
        The network.
    theta : Tensor
        (G, P) the parameters of G models.
    x, y : Tensor
        Inputs (N, …) and labels (N,).
    num_classes : int
        C, the number of classes.
    chunk_rows : int
        Maximum number of rows per pass through the network, summed over the models.

    Returns
    -------
    list of SplitMetrics
        The metrics of each model.
    """
    totals = _totals(model, theta, x, y, num_classes, chunk_rows).cpu()  # the only wait for the device
    losses, confusions = totals[:, 0] / len(y), totals[:, 1:].reshape(-1, num_classes, num_classes)
    return [
        SplitMetrics(float(loss), confusion.numpy().astype(np.int32))
        for loss, confusion in zip(losses, confusions, strict=True)
    ]


def _totals(model: FlatModel, theta: Tensor, x: Tensor, y: Tensor, num_classes: int, chunk_rows: int) -> Tensor:
    """(G, 1 + C²) float64, on the device: the summed loss of each model, followed by its confusion counts."""
    copies, cells = len(theta), num_classes**2
    totals = torch.zeros(copies, 1 + cells, dtype=torch.float64, device=x.device)
    first_cell = 1 + torch.arange(copies, device=x.device)[:, None] * (1 + cells)
    ones = torch.ones((), dtype=torch.float64, device=x.device)
    most = max(1, chunk_rows // copies)
    for rows, labels in zip(torch.split(x, most), torch.split(y, most), strict=True):
        logits = torch.vmap(model.logits, (0, None))(theta, rows) if copies > 1 else model.logits(theta[0], rows)[None]
        losses = model.label_loss.rows(logits.flatten(0, 1), labels.repeat(copies))
        totals[:, 0] += losses.view(copies, -1).sum(1, dtype=torch.float64)
        index = first_cell + labels * num_classes + logits.argmax(2)
        totals.view(-1).scatter_add_(0, index.flatten(), ones.expand(index.numel()))
    return totals
