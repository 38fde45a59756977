from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix, log_loss, recall_score

from hesstore.measure.metrics import SplitMetrics, evaluate_each
from hesstore.problem.models import build
from tests.support import toy


@pytest.mark.parametrize("chunk_rows", [7, 50, 1000])
def test_metrics_agree_with_scikit_learn(chunk_rows: int) -> None:
    model = build("mlp", (6,), (5,), 3, seed=0)
    model.module.double()
    x, y = toy.blobs(50)
    (found,) = evaluate_each(model, model.theta()[None], x, y, 3, chunk_rows)
    probabilities = torch.softmax(model.module(x), 1).detach().numpy()
    predicted = probabilities.argmax(1)
    assert found.loss == pytest.approx(log_loss(y.numpy(), probabilities), rel=1e-12)
    assert np.array_equal(found.confusion, confusion_matrix(y.numpy(), predicted))
    assert found.accuracy == pytest.approx(float((predicted == y.numpy()).mean()))
    assert found.class_accuracy == pytest.approx(recall_score(y.numpy(), predicted, average=None))


@pytest.mark.parametrize("chunk_rows", [1, 14, 1000])
def test_several_models_together_equal_each_alone(chunk_rows: int, device: torch.device) -> None:
    model = build("mlp", (6,), (5,), 3, seed=0)
    model.module.to(device, torch.float64)
    x, y = (part.to(device) for part in toy.blobs(50))
    thetas = torch.stack([model.theta() * scale for scale in (1.0, -2.0, 9.0)])
    for found, theta in zip(evaluate_each(model, thetas, x, y, 3, chunk_rows), thetas, strict=True):
        (alone,) = evaluate_each(model, theta[None], x, y, 3)
        assert found.loss == pytest.approx(alone.loss, rel=1e-12)
        assert np.array_equal(found.confusion, alone.confusion)


def test_a_class_without_rows_has_no_accuracy() -> None:
    metrics = SplitMetrics(0.0, np.array([[3, 1], [0, 0]], np.int32))
    assert metrics.class_accuracy[0] == 0.75
    assert np.isnan(metrics.class_accuracy[1])
    assert metrics.accuracy == 0.75
