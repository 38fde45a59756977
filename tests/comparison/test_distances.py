from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import ArrayLike

from hesstore.comparison.distances import eigenvector_distance, label_distance, number_distance


@pytest.mark.parametrize(
    ("a", "b", "absolute", "relative"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0, 0.0),
        ([1.0, math.nan], [1.0, math.nan], 0.0, 0.0),
        ([0.0, 0.0], [0.0, 0.0], 0.0, 0.0),
        ([math.inf, 1.0], [math.inf, 1.0], 0.0, 0.0),
        ([1.0, -8.0], [1.5, -8.0], 0.5, 0.0625),
        ([0.0], [2.0], 2.0, 1.0),
        ([1.0, 4.0], [math.nan, 4.0], math.nan, math.nan),
        (math.inf, 2.0, math.inf, math.inf),
        (3.0, 2.0, 1.0, 1 / 3),
    ],
)
def test_numbers(a: ArrayLike, b: ArrayLike, absolute: float, relative: float) -> None:
    for first, second in ((a, b), (b, a)):
        found = number_distance(np.array(first), np.array(second))
        assert found.absolute == pytest.approx(absolute, rel=1e-15, nan_ok=True)
        assert found.relative == pytest.approx(relative, rel=1e-15, nan_ok=True)
        assert found.differs == (absolute != 0)


def test_labels() -> None:
    assert label_distance(np.array([1, 2]), np.array([1, 3])).differs
    assert not label_distance(np.array("converged", dtype=object), np.array("converged", dtype=object)).differs


def rotated(rows: np.ndarray, *columns: int) -> np.ndarray:
    """The same rows, some of them replaced by other vectors with the same span."""
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(len(columns), len(columns))))
    found = rows.copy()
    found[list(columns)] = (turn @ rows[list(columns)]).astype(np.float32)
    return found


def test_vectors_are_compared_by_their_spans() -> None:
    rows = np.linalg.qr(np.random.default_rng(0).normal(size=(50, 6)))[0].T.astype(np.float32)
    apart = np.array([6.0, 5.0, 4.0, 3.0, 2.0, 1.0])
    clustered = np.array([6.0, 3.0, 3.0, 3.0, 1.0, 0.99])
    assert eigenvector_distance(rows, rows, apart, apart) == (False, None, 0.0)

    turned = eigenvector_distance(rows, rotated(rows, 1, 2, 3), clustered, clustered)
    assert turned.differs
    assert turned.relative is not None
    assert turned.relative < 1e-6

    # The last two may belong to a cluster that continues beyond k, so their span is arbitrary.
    other = rows.copy()
    other[5] = np.linalg.qr(np.vstack([rows, np.eye(50)[:1]]).T)[0].T[6]
    assert eigenvector_distance(rows, other, clustered, clustered).relative == pytest.approx(0, abs=1e-6)
    assert eigenvector_distance(rows, other, clustered, apart).relative == pytest.approx(0, abs=1e-6)
    one_of_five = rows.copy()
    one_of_five[4] = other[5]
    assert eigenvector_distance(rows, one_of_five, apart, apart).relative == pytest.approx(1 / 5, abs=1e-6)


def test_missing_vectors() -> None:
    rows = np.eye(3, 9, dtype=np.float32)
    fewer = rows.copy()
    fewer[2] = np.nan
    values = np.array([3.0, 2.0, 1.0])
    assert eigenvector_distance(rows, fewer, values, np.array([3.0, 2.0, np.nan])).relative == pytest.approx(
        0, abs=1e-7
    )
    nothing = np.full_like(rows, np.nan)
    assert math.isnan(eigenvector_distance(rows, nothing, values, np.full(3, np.nan)).relative or 0.0)
