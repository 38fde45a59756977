import math

import numpy as np
import pytest
import xarray as xr
from numpy.typing import ArrayLike

from hesstore.analysis import spectral_measures
from hesstore.errors import AnalysisError
from tests.support.analysis_datasets import dataset

NAN = math.nan


def store(l2: ArrayLike, eigenvalues: ArrayLike, bound: ArrayLike, classes: int = 3, size: int = 50) -> xr.Dataset:
    count = len(np.asarray(l2))
    values = {
        "eigenvalues": np.asarray(eigenvalues)[None],
        "eigenvalue_bound": np.asarray(bound)[None],
        "weights": np.zeros((1, count, size)),
        "class_gradient_norm": np.ones((1, count, 2, classes)),
    }
    return dataset(l2, values).assign_attrs(penalty_scale=0.5)


@pytest.mark.parametrize("scale", [0.5, 1.0])
def test_effective_dimension_lies_between_its_bounds(scale: float) -> None:
    """That of a dense matrix is tr of A₊(A₊ + 2cλI)⁻¹, with A₊ its positive part."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal((50, 50)) / 7
    mu, v = np.linalg.eigh(a + a.T)
    order = np.abs(mu).argsort()[::-1]
    positive = (v * np.maximum(mu, 0)) @ v.T
    l2 = [0.0, 0.01, 0.3]
    for k in (6, 50):
        bound = abs(mu[order[k]]) if k < 50 else 0.0
        found = spectral_measures(store(l2, [mu[order[:k]]] * 3, [bound] * 3).assign_attrs(penalty_scale=scale))
        low, high = found["effective_dimension"].values, found["effective_dimension_bound"].values
        assert np.isnan([low[0], high[0]]).all()
        for index in (1, 2):
            exact = np.trace(positive @ np.linalg.inv(positive + 2 * scale * l2[index] * np.eye(50)))
            assert low[index] <= exact * (1 + 1e-9)
            assert exact <= high[index] * (1 + 1e-9)
            if k == 50:
                assert low[index] == pytest.approx(exact, rel=1e-9)
                assert high[index] == pytest.approx(exact, rel=1e-9)


def test_entropy_of_equal_and_of_single_eigenvalues() -> None:
    rows = np.array([[2, -2, 2, 2], [5, 0, 0, 0], [3, 1, 0, NAN], [NAN] * 4])
    found = spectral_measures(store([0, 1, 2, 3], rows, [0] * 4))
    expected = [math.log(4), 0, -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)), NAN]
    np.testing.assert_allclose(found["spectral_entropy"], expected, atol=1e-12)


def test_gap_behind_classes_minus_one_eigenvalues() -> None:
    rows: list[list[float]] = [
        [6, -5, 0.5, 0.25, 0.2],  # two outliers of three classes
        [6, 1, 0.9, 0.8, 0.7],  # one
        [6, 5, 1e-9, 1e-14, 0],  # zero to rounding: no ratio among those
        [0, 0, 0, 0, 0],
        [6, 5, NAN, NAN, NAN],
    ]
    found = spectral_measures(store(range(5), rows, [0] * 5))
    zero = 16 * np.finfo(np.float32).eps * 6
    np.testing.assert_allclose(found["outlier_gap"], np.array([10, 1 / 0.9, 5 / zero, NAN, NAN]))
    np.testing.assert_array_equal(found["outliers"], [2, 1, 2, NAN, NAN])


def test_the_smallest_eigenvalues_are_refused() -> None:
    ds = store([0.0], [[-3, -2, -1]], [0.0]).assign_attrs(identity='{"which": "SA"}')
    with pytest.raises(AnalysisError, match="smallest eigenvalues"):
        spectral_measures(ds)
