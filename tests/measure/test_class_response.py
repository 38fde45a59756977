from __future__ import annotations

import pytest
import torch

from hesstore.measure.class_response import choose_steps


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
