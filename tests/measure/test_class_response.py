from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from hesstore.measure.class_response import choose_steps, find_steps
from hesstore.store.schema import RISE_TOLERANCE


def test_steps_reach_the_rise_by_the_quadratic_model() -> None:
    slope = torch.tensor([0.0, 0.3, -0.3, 0.2, 1e-9], dtype=torch.float64)
    curvature = torch.tensor([2.0, 2.0, 1e-3, -0.1, 1e-12], dtype=torch.float64)
    found = choose_steps(slope, curvature, 0.1, longest=50.0)
    for mode in range(5):
        for column, sign in enumerate((-1, 1)):
            length = float(found.length[mode, column])
            rise = sign * length * float(slope[mode]) + length**2 * float(curvature[mode]) / 2
            assert rise == pytest.approx(float(found.predicted[mode, column]), abs=1e-12)
            assert 0 < length <= 50
            assert rise == pytest.approx(0.1, rel=1e-9) or length == 50
    assert float(found.length[0, 0]) == pytest.approx(0.1**0.5, rel=1e-12)  # ½ μ ε² = 0.1
    assert (found.length == 50).tolist() == [[False] * 2, [False] * 2, [False, True], [True, False], [True, True]]


def test_the_shortest_step_is_taken() -> None:
    """Along a downward parabola the quadratic model reaches the rise twice."""
    found = choose_steps(torch.tensor([1.0]).double(), torch.tensor([-1.0]).double(), 0.1, longest=10.0)
    assert float(found.length[0, 1]) == pytest.approx(1 - (1 - 0.2) ** 0.5, rel=1e-12)


def test_flat_and_missing_directions() -> None:
    flat_and_missing = torch.tensor([0.0, torch.nan], dtype=torch.float64)
    found = choose_steps(flat_and_missing, flat_and_missing, 0.1, longest=3.0)
    assert found.length[0].tolist() == [3, 3]
    assert found.predicted[0].tolist() == [0, 0]
    assert bool(found.length[1].isnan().all())


@dataclass
class KnownRises:
    """Rises that are given as a function of the direction's index and of t, and counts of the evaluations."""

    rise: Callable[[int, float], float]
    estimate: Callable[[int, float], float]
    measurements: list[float] = field(default_factory=list)

    def measured(self, index: Tensor, t: Tensor) -> Tensor:
        self.measurements += t.tolist()
        return values(self.rise, index, t)

    def estimated(self, index: Tensor, t: Tensor) -> Tensor:
        return values(self.estimate, index, t)


def values(function: Callable[[int, float], float], index: Tensor, t: Tensor) -> Tensor:
    """The values of a function for each index and its t."""
    found = [function(*each) for each in zip(index.tolist(), t.tolist(), strict=True)]
    return torch.tensor(found, dtype=torch.float64)


SLOPE, CURVATURE = (torch.tensor(values, dtype=torch.float64) for values in ([0.05, -0.3, 0.0], [1.0, 0.01, 4.0]))


def quartic(index: int, t: float) -> float:
    """A loss with these slopes and curvatures that rises faster, and differently on both sides."""
    slope, curvature = float(SLOPE[index]), float(CURVATURE[index])
    return slope * t + curvature * t**2 / 2 + 0.3 * t**3 + 2 * t**4


@pytest.mark.parametrize(("wrong_by", "most"), [(0.0, 6), (0.1, 12), (3.0, 60)])
def test_steps_reach_the_measured_rise(wrong_by: float, most: int) -> None:
    """A wrong estimate costs measurements, not correctness."""
    rises = KnownRises(quartic, lambda index, t: (1 + wrong_by) * quartic(index, t))
    steps, measured = find_steps(rises, SLOPE, CURVATURE, 0.1, longest=10.0)
    for index in range(3):
        for column, sign in enumerate((-1, 1)):
            length = float(steps.length[index, column])
            assert quartic(index, sign * length) == float(measured[index, column])
            quadratic = sign * length * float(SLOPE[index]) + length**2 * float(CURVATURE[index]) / 2
            assert float(steps.predicted[index, column]) == pytest.approx(quadratic, rel=1e-12)
    assert float((measured / 0.1 - 1).abs().max()) <= RISE_TOLERANCE
    assert len(rises.measurements) <= most


def test_steps_that_no_length_reaches_are_nan() -> None:
    """A bounded loss, one whose estimate is too high, one that is infinite beyond a point, and a missing direction."""
    losses: list[Callable[[float], float]] = [math.tanh, math.tanh, lambda t: math.inf if t > 1 else t**2 / 100]
    estimates: list[Callable[[float], float]] = [math.tanh, lambda t: 1.5 * math.tanh(t), lambda t: t**2 / 100]
    rises = KnownRises(lambda index, t: 0.09 * losses[index](abs(t)), lambda index, t: 0.09 * estimates[index](abs(t)))
    nothing = torch.tensor([0.0, 0.0, 0.0, torch.nan], dtype=torch.float64)
    steps, measured = find_steps(rises, nothing, nothing, 0.1, longest=5.0)
    assert bool(steps.length.isnan().all() and steps.predicted.isnan().all() and measured.isnan().all())
    assert max(map(abs, rises.measurements)) == 5  # where the estimate reaches the rise, it is measured


def test_a_loss_that_falls_first_and_then_overflows() -> None:
    def rise(_: int, t: float) -> float:
        return math.inf if t > 3 else -0.5 * t + t**2

    steps, measured = find_steps(
        KnownRises(rise, rise),
        torch.tensor([-0.5], dtype=torch.float64),
        torch.tensor([1e-9], dtype=torch.float64),
        0.1,
        longest=100.0,
    )
    assert float(measured[0, 1]) == pytest.approx(0.1, rel=RISE_TOLERANCE)
    assert float(steps.length[0, 1]) == pytest.approx(0.25 + (0.0625 + 0.1) ** 0.5, rel=RISE_TOLERANCE)
