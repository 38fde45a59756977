"""Small data sets and models that tests name as ``tests.toy:…``."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor, nn

Arrays = tuple[NDArray[np.generic], NDArray[np.generic], NDArray[np.generic], NDArray[np.generic]]


def digits() -> Arrays:
    """300 + 100 real 8 × 8 digits of ten classes."""
    bunch = load_digits()
    x, y = (bunch.data / 16).astype(np.float32), bunch.target
    return x[:300], y[:300], x[300:400], y[300:400]


def blobs(rows: int = 50, features: int = 5, classes: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Inputs (rows, features) in float64 and labels of every class."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, features, generator=generator, dtype=torch.float64)
    return x, torch.arange(rows) % classes


def with_nan() -> Arrays:
    x, y, test_x, test_y = digits()
    x[3, 5] = np.nan
    return x, y, test_x, test_y


def bad_label() -> Arrays:
    x, y, test_x, test_y = digits()
    return x, y, test_x, np.where(test_y == 9, 12, test_y)


class SmoothCNN(nn.Module):
    """A small convolutional network with smooth activations, for (1, 8, 8) or flat inputs."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3, stride=2)
        self.head = nn.Linear(27, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(nn.functional.gelu(self.conv(x.reshape(-1, 1, 8, 8))).flatten(1))
        return out


class Residual(nn.Module):
    """A skip connection, and an activation used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(64, 5), nn.Linear(5, 5), nn.Linear(5, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x))
        out: Tensor = self.head(h + torch.tanh(self.second(h)) * h)
        return out


class Tied(nn.Module):
    """One parameter in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Linear(64, 64), nn.Linear(64, 10)
        self.head.weight = nn.Parameter(self.inner.weight[:10].detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        w = self.head.weight
        out: Tensor = torch.sigmoid(x @ w.T) @ (w @ w.T) + self.head(x)
        return out


def cnn(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    return SmoothCNN(num_classes)


def with_dropout(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, num_classes))


def blobs_for_model(input_shape: tuple[int, ...], num_classes: int) -> object:
    return blobs()


def with_batch_norm(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Linear(64, 4), nn.BatchNorm1d(4), nn.Linear(4, num_classes))


def text_labels() -> Arrays:
    x, y, test_x, test_y = digits()
    return x, y.astype(str), test_x, test_y.astype(str)


def overflowing() -> Arrays:
    """Finite in float64, not in float32."""
    x, y, test_x, test_y = digits()
    return x.astype(np.float64) * 1e300, y, test_x, test_y


def raising() -> Arrays:
    raise FileNotFoundError("my.csv")


def wrong_output(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    return nn.Linear(64, num_classes + 1)
