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
        self._chunks: list[tuple[list[Lines], Tensor]] = []
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
            bundles = []
            for bundle in self._bundles(len(directions), len(labels)):
                lines = pencil.along(directions[bundle])
                for group in groups_of_lines(lines.count, losses.lines_together(len(labels))):
                    place = slice(bundle.start + group.start, bundle.start + group.stop)
                    of_rows, slopes[place, :, first:last] = pencil.derivatives(lines[group])
                    sums[place] += of_rows.to(torch.float64) @ membership
                bundles.append(lines)
            self._chunks.append((bundles, labels))
            first = last
        self.derivatives = Derivatives(*(sums / losses.counts).unbind(1))  # 0/0 is NaN
        labels = torch.cat([labels for _, labels in self._chunks])
        together = losses.lines_together(rows // _LOGITS_PER_PASS)
        self._linearised = losses.row_losses.linearised(logits, slopes, labels, together)

    @torch.no_grad()
    def rises(self, index: Tensor, t: Tensor) -> Tensor:
        """(n,) E(θ + t v) − E(θ), float64, for the directions v with the indices ``index`` (n,) and their t (n,)."""
        total, lengths = torch.zeros_like(t), t.to(self._dtype)
        for bundles, labels in self._chunks:
            for group in groups_of_lines(len(t), self._losses.lines_together(len(labels))):
                lines = bundles[0] if len(bundles) == 1 else bundles[int(index[group])]
                losses = self._losses.row_losses.values(lines.values(index[group], lengths[group]), labels)
                total[group] += losses.sum(1, dtype=torch.float64)
        return total / self._rows - self._linearised.loss

    def _bundles(self, count: int, rows: int) -> list[slice]:
        """The groups of ``count`` lines that are kept in one tensor: each line alone, or all of them together.

        On a GPU they are always together, because to choose one of them on the host is to wait for its index.
        """
        alone = self._losses.lines_together(rows) == 1 and self._losses.y.device.type == "cpu"
        return groups_of_lines(count, 1) if alone else [slice(0, count)]

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
