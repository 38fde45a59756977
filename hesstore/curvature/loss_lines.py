"""The mean loss E along straight lines θ + t v: its derivatives by class, its rise, and that with linearised logits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from hesstore.curvature.class_losses import Derivatives, row_losses

if TYPE_CHECKING:
    from torch import Tensor

    from hesstore.autodiff import Line
    from hesstore.curvature.class_losses import ClassLosses


class LossLines:
    """The mean loss E over a data set along θ + t v, for m directions v.

    The part of the network that is linear in θ is computed once for each v and kept, so that a value of E costs only
    the rest; see :func:`line_bytes` for the memory.

    Parameters
    ----------
    losses : ClassLosses
        The network and the data set.
    theta : Tensor
        (P,) the weights.
    directions : Tensor
        (m, P) the directions.

    Attributes
    ----------
    derivatives : Derivatives
        The derivatives by class at θ.
    """

    derivatives: Derivatives

    @torch.no_grad()
    def __init__(self, losses: ClassLosses, theta: Tensor, directions: Tensor) -> None:
        classes, rows = losses.num_classes, len(losses.y)
        self._chunks: list[tuple[list[Line], Tensor]] = []
        self._rows = rows
        self._logits = theta.new_empty(classes, rows)
        self._slopes = theta.new_empty(len(directions), classes, rows)
        sums = torch.zeros(len(directions), 2, classes, dtype=torch.float64, device=theta.device)
        first = 0
        for program, inputs, labels in losses.chunks:
            lines = program.through(theta, inputs, labels)
            last = first + len(labels)
            self._logits[:, first:last] = lines.value().t()
            membership = torch.nn.functional.one_hot(labels, classes).to(torch.float64)
            each = [lines.along(v) for v in directions]
            for index, line in enumerate(each):
                of_rows, self._slopes[index, :, first:last] = lines.derivatives(line)
                sums[index] += of_rows.to(torch.float64) @ membership
            self._chunks.append((each, labels))
            first = last
        self.derivatives = Derivatives(*(sums / losses.counts).unbind(1))  # 0/0 is NaN
        labels = torch.cat([labels for _, labels in self._chunks])
        self._label_slopes = _mean(self._slopes.gather(1, labels.expand(len(directions), 1, rows))[:, 0])
        self._normaliser = _mean(self._logits.logsumexp(0))
        self._loss = self._normaliser - _mean(self._logits.gather(0, labels[None])[0])

    @torch.no_grad()
    def rise(self, index: int, t: float) -> Tensor:
        """E(θ + t v) − E(θ) for the direction v with this index, float64."""
        sums = [row_losses(lines[index].value(t), y).sum(dtype=torch.float64) for lines, y in self._chunks]
        return torch.stack(sums).sum() / self._rows - self._loss

    @torch.no_grad()
    def linearised_rise(self, index: int, t: float) -> Tensor:
        """The same for a network whose logits are z + t z′, with z′ their derivative along v at θ."""
        logits = torch.add(self._logits, self._slopes[index], alpha=t)
        return _mean(logits.logsumexp(0)) - self._normaliser - t * self._label_slopes[index]


def _mean(values: Tensor) -> Tensor:
    return values.mean(-1, dtype=torch.float64)


@torch.no_grad()
def line_bytes(losses: ClassLosses, theta: Tensor) -> int:
    """The number of bytes that :class:`LossLines` keeps for each direction."""
    program, inputs, labels = losses.chunks[0]
    constants = program.constants(*inputs)
    resident = {_storage(tensor) for tensor in (theta, *inputs, *constants)}
    parts = {_storage(part): part for part in program.linear(theta, *constants)}
    kept = sum(part.untyped_storage().nbytes() for storage, part in parts.items() if storage not in resident)
    slopes = losses.num_classes * len(labels) * theta.element_size()
    return int((kept + slopes) * len(losses.y) // len(labels))


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)  # noqa: SLF001
