"""The index of the objective's Hessian, against dense Hessians of small networks and against given eigenvalues."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import xarray as xr

from hesstore import linalg
from hesstore.analysis import objective_index
from hesstore.curvature import FlatHessian
from hesstore.errors import AnalysisError
from hesstore.problem.models import build
from tests.support.analysis_datasets import dataset
from tests.support.toy import blobs


def recorded(l2: list[float], pairs: list[linalg.EigenPairs], penalty_scale: float) -> xr.Dataset:
    """Return a store with the lowest pairs of each grid point."""
    values = {
        "lowest_eigenvalues": [each.eigenvalues.numpy() for each in pairs],
        "lowest_residual_norm": [each.residual_norms.numpy() for each in pairs],
        "lowest_bound": [each.bound for each in pairs],
    }
    return dataset(l2, {name: np.array([each]) for name, each in values.items()}).assign_attrs(
        penalty_scale=penalty_scale
    )


@pytest.mark.parametrize("penalty_scale", [0.5, 1.0])
def test_against_the_dense_hessian_at_a_saddle(penalty_scale: float) -> None:
    """Random weights are a saddle of the loss, and a penalty that is strong enough makes it convex."""
    x, y = blobs()
    model = build("mlp", (4,), (5,), 3, seed=1)
    theta = model.theta().double()
    dense = torch.func.hessian(lambda weights: model.loss_sum(weights, x, y) / len(y))(theta)
    exact = torch.linalg.eigvalsh(dense)
    l2 = [0.0005, 0.02, 0.045, 0.3]
    expected = [int((exact + 2 * penalty_scale * each < 0).sum()) for each in l2]
    assert expected[:2] == ([13, 8] if penalty_scale == 0.5 else [13, 4])
    assert expected[3] == 0

    operator = FlatHessian(model, x, y).at(theta)
    pairs = linalg.lanczos(operator, 1, lowest=4, tol=1e-9).lowest
    assert pairs is not None
    found = objective_index(recorded(l2, [pairs] * 4, penalty_scale))
    assert found["index"].values.tolist() == [min(4, each) for each in expected]
    complete = found["index_complete"].values.tolist()
    assert all(is_complete or each >= 4 for is_complete, each in zip(complete, expected, strict=True))
    assert not any(is_complete and each > 4 for is_complete, each in zip(complete, expected, strict=True))
    smallest = float(exact[0]) + 2 * penalty_scale * np.array(l2)
    np.testing.assert_allclose(found["smallest_eigenvalue"], smallest, rtol=1e-5, atol=1e-9)


def test_what_is_uncertain_is_not_complete() -> None:
    """A bound that is too loose, an eigenvalue within its residual norm of −2cλ, and pairs that are missing."""
    nan = math.nan
    rows = [
        ([-3.0, 1.0], [0.1, 0.1], 0.5),  # the second one is not negative, and nothing else is
        ([-3.0, nan], [0.1, nan], 0.0),  # the only one that was found, and the bound excludes others
        ([-3.0, 1.0], [0.1, 0.1], -1e-9),
        ([-3.0, 0.05], [0.1, 0.1], 0.5),
        ([-3.0, -2.0], [0.1, 0.1], -2.0),
        ([nan, nan], [nan, nan], nan),
    ]
    eigenvalues, residual_norms, bounds = zip(*rows, strict=True)
    values = {"lowest_eigenvalues": [eigenvalues], "lowest_residual_norm": [residual_norms], "lowest_bound": [bounds]}
    ds = dataset(np.arange(6) / 10, values).assign_attrs(penalty_scale=0.0)
    found = objective_index(ds)
    assert found["index"].values[:5].tolist() == [1, 1, 1, 1, 2]
    assert found["index_complete"].values.tolist() == [True, True, False, False, False, False]
    assert np.isnan([found["index"].values[5], found["smallest_eigenvalue"].values[5]]).all()


def test_a_store_without_the_lowest_pairs_is_refused() -> None:
    with pytest.raises(AnalysisError, match="--lowest 1 --grow"):
        objective_index(dataset([0.0], {"eigenvalues": [[[1.0]]]}).assign_attrs(penalty_scale=0.5))
