"""The update rules, on one matrix of parameters (a model a row) and its gradient; the same arithmetic for every row.

A penalty is no business of theirs: it is in the gradient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from torch.optim.adam import adam

if TYPE_CHECKING:
    from torch import Tensor


class Optimizer(Protocol):
    """Moves the parameters that it was made for by the gradient that it was made for."""

    def step(self) -> None:
        """One update."""

    def reset(self) -> None:
        """Forget all that was learnt from earlier steps."""


class Adam:
    """Adam (Kingma & Ba 2015) with β = (0.9, 0.999), ε = 1e-8, as PyTorch's fused kernel does it."""

    def __init__(self, theta: Tensor, gradient: Tensor, lr: float) -> None:
        self.lr = lr
        self._parameters, self._gradients = [theta], [gradient]
        self._means, self._squares = [torch.zeros_like(theta)], [torch.zeros_like(theta)]
        self._count = [torch.zeros((), dtype=torch.float32, device=theta.device)]

    def step(self) -> None:
        """One update."""
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
        """Forget all that was learnt from earlier steps."""
        for state in (*self._means, *self._squares, *self._count):
            state.zero_()


class SGD:
    """b ← momentum·b + g, θ ← θ − lr·b."""

    def __init__(self, theta: Tensor, gradient: Tensor, lr: float, momentum: float) -> None:
        self.lr, self.momentum = lr, momentum
        self._theta, self._gradient, self._velocity = theta, gradient, torch.zeros_like(theta)

    def step(self) -> None:
        """One update."""
        self._velocity.mul_(self.momentum).add_(self._gradient)
        self._theta.add_(self._velocity, alpha=-self.lr)

    def reset(self) -> None:
        """Forget all that was learnt from earlier steps."""
        self._velocity.zero_()
