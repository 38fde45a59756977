"""The effect of single directions on single classes: derivatives of each class's mean loss, and accuracies after steps.

E_c is the mean loss over the rows of class c. Along v, v·∇E_c and vᵀH_c v are the means over the class of the
derivatives ℓ′ and ℓ″ of the losses of its rows, for which ``curvature/row_losses.py`` has the formulas. With π_c the
share of the class among the rows, Σ_c π_c vᵀH_c v = vᵀH v. Likewise for G, the Gauss–Newton part of H, where z″ is left
out of ℓ″.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import torch

from hesstore.autodiff import trace_line
from hesstore.curvature.row_chunks import split_into_chunks
from hesstore.curvature.row_losses import RowLosses, row_losses
from hesstore.linalg.transfers import to_device

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from hesstore.autodiff import LineProgram
    from hesstore.curvature.row_chunks import RowChunk
    from hesstore.problem.models import FlatModel


SAMPLE_ROWS = 128
"""The number of rows in a sample of a data set."""

LEAST_LINES = 4
"""The least number of lines in a pass with several lines. One line at a time is faster than two or three."""

GRADIENT_BYTES = 2**28
"""The maximum memory of the gradients of classes that are computed together, in float64."""

IGNORED = -100
"""The label of rows without a loss, as in :func:`torch.nn.functional.cross_entropy`."""


class Derivatives(NamedTuple):
    """The first and second derivatives of each class's mean loss along m directions, (…, m, C) each, in float64.

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
        """The derivatives at ``theta`` (P,) along each row of ``directions`` (m, P); or at several points, (G, …)."""
        return self.along_with_accuracies(theta, directions, directions.new_empty(*directions.shape[:-1], 0))[0]

    @torch.no_grad()
    def along_with_accuracies(self, theta: Tensor, directions: Tensor, steps: Tensor) -> tuple[Derivatives, Tensor]:
        """The derivatives along directions, and the changes of the class accuracies after steps.

        Parameters
        ----------
        theta : Tensor
            (P,) the weights; or (G, P) those of several points, and all that follows has a first axis for them, too.
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
        classes, shape, point = self.num_classes, steps.shape, points_of(directions)
        directions, steps = directions.flatten(0, -2), steps.flatten(0, -2)
        count, each = steps.shape
        lengths = steps.to("cpu", torch.float64).flatten()
        known = lengths.isfinite().nonzero()[:, 0]  # counted through the steps of all directions
        bounds = torch.searchsorted(known, each * torch.arange(count + 1)).tolist()  # of those of each direction
        places, t = to_device(torch.stack([known.to(torch.float64), lengths[known]]), theta.device)  # one transfer
        places, t = places.to(torch.int64), t.to(theta.dtype)
        index = places // max(1, each)
        sums, after, start = (
            torch.zeros(*axes, classes, dtype=torch.float64, device=theta.device)
            for axes in ((count, 2), (len(known),), theta.shape[:-1])
        )
        for program, inputs, labels, _ in self.chunks:
            pencil, together = program.through(theta, inputs, labels), self.lines_together(len(labels))
            membership = self.membership(labels)
            start += row_hits(pencil.value(), labels).to(torch.float64) @ membership
            for group in groups_of_lines(count, together):
                lines = pencil.along(directions[group], None if point is None else point[group]).stacked()
                sums[group] += pencil.derivatives(lines)[0].to(torch.float64) @ membership
                first, last = bounds[group.start], bounds[group.stop]
                for part in groups_of_values(t[first:last], together):
                    at = slice(first + part.start, first + part.stop)
                    hits = row_hits(lines.values(index[at] - group.start, t[at]), labels)
                    after[at] += hits.to(torch.float64) @ membership
        changes = steps.new_full((count * each, classes), torch.nan, dtype=torch.float64, device=theta.device)
        before = start if point is None else start[point[index]]
        changes[places] = (after - before) / self.counts
        derivatives = (sums / self.counts).view(*shape[:-1], 2, classes)  # 0/0 is NaN
        return Derivatives(*derivatives.unbind(-2)), changes.view(*shape, classes)

    def membership(self, labels: Tensor) -> Tensor:
        """(n, C) 1 for the class of each of the labels (n,), and 0 for the others, in float64."""
        return (labels[:, None] == torch.arange(self.num_classes, device=labels.device)).to(torch.float64)

    def lines_together(self, rows: int) -> int:
        """The number of lines in a pass with a chunk of ``rows`` rows."""
        count = self.chunk_rows // max(1, rows)
        return count if count >= LEAST_LINES else 1

    @cached_property
    def chunks(self) -> list[RowChunk[LineProgram]]:
        """The rows in chunks; :func:`split_into_chunks` orders them."""
        theta, derivatives = self.model.theta().to(self.x), self._derivatives
        return split_into_chunks(
            lambda x, y: trace_line(self.model.logits, derivatives, theta, x, y),
            self.x,
            self.y,
            self.chunk_rows,
            self.programs,
        )

    @property
    def order(self) -> Tensor:
        """(N,) The indices of the rows in the order of the chunks."""
        return torch.cat([chunk.rows for chunk in self.chunks])

    @cached_property
    def sample(self) -> Sample:
        """A sample of at most :data:`SAMPLE_ROWS` rows, with all classes in proportion."""
        order = self.order
        by_class = self.y[order].argsort(stable=True)
        count = min(len(order), SAMPLE_ROWS)
        places = by_class[torch.arange(count, device=order.device) * len(order) // count]
        losses = replace(self, x=self.x[order[places]], y=self.y[order[places]])
        return Sample(losses, places[losses.order])

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
        for group, passes in self._class_groups:
            total = self._gradient_sums(theta, *passes[0])
            if len(passes) > 1:
                total = total.to(torch.float64)
                for rows, labels in passes[1:]:
                    total += self._gradient_sums(theta, rows, labels)
            torch.div(total, self.counts[group, None].to(total), out=gradients[group])  # 0/0 is NaN
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

    def _gradient_sums(self, theta: Tensor, rows: Tensor, labels: Tensor) -> Tensor:
        """(c, P) the gradients of the summed losses of c classes, from indices and labels (c, n) of rows of each."""
        gradient, x = torch.func.grad(self.model.loss_sum), self.x[rows]
        if self._is_batchable and len(labels) > 1:
            each: Tensor = torch.func.vmap(gradient, (None, 0, 0))(theta, x, labels)
            return each
        return torch.stack([gradient(theta, *batch) for batch in zip(x, labels, strict=True)])

    @cached_property
    def _class_groups(self) -> list[tuple[slice, list[tuple[Tensor, Tensor]]]]:
        """Neighbouring classes that are computed together, and the passes over their rows.

        Only a class that has more rows than fit in a pass is computed alone, in several passes.
        """
        sizes, groups, first = self.counts.to(torch.int64).tolist(), [], 0
        most = max(1, GRADIENT_BYTES // (torch.float64.itemsize * self.model.layout.size))
        while first < len(sizes):
            last = first + 1
            while last < min(len(sizes), first + most) and _padded(sizes[first : last + 1]) <= self.chunk_rows:
                last += 1
            groups.append((slice(first, last), self._passes(slice(first, last), max(sizes[first:last]))))
            first = last
        return groups

    def _passes(self, classes: slice, most: int) -> list[tuple[Tensor, Tensor]]:
        """The indices (c, n) of rows of each of some classes, and their labels, for each pass.

        Where a class has fewer rows than ``most``, the largest number, other rows fill the place, with a label that
        losses ignore.
        """
        counts = self.counts.to(torch.int64)
        first, device = counts.cumsum(0) - counts, counts.device
        order, place = self.y.argsort(stable=True), torch.arange(max(1, most), device=device)
        rows = order[(first[classes, None] + place).clamp_max(len(order) - 1)]
        label = torch.arange(self.num_classes, device=device)[classes, None]
        labels = torch.where(place < counts[classes, None], label, IGNORED)
        size = max(1, self.chunk_rows // len(rows))
        return list(zip(torch.split(rows, size, 1), torch.split(labels, size, 1), strict=True))


def _padded(sizes: list[int]) -> int:
    """The number of rows of some classes if each has as many as the largest."""
    return len(sizes) * max(sizes)


class Sample(NamedTuple):
    """Some of the rows of a data set.

    Attributes
    ----------
    losses : ClassLosses
        Their losses.
    places : Tensor
        (n,) Their places among all rows in the order of the chunks of the data set, in the order of their own chunks.
    """

    losses: ClassLosses
    places: Tensor


def row_hits(logits: Tensor, y: Tensor) -> Tensor:
    """(…, n) 1 for each row that is classified correctly, and 0 for the others."""
    return (logits.argmax(-1) == y).to(logits.dtype)


def points_of(directions: Tensor) -> Tensor | None:
    """The index of the point of each of the ``directions`` (G, m, P), one after the other; None for one point, (m, P).

    It is a tensor (G m,) on their device.
    """
    if directions.dim() == 2:
        return None
    points, each, _ = directions.shape
    return torch.arange(points, device=directions.device).repeat_interleave(each)


def groups_of_lines(count: int, most: int) -> list[slice]:
    """Split ``count`` lines into as few groups as possible of at most ``most``, whose sizes differ by 1 or less.

    Each size needs its own program, and the number of lines is the same for all grid points.
    """
    if not count:
        return []
    parts = -(-count // most)
    bounds = [count * part // parts for part in range(parts + 1)]
    return [slice(*each) for each in pairwise(bounds)]


def groups_of_values(t: Tensor, most: int) -> list[slice]:
    """Split values along lines, given by their ``t`` (n,), into groups of at most ``most``.

    Their number varies, so the sizes are powers of two: each needs its own program. On a GPU the last group may have
    any size, because :meth:`~hesstore.autodiff.line.Lines.values` fills it up.
    """
    groups, first, largest = [], 0, 2 ** (most.bit_length() - 1)
    while (left := len(t) - first) > 0:
        size = largest if t.is_cuda else 2 ** (min(left, most).bit_length() - 1)
        groups.append(slice(first, first + min(left, size)))
        first += size
    return groups
