from __future__ import annotations

import pytest
import torch
from torch import nn

from hesstore.measure.class_response import Responder, choose_steps
from hesstore.problem.models import build
from tests.support import toy


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


@pytest.mark.parametrize("chunk_rows", [64, 1000])
def test_responses_equal_the_changes_at_moved_weights(chunk_rows: int, device: torch.device) -> None:
    model = build("mlp", (6, 5), (64,), 10, seed=0)
    train_x, train_y, test_x, test_y = (torch.from_numpy(a) for a in toy.digits())
    theta = model.theta() * 3
    v = torch.nn.functional.normalize(torch.randn(3, len(theta), generator=torch.Generator().manual_seed(0)), dim=1)
    lengths = torch.tensor([[0.5, 1.0], [4.0, 2.0], [3.0, 20.0]], dtype=torch.float64)

    def measured(at: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        predicted = model.logits(at, test_x).argmax(1)
        right = torch.stack([(predicted[test_y == label] == label).double().mean() for label in range(10)])
        return right, nn.functional.cross_entropy(model.logits(at, train_x).double(), train_y)

    accuracy, loss = measured(theta)
    expected = [
        [measured(theta + s * e * u) for s, e in zip((-1, 1), pair, strict=True)]
        for u, pair in zip(v, lengths.float(), strict=True)
    ]
    model.module.to(device)
    responder = Responder(
        model, (train_x.to(device), train_y.to(device)), (test_x.to(device), test_y.to(device)), 10, chunk_rows
    )
    found = responder.respond(theta.to(device), v.to(device), lengths.to(device))
    assert float(found.accuracy.abs().max()) > 0.1
    for mode in range(3):
        for sign in range(2):
            moved_accuracy, moved_loss = expected[mode][sign]
            torch.testing.assert_close(found.accuracy[mode, sign].cpu(), moved_accuracy - accuracy, rtol=0, atol=1e-12)
            assert float(found.rise[mode, sign]) == pytest.approx(float(moved_loss - loss), abs=1e-5)
