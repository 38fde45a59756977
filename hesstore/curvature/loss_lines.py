"""The mean loss E along straight lines θ + t v: its derivatives by class, its rise, and that with linearised logits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from hesstore.curvature.class_losses import Derivatives, groups_of_lines

if TYPE_CHECKING:
    from torch import Tensor

    from hesstore.autodiff import Lines
    from hesstore.curvature.class_losses import ClassLosses

_LOGITS_PER_PASS = 4
"""How many times as many rows as activations the logits of a pass may have, because they take less memory."""


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
        self._chunks: list[tuple[Lines, Tensor]] = []
        self._losses, self._rows, self._dtype = losses, rows, theta.dtype
        logits = theta.new_empty(classes, rows)
        slopes = theta.new_empty(len(directions), classes, rows)
        sums = torch.zeros(len(directions), 2, classes, dtype=torch.float64, device=theta.device)
        first = 0
        for program, inputs, labels in losses.chunks:
            pencil = program.through(theta, inputs, labels)
            last = first + len(labels)
            logits[:, first:last] = pencil.value().t()
            membership = losses.membership(labels)
            lines = pencil.along(directions)
            for group in groups_of_lines(len(directions), losses.lines_together(len(labels))):
                of_rows, slopes[group, :, first:last] = pencil.derivatives(lines[group])
                sums[group] += of_rows.to(torch.float64) @ membership
            self._chunks.append((lines, labels))
            first = last
        self.derivatives = Derivatives(*(sums / losses.counts).unbind(1))  # 0/0 is NaN
        labels = torch.cat([labels for _, labels in self._chunks])
        together = losses.lines_together(rows // _LOGITS_PER_PASS)
        self._linearised = losses.row_losses.linearised(logits, slopes, labels, together)

    @torch.no_grad()
    def rises(self, index: Tensor, t: Tensor) -> Tensor:
        """(n,) E(θ + t v) − E(θ), float64, for the directions v with the indices ``index`` (n,) and their t (n,)."""
        total, lengths = torch.zeros_like(t), t.to(self._dtype)
        is_on_host = index.device.type == "cpu"  # on a GPU, the host would wait for an index
        for lines, labels in self._chunks:
            for group in groups_of_lines(len(t), self._losses.lines_together(len(labels))):
                place = index[group]
                is_view = is_on_host and len(place) == 1  # of one line; several lines are copied
                chosen = lines[int(place) : int(place) + 1] if is_view else lines
                losses = self._losses.row_losses.values(chosen.values(place, lengths[group]), labels)
                total[group] += losses.sum(1, dtype=torch.float64)
        return total / self._rows - self._linearised.loss

    @torch.no_grad()
    def linearised_rises(self, index: Tensor, t: Tensor) -> Tensor:
        """The same for a network whose logits are z + t z′, with z′ their derivative along v at θ."""
        return self._linearised.rises(index, t)


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
