"""The effect of single directions on single classes: derivatives of each class's mean loss, and accuracies after steps.

E_c is the mean loss over the rows of class c. Along v, v·∇E_c and vᵀH_c v are the means over the class of the
derivatives ℓ′ and ℓ″ of the losses of its rows, for which ``curvature/row_losses.py`` has the formulas. With π_c the
share of the class among the rows, Σ_c π_c vᵀH_c v = vᵀH v. Likewise for G, the Gauss–Newton part of H, where z″ is left
out of ℓ″.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import torch

from hesstore.autodiff import trace_line
from hesstore.curvature.row_chunks import split_into_chunks
from hesstore.curvature.row_losses import RowLosses, row_losses

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from hesstore.autodiff import LineProgram
    from hesstore.problem.models import FlatModel


LEAST_LINES = 4
"""The least number of lines in a pass with several lines. One line at a time is faster than two or three."""

GRADIENT_BYTES = 2**28
"""The maximum memory of the gradients of classes that are computed together, in float64."""

IGNORED = -100
"""The label of rows without a loss, as in :func:`torch.nn.functional.cross_entropy`."""


class Derivatives(NamedTuple):
    """The first and second derivatives of each class's mean loss along m directions, (m, C) each, in float64.

    They are NaN for a class without rows.
    """

    slope: Tensor
    curvature: Tensor


@dataclass(frozen=True)
class ClassLosses:
    """The mean loss and the accuracy of each class of a data set, as functions of θ.

    Parameters
    ----------
    model : FlatModel
        The network, which must be twice differentiable.
    x, y : Tensor
        Inputs (N, …) and labels (N,).
    num_classes : int
        C, the number of classes.
    chunk_rows : int
        Maximum number of rows in a pass through the network, counting the rows along all of its lines together.
    programs : dict
        The traced program for each number of rows; pass the same dict to share programs between data sets of one model.
    gauss_newton : bool
        Whether curvatures are vᵀG_c v, those of the loss of class c with linearised outputs, instead of vᵀH_c v.

    Examples
    --------
    >>> import torch
    >>> from hesstore.problem.models import build
    >>> model = build("mlp", (3,), (4,), 2, seed=0)
    >>> losses = ClassLosses(model, torch.randn(10, 4), torch.arange(10) % 2, 2)
    >>> losses.along(model.theta(), torch.randn(5, model.layout.size)).curvature.shape
    torch.Size([5, 2])
    """

    model: FlatModel
    x: Tensor
    y: Tensor
    num_classes: int
    chunk_rows: int = 2048
    programs: dict[int, LineProgram] = field(default_factory=dict)
    gauss_newton: bool = False

    @property
    def row_losses(self) -> RowLosses:
        """The loss of each row."""
        return row_losses(self.model.loss)

    @cached_property
    def counts(self) -> Tensor:
        """(C,) the number of rows of each class, in float64."""
        return torch.bincount(self.y, minlength=self.num_classes).to(torch.float64)

    @property
    def shares(self) -> Tensor:
        """(C,) π_c, the share of each class among the rows."""
        return self.counts / len(self.y)

    def along(self, theta: Tensor, directions: Tensor) -> Derivatives:
        """The derivatives at ``theta`` (P,) along each row of ``directions`` (m, P)."""
        return self.along_with_accuracies(theta, directions, directions.new_empty(len(directions), 0))[0]

    @torch.no_grad()
    def along_with_accuracies(self, theta: Tensor, directions: Tensor, steps: Tensor) -> tuple[Derivatives, Tensor]:
        """The derivatives along directions, and the changes of the class accuracies after steps.

        Parameters
        ----------
        theta : Tensor
            (P,) the weights.
        directions : Tensor
            (m, P) the directions v.
        steps : Tensor
            (m, s) the signed lengths t of the steps from θ to θ + t v.

        Returns
        -------
        Derivatives
            The derivatives at ``theta``.
        Tensor
            (m, s, C) the changes, in float64; NaN for a class without rows, and where the step is NaN.
        """
        classes, (count, each) = self.num_classes, steps.shape
        lengths = steps.to("cpu", torch.float64).flatten()
        known = lengths.isfinite().nonzero()[:, 0]  # counted through the steps of all directions
        bounds = torch.searchsorted(known, each * torch.arange(count + 1)).tolist()  # of those of each direction
        places, t = torch.stack([known.to(torch.float64), lengths[known]]).to(theta.device)  # one transfer
        places, t = places.to(torch.int64), t.to(theta.dtype)
        index = places // max(1, each)
        sums, after, start = (
            torch.zeros(*shape, classes, dtype=torch.float64, device=theta.device)
            for shape in ((count, 2), (len(known),), ())
        )
        for program, inputs, labels in self.chunks:
            pencil, together = program.through(theta, inputs, labels), self.lines_together(len(labels))
            membership = self.membership(labels)
            start += row_hits(pencil.value(), labels).to(torch.float64) @ membership
            for group in groups_of_lines(count, together):
                lines = pencil.along(directions[group])
                sums[group] += pencil.derivatives(lines)[0].to(torch.float64) @ membership
                steps_of = range(bounds[group.start], bounds[group.stop])
                for part in groups_of_lines(len(steps_of), together):
                    some = steps_of[part]
                    at = slice(some.start, some.stop)
                    hits = row_hits(lines.values(index[at] - group.start, t[at]), labels)
                    after[at] += hits.to(torch.float64) @ membership
        changes = steps.new_full((count * each, classes), torch.nan, dtype=torch.float64, device=theta.device)
        changes[places] = (after - start) / self.counts
        return Derivatives(*(sums / self.counts).unbind(1)), changes.view(count, each, classes)  # 0/0 is NaN

    def membership(self, labels: Tensor) -> Tensor:
        """(n, C) 1 for the class of each of the labels (n,), and 0 for the others, in float64."""
        return (labels[:, None] == torch.arange(self.num_classes, device=labels.device)).to(torch.float64)

    def lines_together(self, rows: int) -> int:
        """The number of lines in a pass with a chunk of ``rows`` rows."""
        count = self.chunk_rows // max(1, rows)
        return count if count >= LEAST_LINES else 1

    @cached_property
    def chunks(self) -> list[tuple[LineProgram, tuple[Tensor, ...], Tensor]]:
        """The rows in chunks: (program, its inputs, labels) of each; :func:`split_into_chunks` orders the rows."""
        theta, derivatives = self.model.theta().to(self.x), self._derivatives
        return split_into_chunks(
            lambda x, y: trace_line(self.model.logits, derivatives, theta, x, y),
            self.x,
            self.y,
            self.chunk_rows,
            self.programs,
        )

    @property
    def _derivatives(self) -> Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]:
        """ℓ′ and ℓ″ of each row; z″ is 0 for linearised outputs."""
        of_rows = self.row_losses.derivatives
        if not self.gauss_newton:
            return of_rows
        return lambda outputs, slope, _, y: of_rows(outputs, slope, torch.zeros_like(slope), y)

    def gradients(self, theta: Tensor) -> Tensor:
        """(C, P) the gradients ∇E_c at ``theta`` (P,), one row for each class; NaN for a class without rows."""
        gradients = theta.new_empty(self.num_classes, len(theta))
        gradient = torch.func.grad(self.model.loss_sum)
        for group, passes in self._class_groups:
            total = torch.zeros(len(gradients[group]), len(theta), dtype=torch.float64, device=theta.device)
            for labels, rows, y in passes:
                x = self.x[rows]
                if self._is_batchable and len(labels) > 1:
                    each = torch.func.vmap(gradient, (None, 0, 0))(theta, x, y)
                else:
                    each = torch.stack([gradient(theta, *batch) for batch in zip(x, y, strict=True)])
                total.index_add_(0, labels - group.start, each.to(torch.float64))
            gradients[group] = total.div_(self.counts[group, None])  # 0/0 is NaN
        return gradients

    @cached_property
    def _is_batchable(self) -> bool:
        """Whether the network can be computed for several batches together, which some custom networks can't."""
        both = self.x[:2].expand(2, *self.x[:2].shape)
        try:
            torch.func.vmap(self.model.logits, (None, 0))(self.model.theta(), both)
        except Exception:  # noqa: BLE001 - the network has been computed without vmap before
            return False
        return True

    @cached_property
    def _class_groups(self) -> list[tuple[slice, list[tuple[Tensor, Tensor, Tensor]]]]:
        """Groups of classes whose gradients take at most :data:`GRADIENT_BYTES`, and the passes over their rows."""
        most = max(1, GRADIENT_BYTES // (torch.float64.itemsize * self.model.layout.size))
        groups = [slice(first, first + most) for first in range(0, self.num_classes, most)]
        return [(group, self._passes(group)) for group in groups]

    def _passes(self, classes: slice) -> list[tuple[Tensor, Tensor, Tensor]]:
        """The rows of some classes in passes: the classes (c,), the indices (c, n) of rows of each, and labels (c, n).

        Where a class has fewer rows, other rows fill the place, with a label that losses ignore.
        """
        counts = self.counts.to(torch.int64)
        first, sizes = counts.cumsum(0) - counts, counts.tolist()
        order, passes, done = self.y.argsort(stable=True), [], 0
        chosen = torch.arange(self.num_classes, device=self.y.device)[classes]
        most = max(sizes[classes])
        while done < most:
            labels = chosen[counts[classes] > done]
            place = done + torch.arange(max(1, self.chunk_rows // len(labels)), device=self.y.device)
            place = place[: most - done]
            rows = order[(first[labels, None] + place).clamp_max(len(order) - 1)]
            y = torch.where(place < counts[labels, None], labels[:, None], IGNORED)
            passes.append((labels, rows, y))
            done += len(place)
        return passes


def row_hits(logits: Tensor, y: Tensor) -> Tensor:
    """(…, n) 1 for each row that is classified correctly, and 0 for the others."""
    return (logits.argmax(-1) == y).to(logits.dtype)


def groups_of_lines(count: int, most: int) -> list[slice]:
    """Split ``count`` lines into groups of at most ``most``.

    Their sizes are powers of two, so that few sizes occur: each needs its own program.
    """
    groups, first = [], 0
    while first < count:
        last = first + 2 ** (min(count - first, most).bit_length() - 1)
        groups.append(slice(first, last))
        first = last
    return groups
