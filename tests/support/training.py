"""Fitting one model in one call, for tests and benchmarks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hesstore.errors import DivergedError
from hesstore.problem.models import FlatModel
from hesstore.training import Fit, FitSettings, Trainer


def fit(
    model: FlatModel,
    start: Tensor,
    x: Tensor,
    y: Tensor,
    *,
    l2: float,
    settings: FitSettings,
    rng: torch.Generator,
    on_epoch: Callable[[int, float], None] | None = None,
) -> Fit:
    """Fit one model with a :class:`~hesstore.training.Trainer`.

    Raises
    ------
    DivergedError
        If the loss of an epoch is NaN or infinite.
    """
    report = None if on_epoch is None else lambda _, epoch, loss: on_epoch(epoch, loss)
    (found,) = Trainer(model, x, y, settings).fit([start], [l2], [rng], report)
    if isinstance(found, DivergedError):
        raise found
    return found
