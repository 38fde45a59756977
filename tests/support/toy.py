"""Small data sets and models that tests name as ``tests.support.toy:…``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor, nn

Arrays = tuple[NDArray[np.generic], NDArray[np.generic], NDArray[np.generic], NDArray[np.generic]]

TOY: dict[str, object] = {
    "dataset": "tests.support.toy:digits",
    "hidden": "6,5",
    "l2": "0,0.001,0.01,0.05",
    "k": 6,
    "epochs": 3,
    "chunk_rows": 128,
    "response": 0,
    "device": "cpu",
}
"""The settings of a sweep that takes a second."""


CONSTANT = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)


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


def signs() -> Arrays:
    """894 rows with x = 1 of class 0, and 106 with x = −1 of class 1: E x² = 1 and E e_y x = (0.894, −0.106)."""
    y = (np.arange(1000) >= 894).astype(np.int64)
    x = 1.0 - 2.0 * y[:, None]
    return x, y, x, y


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


class Between(nn.Module):
    """Two linear layers and a function of one's own between them, which is also given the module."""

    def __init__(self, between: Callable[[Between, Tensor], Tensor], num_classes: int = 10, **buffers: Tensor) -> None:
        super().__init__()
        self.between = between
        self.inner, self.head = nn.Linear(64, 6), nn.Linear(6, num_classes)
        for name, value in buffers.items():
            self.register_buffer(name, value)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.between(self, self.inner(x.flatten(1))))
        return out


class Constant(nn.Module):
    """A mask and a position code that stay as they are, and a layer that is used twice under two names."""

    def __init__(self, num_classes: int, code: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", torch.tensor([1, 0, 1, 1, 0, 1]))
        self.register_buffer("code", code)
        self.inner, self.square, self.head = nn.Linear(64, 6), nn.Linear(6, 6), nn.Linear(6, num_classes)
        self.again = self.square

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.inner(x.flatten(1)) * self.get_buffer("mask")) + self.get_buffer("code")
        out: Tensor = self.head(torch.tanh(self.again(torch.tanh(self.square(h)))))
        return out


def with_buffers(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    return Constant(num_classes, torch.linspace(0, 1, 6))


def with_other_buffers(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    return Constant(num_classes, torch.linspace(0, 2, 6))


def with_constant(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """A network that makes a constant in each forward pass, on the device of its input."""
    return Between(lambda _, h: torch.tanh(h) + torch.tensor(CONSTANT, dtype=h.dtype, device=h.device), num_classes)


def five_with_constant(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """The same for the five features of :func:`blobs`."""
    module = with_constant(input_shape, num_classes)
    assert isinstance(module, Between)
    module.inner = nn.Linear(5, 6)
    return module


def with_random_buffer(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    return Between(lambda m, h: torch.tanh(h) + m.get_buffer("code"), num_classes, code=torch.randn(6))


def with_foreign_weights(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """Initial weights from a generator that nobody seeds."""
    module = Between(lambda _, h: torch.tanh(h), num_classes)
    nn.init.constant_(module.head.bias, float(np.random.default_rng().normal()))
    return module


def with_frozen(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    module = Between(lambda _, h: torch.tanh(h), num_classes)
    module.inner.weight.requires_grad = False
    return module


def lazy(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    return nn.Sequential(nn.LazyLinear(4), nn.Tanh(), nn.LazyLinear(num_classes))


def relu(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.ReLU(), nn.Linear(6, num_classes))


def cnn(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    return SmoothCNN(num_classes)


def with_dropout(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, num_classes))


class Attention(nn.Module):
    """Each half of an input looks at the other."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(features, 1, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        h = x.view(len(x), 2, -1)
        out: Tensor = h + self.attention(h, h, h, need_weights=False)[0]
        return out.flatten(1)


def blobs_for_model(input_shape: tuple[int, ...], num_classes: int) -> object:
    return blobs()


def with_batch_norm(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Linear(64, 4), nn.BatchNorm1d(4), nn.Linear(4, num_classes))


def relabelled(by: Callable[[NDArray[np.generic]], object]) -> tuple[object, ...]:
    """The digits, their labels changed."""
    x, y, test_x, test_y = digits()
    return x, by(y), test_x, by(test_y)


def reshaped(by: Callable[[NDArray[np.generic]], object]) -> tuple[object, ...]:
    """The digits, their inputs changed."""
    x, y, test_x, test_y = digits()
    return by(x), y, by(test_x), test_y


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


def sparse(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    layer = nn.Linear(64, num_classes)
    layer.weight = nn.Parameter(layer.weight.detach().to_sparse())
    return nn.Sequential(layer)


def on_meta(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Linear(64, num_classes, device="meta"))
