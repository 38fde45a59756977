"""The class response: how class accuracies change when the weights move along a direction.

The length of each step is chosen so that the training loss rises by a given amount, according to its quadratic model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from hesstore.store.schema import SIGNS

if TYPE_CHECKING:
    from torch import Tensor


class Steps(NamedTuple):
    """Steps along −v and +v of m directions.

    Attributes
    ----------
    length : Tensor
        (m, 2) float64: the lengths ε.
    predicted : Tensor
        (m, 2) float64: the rise of the loss according to its quadratic model, nat.
    """

    length: Tensor
    predicted: Tensor

    @property
    def signed(self) -> Tensor:
        """(m, 2) float64: −ε and +ε, the lengths along v."""
        return _signed(self.length)


def choose_steps(slope: Tensor, curvature: Tensor, rise: float, longest: float) -> Steps:
    """Choose the shortest steps ε along −v and +v at which the quadratic model of the loss has risen by ``rise``.

    The steps solve ±ε v·∇E + ½ ε² vᵀHv = rise. They are at most ``longest``, also along a flat direction and where the
    model never rises by so much.

    Parameters
    ----------
    slope, curvature : Tensor
        (m,) float64: v·∇E and vᵀHv. If one is NaN, the step is NaN.
    rise : float
        The rise of the loss in nats, above 0.
    longest : float
        The maximum length of a step.
    """
    s = _signed(slope[:, None])
    mu = curvature[:, None]
    root = (s.square() + 2 * mu * rise).sqrt()  # NaN where the model never rises by so much
    rising = 2 * rise / (s + root)
    falling = (root - s) / mu  # the same root, without cancellation if s < 0; it requires mu > 0
    length = torch.where(s >= 0, rising, torch.where(mu > 0, falling, torch.nan))
    length = torch.where(length.isfinite(), length, longest).clamp_max(longest)
    length = torch.where((s + mu).isfinite(), length, torch.nan)  # such as for an eigenpair that was not found
    return Steps(length, s * length + 0.5 * mu * length.square())


def _signed(values: Tensor) -> Tensor:
    """``values`` (m, 1 or 2), multiplied by the sign of each step."""
    return values * torch.tensor(SIGNS, dtype=values.dtype, device=values.device)
