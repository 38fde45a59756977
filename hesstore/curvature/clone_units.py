"""Images of vectors under the near-symmetries of a network at θ: permutations of hidden units that are clones.

Two hidden units of a layer can be exchanged, with their weights, without a change of the network. If their weights are
nearly equal, the exchange also leaves θ nearly unchanged, so H nearly commutes with it: it maps an eigenvector of H to
another vector with nearly the same Rayleigh quotient. A group of g clones thus gives eigenvalues with g − 1 copies.

Strong regularisation makes many clones, often a quarter of a layer.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hesstore.problem.models import FlatModel, Inputs

TOLERANCES = (0.005, 0.02, 0.05)
"""Distances within which units are clones, relative to the largest norm of a unit's weights in the layer."""


@dataclass(frozen=True)
class HiddenLayer:
    """The places in θ of the weights of a hidden layer's units.

    Attributes
    ----------
    rows : Tensor
        (units, …) int64: for each unit, the indices of all its incoming and outgoing weights, in the same order.
    """

    rows: Tensor

    def permute(self, vector: Tensor, order: Tensor) -> None:
        """Permute the entries of ``vector`` (P,) in place: unit ``order[i]`` takes the place of unit i."""
        moved = (order != torch.arange(len(order))).nonzero()[:, 0]
        vector[self.rows[moved].to(vector.device)] = vector[self.rows[order[moved]].to(vector.device)]


def find_hidden_layers(model: FlatModel, x: Inputs) -> list[HiddenLayer]:
    """The hidden layers of ``model`` whose units can be exchanged without a change of the logits.

    Candidates follow from the shapes: the rows of a weight, the vectors of the same length that follow it, and the
    columns of the next weight. A candidate counts if a random permutation of its units leaves the logits of ``x`` at
    random weights unchanged. So layers in sequence are found, linear or convolutional, and others are left out.
    """
    generator = torch.Generator().manual_seed(0)
    layout = model.layout
    theta = torch.randn(layout.size, generator=generator, dtype=torch.float64) / 8
    theta = theta.to(x if isinstance(x, Tensor) and x.is_floating_point() else model.theta())
    with torch.no_grad():
        expected = model.logits(theta, x)
        found = []
        for layer in _candidates(layout.shapes):
            permuted = theta.clone()
            layer.permute(permuted, torch.randperm(len(layer.rows), generator=generator))
            if torch.allclose(model.logits(permuted, x), expected, rtol=1e-3, atol=1e-4):
                found.append(layer)
    return found


def _candidates(shapes: Sequence[tuple[int, ...]]) -> list[HiddenLayer]:
    sizes = [math.prod(shape) for shape in shapes]
    parts = [part.view(shape) for part, shape in zip(torch.split(torch.arange(sum(sizes)), sizes), shapes, strict=True)]
    weights = [place for place, shape in enumerate(shapes) if len(shape) > 1]
    found = []
    for this, following in itertools.pairwise(weights):
        units, inputs = shapes[this][0], shapes[following][1]
        if units < 2 or inputs % units:
            continue
        outgoing = parts[following].transpose(0, 1).reshape(units, -1)
        between = [parts[place][:, None] for place in range(this + 1, following) if shapes[place] == (units,)]
        found.append(HiddenLayer(torch.cat([parts[this].reshape(units, -1), *between, outgoing], 1)))
    return found


@dataclass(frozen=True)
class _Clones:
    """The groups of clones in one layer.

    Attributes
    ----------
    rows : Tensor
        (clones, …) the rows of :attr:`HiddenLayer.rows` of all clones, one group after the other, on the device.
    sizes : list of int
        The number of clones in each group.
    """

    rows: Tensor
    sizes: list[int]

    def draw_order(self, generator: torch.Generator) -> Tensor:
        """Draw (clones,) the index of the clone that takes the place of each one, by a permutation of each group."""
        starts = itertools.accumulate(self.sizes, initial=0)
        groups = [
            first + torch.randperm(size, generator=generator) for first, size in zip(starts, self.sizes, strict=False)
        ]
        return torch.cat(groups) if groups else torch.zeros(0, dtype=torch.int64)


class CloneUnits:
    """The groups of clones at one θ, as :class:`~hesstore.linalg.operators.Images`.

    Parameters
    ----------
    layers : sequence of HiddenLayer
        The layers.
    theta : Tensor
        (P,) the weights.
    """

    def __init__(self, layers: Sequence[HiddenLayer], theta: Tensor) -> None:
        values = theta.detach().to("cpu", torch.float64)
        by_layer = [_groups(values[layer.rows]) for layer in layers]
        by_level = [list(each) for each in zip(*by_layer, strict=True)]
        self._levels = [
            [_clones(layer, each, theta.device) for layer, each in zip(layers, groups, strict=True)]
            for level, groups in enumerate(by_level)
            if any(groups) and (level == 0 or _sizes(groups) != _sizes(by_level[level - 1]))
        ]

    @property
    def levels(self) -> int:
        """The number of tolerances at which there are clones."""
        return len(self._levels)

    def images(self, vectors: Tensor, level: int, generator: torch.Generator) -> Tensor:
        """The image of each row of ``vectors`` (n, P), each under another permutation."""
        layers, images = self._levels[level], vectors.clone()
        orders = [[clones.draw_order(generator) for clones in layers] for _ in vectors]
        for clones, order in zip(layers, zip(*orders, strict=True), strict=True):
            source = clones.rows[torch.stack(order).to(vectors.device)].flatten(1)
            images.scatter_(1, clones.rows.view(1, -1).expand(len(vectors), -1), images.gather(1, source))
        return images


def _clones(layer: HiddenLayer, groups: list[Tensor], device: torch.device) -> _Clones:
    members = torch.cat(groups) if groups else torch.zeros(0, dtype=torch.int64)
    return _Clones(layer.rows[members].to(device), [len(group) for group in groups])


def _groups(weights: Tensor) -> list[list[Tensor]]:
    """For each tolerance, the groups of clones among units with these ``weights`` (units, …)."""
    from scipy.cluster.hierarchy import fcluster, linkage  # noqa: PLC0415 - a plan needs no groups

    tree = linkage(torch.nn.functional.pdist(weights).numpy(), "complete")  # distance: the diameter of a group
    largest = float(torch.linalg.vector_norm(weights, dim=1).max())
    found = []
    for tolerance in TOLERANCES:
        labels = torch.from_numpy(fcluster(tree, tolerance * largest, "distance"))
        groups = [(labels == label).nonzero()[:, 0] for label in range(1, int(labels.max()) + 1)]
        found.append([group for group in groups if len(group) > 1])
    return found


def _sizes(groups: list[list[Tensor]]) -> list[list[int]]:
    return [[len(group) for group in layer] for layer in groups]
