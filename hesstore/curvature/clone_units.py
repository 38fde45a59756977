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
from scipy.cluster.hierarchy import fcluster, linkage
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hesstore.problem.models import FlatModel

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


def find_hidden_layers(model: FlatModel, x: Tensor) -> list[HiddenLayer]:
    """The hidden layers of ``model`` whose units can be exchanged without a change of the logits.

    Candidates follow from the shapes: the rows of a weight, the vectors of the same length that follow it, and the
    columns of the next weight. A candidate counts if a random permutation of its units leaves the logits of ``x`` at
    random weights unchanged. So layers in sequence are found, linear or convolutional, and others are left out.
    """
    generator = torch.Generator().manual_seed(0)
    layout = model.layout
    theta = torch.randn(layout.size, generator=generator, dtype=torch.float64) / 8
    theta = theta.to(x if x.is_floating_point() else model.theta())
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
        self._layers = layers
        values = theta.detach().to("cpu", torch.float64)
        by_layer = [_groups(values[layer.rows]) for layer in layers]
        by_level = [list(each) for each in zip(*by_layer, strict=True)]
        self._levels = [
            groups
            for level, groups in enumerate(by_level)
            if any(groups) and (level == 0 or _sizes(groups) != _sizes(by_level[level - 1]))
        ]

    @property
    def levels(self) -> int:
        """The number of tolerances at which there are clones."""
        return len(self._levels)

    def images(self, vectors: Tensor, level: int, generator: torch.Generator) -> Tensor:
        """The image of each row of ``vectors`` (n, P), each under another permutation."""
        images = vectors.clone()
        for image in images:
            for layer, groups in zip(self._layers, self._levels[level], strict=True):
                order = torch.arange(len(layer.rows))
                for group in groups:
                    order[group] = group[torch.randperm(len(group), generator=generator)]
                layer.permute(image, order)
        return images


def _groups(weights: Tensor) -> list[list[Tensor]]:
    """For each tolerance, the groups of clones among units with these ``weights`` (units, …)."""
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
