from __future__ import annotations

import numpy as np
import pytest
import torch

from hesstore.linalg import as_scipy, eigsh, lanczos
from tests.support.operators import DenseOperator, symmetric


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_as_scipy_is_the_matrix(dtype: torch.dtype) -> None:
    matrix = symmetric(torch.linspace(-1, 2, 30)).to(dtype)
    operator = as_scipy(DenseOperator(matrix))
    assert operator.dtype == matrix.numpy().dtype
    assert np.allclose(operator @ np.eye(30, dtype=operator.dtype), matrix.numpy())


@pytest.mark.parametrize("which", ["LM", "LA", "SA"])
def test_agrees_with_lanczos(which: str) -> None:
    matrix = symmetric(torch.randn(200, generator=torch.Generator().manual_seed(0)).exp())
    theirs = eigsh(DenseOperator(matrix), 8, which=which, tol=1e-9)  # type: ignore[arg-type]
    ours = lanczos(DenseOperator(matrix), 8, which=which, tol=1e-9)  # type: ignore[arg-type]
    assert bool(theirs.converged.all())
    assert torch.allclose(theirs.eigenvalues, ours.eigenvalues, rtol=1e-9)
    assert torch.allclose((theirs.eigenvectors * ours.eigenvectors).sum(1), torch.ones(8, dtype=torch.float64))


def test_what_arpack_does_not_deliver_is_said_and_flagged() -> None:
    matrix = symmetric(torch.linspace(1, 2, 400))
    pairs = eigsh(DenseOperator(matrix), 10, tol=1e-12, max_matvecs=30)
    assert pairs.eigenvectors.shape == (10, 400)
    assert not bool(pairs.converged.all())
    assert "ARPACK stopped" in pairs.message
    assert "not converged" in pairs.message


def test_copies_that_arpack_skips_are_added() -> None:
    matrix = symmetric(torch.cat([torch.full((9,), 2.0), torch.linspace(-1, 1, 400)]))
    pairs = eigsh(DenseOperator(matrix), 9, lowest=1)
    assert torch.allclose(pairs.eigenvalues, torch.full((9,), 2.0, dtype=torch.float64), rtol=1e-5)
    assert pairs.lowest is not None
    assert float(pairs.lowest.eigenvalues[0]) == pytest.approx(-1, rel=1e-3)
    assert 1 <= pairs.bound <= 2.006


def test_k_must_be_below_the_size() -> None:
    with pytest.raises(ValueError, match="between 1 and 19"):
        eigsh(DenseOperator(torch.eye(20)), 20)
