"""The update rules of the optimisers, on a matrix of parameters, with one model in each row, and its gradient.

Every row goes through the same arithmetic. The gradient already includes the penalty.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

import torch
from torch.optim.adam import adam

from hesstore.linalg.aligned_rows import row_length

if TYPE_CHECKING:
    from torch import Tensor


GPU_PIECES = 36
"""Number of pieces into which Adam cuts the parameters on a GPU.

A fused kernel of PyTorch gives each thread block 65,536 values of one tensor, and takes at least 36 tensors, according
to its header ``MultiTensorApply.cuh``. A small network as one tensor would thus occupy two blocks of a device that runs
more than a hundred at the same time.
"""


class Optimizer(Protocol):
    """An update rule for the parameters and the gradient that it was created with."""

    @property
    def state(self) -> list[Tensor]:
        """The tensors, other than the parameters, that a step changes."""
        ...

    def step(self) -> None:
        """Update the parameters once."""

    def reset(self) -> None:
        """Clear the state from earlier steps."""


class Adam:
    """Adam (Kingma & Ba 2015) with β = (0.9, 0.999) and ε = 1e-8, by PyTorch's fused kernel.

    Parameters
    ----------
    theta, gradient : Tensor
        (G, P) The parameters and their gradient, both contiguous.
    lr : float
        The learning rate.
    pieces : int
        Number of pieces that the kernel takes as separate tensors. It does not change the results.
    """

    def __init__(self, theta: Tensor, gradient: Tensor, lr: float, *, pieces: int = 1) -> None:
        self.lr = lr
        mean, square = torch.zeros_like(theta), torch.zeros_like(theta)
        self._parameters, self._gradients, self._means, self._squares = (
            _cut(each, pieces) for each in (theta, gradient, mean, square)
        )
        counts = torch.zeros(len(self._parameters), dtype=torch.float32, device=theta.device)
        self._counts = list(counts.unbind())
        self._state = [mean, square, counts]

    @property
    def state(self) -> list[Tensor]:
        """The means of the gradient and of its square, and the number of steps for each piece."""
        return self._state

    def step(self) -> None:
        """Update the parameters once."""
        adam(
            self._parameters,
            self._gradients,
            self._means,
            self._squares,
            [],
            self._counts,
            fused=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=self.lr,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )

    def reset(self) -> None:
        """Clear the state from earlier steps."""
        for state in self.state:
            state.zero_()


def _cut(values: Tensor, pieces: int) -> list[Tensor]:
    """At most ``pieces`` views of a contiguous tensor, of aligned and, apart from the last, equal lengths."""
    length = row_length(math.ceil(values.numel() / pieces))
    return list(torch.split(values.view(-1), length))


class SGD:
    """Stochastic gradient descent with momentum: b ← momentum·b + g, θ ← θ − lr·b."""

    def __init__(self, theta: Tensor, gradient: Tensor, lr: float, momentum: float) -> None:
        self.lr, self.momentum = lr, momentum
        self._theta, self._gradient, self._velocity = theta, gradient, torch.zeros_like(theta)

    @property
    def state(self) -> list[Tensor]:
        """The velocity."""
        return [self._velocity]

    def step(self) -> None:
        """Update the parameters once."""
        self._velocity.mul_(self.momentum).add_(self._gradient)
        self._theta.add_(self._velocity, alpha=-self.lr)

    def reset(self) -> None:
        """Clear the state from earlier steps."""
        self._velocity.zero_()
