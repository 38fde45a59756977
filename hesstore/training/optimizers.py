"""The update rules of the optimisers, on a matrix of parameters, with one model in each row, and its gradient.

Every row goes through the same arithmetic. The gradient already includes the penalty.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from torch.optim.adam import adam

if TYPE_CHECKING:
    from torch import Tensor


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
    """Adam (Kingma & Ba 2015) with β = (0.9, 0.999) and ε = 1e-8, by PyTorch's fused kernel."""

    def __init__(self, theta: Tensor, gradient: Tensor, lr: float) -> None:
        self.lr = lr
        self._parameters, self._gradients = [theta], [gradient]
        self._means, self._squares = [torch.zeros_like(theta)], [torch.zeros_like(theta)]
        self._count = [torch.zeros((), dtype=torch.float32, device=theta.device)]

    @property
    def state(self) -> list[Tensor]:
        """The means of the gradient and of its square, and the number of steps."""
        return [*self._means, *self._squares, *self._count]

    def step(self) -> None:
        """Update the parameters once."""
        adam(
            self._parameters,
            self._gradients,
            self._means,
            self._squares,
            [],
            self._count,
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
