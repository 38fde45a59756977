"""Full-batch descent after a fit, until the weights are a stationary point of the objective.

L-BFGS goes most of the way. Newton's method does the rest: conjugate gradients solve its linear systems with Hessian
products, and stop at directions of negative curvature. The objective never rises beyond rounding.
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    Product = Callable[[Tensor], Tensor]

HISTORY = 20
"""The number of earlier steps that L-BFGS keeps."""
ACCURACY = 0.1
"""The largest residual of a Newton system, relative to the gradient."""
DECREASE = 1e-4
"""The share of the decrease that the slope predicts which a Newton step must reach."""
HALVINGS = 12
"""The number of times that a Newton step is halved before it is given up."""


@dataclass(frozen=True)
class Position:
    """The objective at some weights.

    Attributes
    ----------
    theta : Tensor
        (P,) the weights.
    value : float
        The objective, in nat.
    gradient : Tensor
        (P,) its gradient, in float64.
    stationarity : float
        The 2-norm of that gradient, over that of the gradient of E.
    """

    theta: Tensor
    value: float
    gradient: Tensor
    stationarity: float

    @property
    def slope(self) -> float:
        """The 2-norm of the gradient."""
        return float(torch.linalg.vector_norm(self.gradient))

    def is_stationary(self, tol: float) -> bool:
        """Whether the stationarity is at most ``tol``, or the gradient is zero to rounding."""
        return self.stationarity <= tol or self.slope <= torch.finfo(self.theta.dtype).eps


@dataclass
class Objective:
    """E(θ) + cλ‖θ − θ_ref‖² over all training rows.

    Attributes
    ----------
    error : callable
        θ ↦ E and ∇E (P,), in float64.
    hessian : callable
        θ ↦ the function v ↦ H v, where H is the Hessian of E over the same rows.
    shift : float
        2cλ.
    center : Tensor, optional
        (P,) θ_ref, 0 by default.
    evaluations : int
        The number of gradients and Hessian products that were computed.
    """

    error: Callable[[Tensor], tuple[float, Tensor]]
    hessian: Callable[[Tensor], Product]
    shift: float
    center: Tensor | None = None
    evaluations: int = field(default=0, init=False)

    def at(self, theta: Tensor) -> Position:
        """Evaluate the objective and its gradient."""
        self.evaluations += 1
        error, of_error = self.error(theta)
        displacement = theta.to(torch.float64) - (0.0 if self.center is None else self.center)
        gradient = of_error + self.shift * displacement
        norm, norm_of_error = (float(torch.linalg.vector_norm(each)) for each in (gradient, of_error))
        stationarity = norm / norm_of_error if norm_of_error else math.inf if norm else 0.0
        value = error + self.shift / 2 * float(displacement @ displacement)
        return Position(theta.clone(), value, gradient, stationarity)

    def products_at(self, theta: Tensor) -> Product:
        """Return the product with the Hessian of the objective at ``theta``."""
        product = self.hessian(theta)

        def with_penalty(v: Tensor) -> Tensor:
            self.evaluations += 1
            return product(v) + self.shift * v

        return with_penalty


def polish(objective: Objective, theta: Tensor, iterations: int, tol: float) -> Position:
    """Descend from ``theta`` (P,) until the stationarity is at most ``tol``.

    Parameters
    ----------
    objective : Objective
        The objective.
    theta : Tensor
        (P,) the weights of a fit; they are not changed.
    iterations : int
        Maximum number of iterations of L-BFGS, and of Hessian products of Newton's method.
    tol : float
        The stationarity at which the descent ends.

    Returns
    -------
    Position
        The objective at the last weights. Its stationarity is larger than ``tol`` if the iterations did not suffice, or
        if rounding hides every further decrease.
    """
    start = objective.at(theta)
    if start.is_stationary(tol):
        return start
    return _newton(objective, _lbfgs(objective, start, iterations, tol), iterations, tol)


class _Arrived(Exception):  # noqa: N818 - the way out of an optimiser, not an error
    """Ends L-BFGS at a stationary point."""


def _lbfgs(objective: Objective, start: Position, iterations: int, tol: float) -> Position:
    """Return the lowest position that L-BFGS evaluates, or the first that is stationary and not above the start."""
    parameter = start.theta.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [parameter],
        max_iter=iterations,
        history_size=HISTORY,
        tolerance_grad=0.0,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )
    best = start

    def evaluate() -> float:
        nonlocal best
        found = objective.at(parameter.detach())
        parameter.grad = found.gradient.to(parameter.dtype)
        if found.value < best.value:
            best = found
        if found.value <= start.value and found.is_stationary(tol):
            best = found
            raise _Arrived
        return found.value

    with suppress(_Arrived):
        optimizer.step(evaluate)  # type: ignore[no-untyped-call]  # PyTorch's
    return best


def _newton(objective: Objective, position: Position, products: int, tol: float) -> Position:
    """Take Newton steps with at most ``products`` Hessian products."""
    while products > 0 and not position.is_stationary(tol):
        accuracy = min(ACCURACY, math.sqrt(position.stationarity))
        direction, used = _newton_direction(
            objective.products_at(position.theta), position.gradient.to(position.theta.dtype), accuracy, products
        )
        products -= used
        lower = _lower_position(objective, position, direction)
        if lower is None:
            break
        position = lower
    return position


def _newton_direction(product: Product, gradient: Tensor, accuracy: float, most: int) -> tuple[Tensor, int]:
    """Solve A p = −g approximately by conjugate gradients (Nocedal & Wright, algorithm 7.1).

    Returns
    -------
    direction : Tensor
        (P,) the last iterate before a direction of negative curvature; −g if the first one is such.
    used : int
        The number of products.
    """
    found, residual = torch.zeros_like(gradient), gradient.clone()
    direction, squares = -gradient, float(gradient @ gradient)
    target = accuracy**2 * squares
    for used in range(1, most + 1):
        image = product(direction)
        curvature = float(direction @ image)
        if curvature <= 0:
            return (found if used > 1 else direction), used
        step = squares / curvature
        found = found + step * direction
        residual = residual + step * image
        before, squares = squares, float(residual @ residual)
        if squares <= target:
            return found, used
        direction = squares / before * direction - residual
    return found, most


def _lower_position(objective: Objective, position: Position, direction: Tensor) -> Position | None:
    """Return a lower position along ``direction``; None if even short steps do not lead to one.

    Where rounding hides the decrease of the objective, the gradient must decrease instead.
    """
    slope = float(position.gradient @ direction.to(torch.float64))
    rounding = torch.finfo(direction.dtype).eps * abs(position.value)
    step = 1.0
    for _ in range(HALVINGS + 1):
        found = objective.at(position.theta + step * direction)
        if found.value <= position.value + DECREASE * step * slope:
            return found
        if found.value <= position.value + rounding and found.slope < position.slope:
            return found
        step /= 2
    return None
