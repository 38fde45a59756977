"""Lines through several points, which share passes through the network: they give what those of each point give."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from hesstore.curvature import ClassLosses, LossLines
from hesstore.problem.models import FlatModel, build
from tests.support import toy

CLASSES, POINTS, LINES, ROWS = 10, 3, 4, 60
NETWORKS: dict[str, Callable[[], FlatModel]] = {
    "dense": lambda: build("mlp", (6, 5), (64,), CLASSES, seed=0),
    "dense, squared error": lambda: build("mlp", (6,), (64,), CLASSES, seed=0, loss="mse"),
    "residual": lambda: FlatModel(toy.Residual()),
    "convolutional": lambda: FlatModel(toy.SmoothCNN(CLASSES)),
    "buffers": lambda: FlatModel(toy.with_buffers((64,), CLASSES)),
    "a parameter in two places": lambda: FlatModel(toy.Tied()),
}


@pytest.mark.parametrize(
    ("name", "chunk_rows"), [*((name, 32 * 5) for name in NETWORKS), ("dense", 32), ("dense", 4096)]
)
def test_each_point_has_the_values_that_it_has_alone(name: str, chunk_rows: int) -> None:
    torch.manual_seed(0)
    model, generator = NETWORKS[name](), torch.Generator().manual_seed(1)
    model.module.double().train(mode=False)
    x, y = (torch.from_numpy(part[:ROWS]) for part in toy.digits()[:2])
    theta = torch.randn(POINTS, model.layout.size, generator=generator, dtype=torch.float64)
    v = torch.randn(POINTS, LINES, model.layout.size, generator=generator, dtype=torch.float64)
    steps = torch.randn(POINTS, LINES, 2, generator=generator, dtype=torch.float64)
    steps[0, 1, 0] = steps[2, 3] = torch.nan  # were not found
    losses = ClassLosses(model, x.double(), y, CLASSES, chunk_rows)
    derivatives, changes = losses.along_with_accuracies(theta, v, steps)
    lines = LossLines(losses, theta, v)
    index, t = torch.arange(POINTS * LINES), torch.linspace(-2, 2, POINTS * LINES, dtype=torch.float64)
    measured, estimated = (rise(index, t).view(POINTS, LINES) for rise in (lines.measured, lines.estimated))
    for point in range(POINTS):
        alone, alone_changes = losses.along_with_accuracies(theta[point], v[point], steps[point])
        own, some = LossLines(losses, theta[point], v[point]), t.view(POINTS, LINES)[point]
        for found, expected in (
            (derivatives.slope[point], alone.slope),
            (derivatives.curvature[point], alone.curvature),
            (changes[point], alone_changes),
            (lines.derivatives.slope.view(POINTS, LINES, -1)[point], alone.slope),
            (lines.derivatives.curvature.view(POINTS, LINES, -1)[point], alone.curvature),
            (measured[point], own.measured(torch.arange(LINES), some)),
            (estimated[point], own.estimated(torch.arange(LINES), some)),
        ):
            torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-11, equal_nan=True)
