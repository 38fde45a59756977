"""The mean loss E along straight lines θ + t v: its derivatives by class, its rise, and estimates of the rise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from hesstore.curvature.class_losses import Derivatives, groups_of_lines, groups_of_values, points_of
from hesstore.linalg.transfers import to_device

if TYPE_CHECKING:
    from torch import Tensor

    from hesstore.autodiff import Lines
    from hesstore.curvature.class_losses import ClassLosses

_LOGITS_PER_PASS = 4
"""How many times as many rows as activations the logits of a pass may have, because they take less memory."""


class LossLines:
    """The rise of the mean loss E over a data set along θ + t v, for m directions v.

    The part of the network that is linear in θ is computed once for each v and kept, so that a value of E costs only
    the rest; see :func:`line_bytes` for the memory. An estimate costs less still: it is the rise with linearised logits
    over all rows, plus the mean of what these leave out over a sample of the rows.

    Parameters
    ----------
    losses : ClassLosses
        The network and the data set.
    theta : Tensor
        (P,) the weights; or (G, P) those of several points.
    directions : Tensor
        (m, P) the directions; or (G, m, P) those at each point, which are counted through.

    Attributes
    ----------
    derivatives : Derivatives
        The derivatives by class at θ, (m, C) or (G m, C).
    """

    derivatives: Derivatives

    @torch.no_grad()
    def __init__(self, losses: ClassLosses, theta: Tensor, directions: Tensor) -> None:
        classes, rows = losses.num_classes, len(losses.y)
        point, directions = points_of(directions), directions.flatten(0, -2)
        lines_of_chunks: list[tuple[Lines, Tensor]] = []
        logits = theta.new_empty(*theta.shape[:-1], classes, rows)
        slopes = theta.new_empty(len(directions), classes, rows)
        sums = torch.zeros(len(directions), 2, classes, dtype=torch.float64, device=theta.device)
        first = 0
        for program, inputs, labels, _ in losses.chunks:
            pencil = program.through(theta, inputs, labels)
            last = first + len(labels)
            logits[..., first:last] = pencil.value().mT
            membership = losses.membership(labels)
            lines, together = pencil.along(directions, point), losses.lines_together(len(labels))
            if together > 1:
                lines = lines.stacked()
            for group in groups_of_lines(len(directions), together):
                of_rows, slopes[group, :, first:last] = pencil.derivatives(lines[group])
                sums[group] += of_rows.to(torch.float64) @ membership
            lines_of_chunks.append((lines, labels))
            first = last
        self.derivatives = Derivatives(*(sums / losses.counts).unbind(1))  # 0/0 is NaN
        self._rows = _Rises(losses, lines_of_chunks, logits, slopes, point)
        part, places = losses.sample
        lines_of_chunks = [
            (program.through(theta, inputs, labels).along(directions, point).stacked(), labels)
            for program, inputs, labels, _ in part.chunks
        ]
        self._sample = _Rises(part, lines_of_chunks, logits[..., places], slopes[:, :, places], point)

    @torch.no_grad()
    def measured(self, index: Tensor, t: Tensor) -> Tensor:
        """Return (n,) E(θ + t v) − E(θ), float64, for directions v given by ``index`` (n,) and their t (n,)."""
        return self._rows.measured(*self._on_device(index, t))

    @torch.no_grad()
    def estimated(self, index: Tensor, t: Tensor) -> Tensor:
        """Estimates (n,) of what :meth:`measured` returns, for the same arguments."""
        lines = self._on_device(index, t)
        return self._rows.linearised(*lines) + self._sample.measured(*lines) - self._sample.linearised(*lines)

    @torch.no_grad()
    def linearised(self, index: Tensor, t: Tensor) -> Tensor:
        """(n,) the rises for the logits z + t z′, with z and z′ the logits and their derivative along v at θ."""
        return self._rows.linearised(*self._on_device(index, t))

    def _on_device(self, index: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        both = torch.stack([index.to(t.dtype), t])  # one transfer
        index, t = to_device(both, self.derivatives.slope.device)
        return index.to(torch.int64), t


class _Rises:
    """The rises over some rows, of the network and of the one with linearised logits.

    Parameters
    ----------
    losses : ClassLosses
        The losses of the rows.
    chunks : list of (Lines, Tensor)
        The lines and the labels of each chunk.
    logits, slopes : Tensor
        (C, N) or (G, C, N) the logits at θ; (m, C, N) their derivatives along each direction, in the order of the
        chunks.
    point : Tensor or None
        (m,) the index of the θ of each direction, if there are several.
    """

    def __init__(
        self,
        losses: ClassLosses,
        chunks: list[tuple[Lines, Tensor]],
        logits: Tensor,
        slopes: Tensor,
        point: Tensor | None,
    ) -> None:
        rows = len(losses.y)
        labels = torch.cat([labels for _, labels in chunks])
        together = losses.lines_together(rows // _LOGITS_PER_PASS)
        self._losses, self._chunks, self._num_rows, self._dtype = losses, chunks, rows, logits.dtype
        self._linearised = losses.row_losses.linearised(logits, slopes, labels, together, point)

    def measured(self, index: Tensor, t: Tensor) -> Tensor:
        """The rises (n,) of the network; both arguments (n,) are on the device of the lines."""
        total, lengths = torch.zeros_like(t), t.to(self._dtype)
        for lines, labels in self._chunks:
            for group in groups_of_values(t, self._losses.lines_together(len(labels))):
                losses = self._losses.row_losses.values(lines.values(index[group], lengths[group]), labels)
                total[group] += losses.sum(1, dtype=torch.float64)
        return total / self._num_rows - self._linearised.loss(index)

    def linearised(self, index: Tensor, t: Tensor) -> Tensor:
        """The rises (n,) with linearised logits."""
        return self._linearised.rises(index, t)


@torch.no_grad()
def line_bytes(losses: ClassLosses, theta: Tensor) -> int:
    """The number of bytes that :class:`LossLines` keeps for each direction, without those of the sample."""
    program, inputs, labels, _ = losses.chunks[0]
    constants = program.constants(*inputs)
    resident = {_storage(tensor) for tensor in (theta, *inputs, *constants)}
    parts = {_storage(part): part for part in program.linear(theta, *constants)}
    kept = sum(part.untyped_storage().nbytes() for storage, part in parts.items() if storage not in resident)
    slopes = losses.num_classes * len(labels) * theta.element_size()
    return int((kept + slopes) * len(losses.y) // len(labels))


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)  # noqa: SLF001
