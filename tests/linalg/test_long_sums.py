"""Sums over long vectors in float32, and searches with such vectors."""

from __future__ import annotations

import pytest
import torch

from hesstore.linalg import lanczos, long_sums
from hesstore.linalg.long_sums import SHORT, inner_products, lengths, subtract_combination
from tests.support.operators import ReflectedDiagonal

SIZES = [1000, 30_003, 3_000_001]  # as a whole; in pieces, and a rest; in blocks, and a rest


@pytest.mark.parametrize("shapes", [((), ()), ((3,), ()), ((3,), (2,)), ((), (2,)), ((0,), ()), ((2,), (0,))])
@pytest.mark.parametrize("size", SIZES)
def test_inner_products(shapes: tuple[tuple[int, ...], tuple[int, ...]], size: int) -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(*shape, size, generator=generator) + 0.5 for shape in shapes)
    expected = torch.tensordot(a.double(), b.double(), ([-1], [-1]))
    torch.testing.assert_close(inner_products(a, b).double(), expected, rtol=3e-6, atol=0)
    norms = a.double().norm(dim=-1)
    torch.testing.assert_close(lengths(a).double(), norms, rtol=3e-7, atol=0)


@pytest.mark.slow  # ten seconds
def test_a_search_with_long_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    """With 10⁷ entries, vectors from single float32 sums are unit to 0.1 % only, and no pair would converge."""
    values = 0.5 * torch.randn(10_000_000, generator=torch.Generator().manual_seed(0))
    top = torch.tensor([1059.0, 700, 500, -300, 200])
    values[:8] = torch.tensor([*top, 150, 100, 80])
    operator = ReflectedDiagonal(values)
    pairs = lanczos(operator, 5, max_matvecs=24)
    torch.testing.assert_close(pairs.eigenvalues, top.double(), rtol=1e-5, atol=0)
    assert pairs.converged.all()
    assert pairs.bound < 201
    monkeypatch.setattr(long_sums, "LONG", 2 * len(values))
    monkeypatch.setattr(long_sums, "SHORT", 2 * len(values))
    assert not lanczos(operator, 5, max_matvecs=24).converged.all()


def test_short_vectors_are_summed_as_they_are() -> None:
    a = torch.rand(3, SHORT - 1)
    assert torch.equal(inner_products(a, a[0]), a @ a[0])


@pytest.mark.parametrize("count", [0, 1, 5])
@pytest.mark.parametrize("size", SIZES)
def test_subtracting_a_combination(count: int, size: int) -> None:
    generator = torch.Generator().manual_seed(1)
    vectors, w = torch.rand(count, size, generator=generator), torch.rand(size, generator=generator)
    coefficients = torch.rand(count, generator=generator)
    expected = w.double() - coefficients.double() @ vectors.double()
    subtract_combination(w, coefficients, vectors)
    torch.testing.assert_close(w.double(), expected, rtol=0, atol=1e-6)
