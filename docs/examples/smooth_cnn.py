"""A custom network: a small, smooth convolutional network, so that its Hessian describes the curvature of its loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from torch import Tensor


class SmoothCNN(nn.Module):
    """Two convolutions with GELU, average pooling, and a linear layer."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 4, kernel_size=5, stride=2, padding=2)
        self.conv2 = nn.Conv2d(4, 8, kernel_size=3, stride=2, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(3)
        self.head = nn.Linear(8 * 3 * 3, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (N, num_classes) of images (N, channels, height, width)."""
        x = nn.functional.gelu(self.conv1(x))
        x = self.pool(nn.functional.gelu(self.conv2(x)))
        logits: Tensor = self.head(x.flatten(1))
        return logits


def build(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """Return the network for inputs of shape ``input_shape``, such as (1, 28, 28); hesstore calls this function."""
    return SmoothCNN(input_shape[0], num_classes)
