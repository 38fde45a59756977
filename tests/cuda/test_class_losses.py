"""Losses and accuracies by class along lines on a GPU, where passes are filled up, against those of the CPU."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hesstore.curvature import ClassLosses, LossLines
from tests.support import device_work
from tests.support.stand_in_device import Machine


def values(device: str, chunk_rows: int) -> list[Tensor]:
    """The derivatives along seven lines; rises and estimates at five points on them; accuracies after up to 14 steps.

    Two of the steps were not found.
    """
    model, generator = device_work.make_model(device), torch.Generator().manual_seed(0)
    theta = model.theta() * 3
    v = torch.randn(7, len(theta), generator=generator, dtype=torch.float64).to(device)
    steps = torch.linspace(-3, 4, 14, dtype=torch.float64).view(7, 2)
    steps[1, 0] = steps[6, 1] = torch.nan
    losses = ClassLosses(model, *device_work.make_rows(device), 3, chunk_rows)
    lines = LossLines(losses, theta, v)
    index, t = torch.tensor([6, 0, 2, 2, 5]), torch.tensor([0.5, -1, 2, -2, 0], dtype=torch.float64)
    derivatives, changes = losses.along_with_accuracies(theta, v, steps)
    found = [*lines.derivatives, lines.measured(index, t), lines.estimated(index, t), *derivatives, changes]
    return [each.cpu() for each in found]


@pytest.mark.parametrize("chunk_rows", [24, 24 * 4, 48 * 6, 4096], ids="{} rows".format)
def test_values_along_lines_equal_those_of_the_cpu(machine: Machine, chunk_rows: int) -> None:
    """With one, two, or several lines in a pass."""
    for found, expected in zip(values("cuda:0", chunk_rows), values("cpu", chunk_rows), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-13, equal_nan=True)
