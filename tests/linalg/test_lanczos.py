from __future__ import annotations

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hesstore.linalg import EigenPairs, lanczos, lanczos_stack
from hesstore.linalg.copy_search import CopySearch
from hesstore.linalg.criteria import Goal
from hesstore.linalg.eigenpairs import Which, order, tolerances
from hesstore.linalg.lanczos_search import LanczosSearch
from tests.support.operators import DenseOperator, ReflectedDiagonal, symmetric

WHICH: list[Which] = ["LM", "LA", "SA"]


def check(pairs: EigenPairs, matrix: Tensor, which: Which, tol: float, resolution: float = 0.0) -> None:
    """The pairs are the wanted ones, orthonormal and in standard form, and their residual norms are true."""
    k, eps = len(pairs.eigenvalues), torch.finfo(matrix.dtype).eps
    exact = torch.linalg.eigvalsh(matrix.double())
    scale = float(exact.abs().max())
    wanted = exact[order(exact, which)[:k]]
    gap = tolerances(wanted, tol, matrix.dtype, scale, resolution)
    if which == "LM":  # +μ and −μ may swap places
        assert torch.all((pairs.eigenvalues.abs() - wanted.abs()).abs() <= gap + 50 * eps * scale)
    else:
        assert torch.all((pairs.eigenvalues - wanted).abs() <= gap + 50 * eps * scale)
    v = pairs.eigenvectors
    assert torch.allclose(v @ v.T, torch.eye(k, dtype=v.dtype), atol=100 * eps)
    peaks = v.gather(1, v.abs().argmax(1, keepdim=True))
    assert torch.all(peaks > 0)
    v64 = v.double()
    true = torch.linalg.vector_norm(v64 @ matrix.double() - pairs.eigenvalues[:, None] * v64, dim=1)
    assert torch.allclose(true, pairs.residual_norms, rtol=1e-3, atol=100 * eps * scale)
    assert bool(pairs.converged.all())


@pytest.mark.parametrize("which", WHICH)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n", "k"), [(1, 1), (7, 7), (40, 5), (300, 30)])
def test_agrees_with_dense_eigenvalues(n: int, k: int, dtype: torch.dtype, which: Which) -> None:
    generator = torch.Generator().manual_seed(n)
    matrix = symmetric(torch.randn(n, generator=generator).exp() * torch.randn(n, generator=generator).sign()).to(dtype)
    check(lanczos(DenseOperator(matrix), k, which=which), matrix, which, 1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_defining_identity(dtype: torch.dtype) -> None:
    """A Q − Q T = β q eᵀ and Q Qᵀ = I, to rounding."""
    matrix = symmetric(torch.linspace(-3, 10, 200)).to(dtype)
    goal = Goal(k=5, which="LM", tol=1e-3, max_matvecs=64, eta=1e-4, slack=3e-3)
    search = LanczosSearch(DenseOperator(matrix), goal, torch.Generator().manual_seed(1))
    while search.ending is None:
        search.take(matrix @ search.wanted)
    alpha, beta, m = search._chain.alpha, search._chain.beta, search._chain.steps
    matrix = matrix / search._criteria.unit
    q, following = search._rows.vectors(m), search._rows.vectors(m + 1)[-1]
    t = torch.diag(alpha) + torch.diag(beta[:-1], 1) + torch.diag(beta[:-1], -1)
    remainder = (q @ matrix).double() - t @ q.double()
    remainder[-1] -= beta[-1] * following.double()
    eps = torch.finfo(dtype).eps
    assert m == 64
    assert float(remainder.abs().max()) < 50 * eps * 10
    assert torch.allclose(q @ q.T, torch.eye(m, dtype=dtype), atol=50 * eps)


DEGENERATE = {
    "zero": torch.zeros(60),
    "identity": torch.ones(60),
    "nine equal, then zero": torch.cat([torch.full((9,), 3.3), torch.zeros(111)]),
    "triple at the top": torch.cat([torch.full((3,), 5.0), torch.linspace(0.1, 1, 12).repeat(8)]),
    "plus and minus pairs": torch.cat([torch.tensor([2.0, -2.0, 1.0, -1.0]), torch.zeros(60)]),
    "close cluster": torch.cat([3 + 1e-6 * torch.arange(9), 1e-4 * torch.arange(50)]),
    "tiny": 1e-12 * torch.cat([torch.arange(5.0), torch.zeros(40)]),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("k", [1, 4, 30])
@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_spectra(name: str, k: int, dtype: torch.dtype) -> None:
    eigenvalues = DEGENERATE[name]
    matrix = (torch.diag(eigenvalues.double()) if name != "close cluster" else symmetric(eigenvalues)).to(dtype)
    pairs = lanczos(DenseOperator(matrix), k)
    check(pairs, matrix, "LM", 1e-3)
    assert pairs.num_matvecs <= min(200, len(matrix))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("k", [5, 12, pytest.param(30, marks=pytest.mark.slow)])
def test_a_cluster_that_contains_the_kth_eigenvalue(k: int, dtype: torch.dtype) -> None:
    """A spectrum as of a partly collapsed network: a few large eigenvalues, dozens of copies, and a dense bulk."""
    cluster = torch.cat([torch.full((20,), 0.32), torch.full((20,), 0.31), torch.full((20,), -0.305)])
    matrix = symmetric(torch.cat([torch.tensor([4.0, 3.0, 2.5]), cluster, torch.linspace(-0.3, 0.3, 700)])).to(dtype)
    pairs = lanczos(DenseOperator(matrix), k)
    check(pairs, matrix, "LM", 1e-3)


def test_limit_on_products_ends_with_flags() -> None:
    matrix = symmetric(torch.linspace(1, 2, 400))
    pairs = lanczos(DenseOperator(matrix), 10, tol=1e-8, max_matvecs=12)
    assert pairs.num_matvecs == 12
    assert not bool(pairs.converged.all())
    assert "limit of 12 products" in pairs.message
    assert "not converged" in pairs.message
    v = pairs.eigenvectors
    true = torch.linalg.vector_norm(v @ matrix - pairs.eigenvalues[:, None] * v, dim=1)
    assert torch.allclose(true, pairs.residual_norms, rtol=1e-6)


@pytest.mark.parametrize("name", ["zero", "nine equal, then zero", "triple at the top"])
def test_any_limit_on_products_ends_with_k_rows(name: str) -> None:
    matrix = torch.diag(DEGENERATE[name].double())
    for limit in range(4, 40):
        pairs = lanczos(DenseOperator(matrix), 4, max_matvecs=limit)
        assert pairs.eigenvectors.shape == (4, len(matrix))
        assert pairs.num_matvecs <= limit
        assert not bool(pairs.converged[torch.isnan(pairs.eigenvalues)].any())


def test_same_generator_same_bits() -> None:
    matrix = symmetric(torch.linspace(-1, 2, 100))
    first, second = (
        lanczos(DenseOperator(matrix), 5, generator=torch.Generator().manual_seed(3)).eigenvectors for _ in range(2)
    )
    assert torch.equal(first, second)


def test_products_that_are_not_finite_are_refused() -> None:
    matrix = torch.full((20, 20), torch.nan, dtype=torch.float64)
    with pytest.raises(FloatingPointError, match="not finite"):
        lanczos(DenseOperator(matrix), 3)


@pytest.mark.parametrize(
    ("k", "options", "message"),
    [
        (0, {}, "between 1 and"),
        (21, {}, "between 1 and"),
        (5, {"max_matvecs": 4}, "below k"),
        (5, {"lowest": 21}, "lowest: 21 must be between 0 and"),
        (2, {"which": "BE"}, "LM"),
        (2, {"eta": 0.0}, "eta: 0.0 must be above 0 and below 1"),
        (2, {"eta": 1.0}, "eta: 1.0 must be above 0 and below 1"),
        (2, {"slack": -0.1}, "slack: -0.1 must be at least 0"),
        (2, {"slack": np.nan}, "slack: nan must be at least 0"),
    ],
)
def test_arguments_out_of_range(k: int, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lanczos(DenseOperator(torch.eye(20)), k, **options)  # type: ignore[arg-type]  # on purpose


def test_a_number_of_pairs_is_whole() -> None:
    operator = DenseOperator(torch.eye(4))
    assert len(lanczos(operator, np.int64(2)).eigenvalues) == 2  # type: ignore[arg-type]  # an index all the same
    for k in (1.5, "2"):
        with pytest.raises(TypeError, match=f"k: {k!r} is not a whole number"):
            lanczos(operator, k)  # type: ignore[arg-type]


def test_a_matrix_is_no_operator() -> None:
    with pytest.raises(TypeError, match="operator: Tensor has no matvec: pass an object with size"):
        lanczos(torch.eye(4), 2)  # type: ignore[arg-type]  # on purpose


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_spectrum(data: st.DataObject) -> None:
    """Any number of repeated, zero, negative and tiny eigenvalues."""
    values = data.draw(st.lists(st.sampled_from([0.0, 1.0, -1.0, 0.5, 1e-9, 3.0, -2.0, 7.0]), min_size=2, max_size=40))
    k = data.draw(st.integers(1, len(values)))
    which = data.draw(st.sampled_from(WHICH))
    matrix = symmetric(torch.tensor(values, dtype=torch.float64), seed=len(values))
    check(lanczos(DenseOperator(matrix), k, which=which, tol=1e-6), matrix, which, 1e-6)


def test_device(device: torch.device) -> None:
    matrix = symmetric(torch.linspace(-1, 2, 100))
    pairs = lanczos(DenseOperator(matrix.to(device)), 5)
    assert pairs.eigenvectors.device.type == device.type
    expected = lanczos(DenseOperator(matrix), 5).eigenvalues
    assert torch.allclose(pairs.eigenvalues, expected, rtol=1e-10)


class DenseStack:
    """Dense matrices; records the number of vectors in each product."""

    def __init__(self, matrices: Tensor) -> None:
        self.matrices = matrices
        self.sizes: list[int] = []

    @property
    def copies(self) -> int:
        return len(self.matrices)

    @property
    def size(self) -> int:
        return self.matrices.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        return self.matrices.dtype

    @property
    def device(self) -> torch.device:
        return self.matrices.device

    def matvec(self, v: Tensor) -> Tensor:
        self.sizes.append(len(v))
        return torch.stack([a @ row for a, row in zip(self.matrices, v, strict=True)])

    def subset(self, rows: list[int]) -> DenseStack:
        part = DenseStack(self.matrices[rows])
        part.sizes = self.sizes
        return part


def random_starts(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in range(count)]


@pytest.mark.parametrize("which", WHICH)
def test_the_searches_of_a_stack_equal_those_of_each_matrix(which: Which) -> None:
    """Fast and slow searches, with and without copies, and one that reaches its limit of products."""
    spectra = [
        torch.linspace(-3, 10, 90),
        torch.cat([torch.full((9,), 3.3), torch.zeros(81)]),
        torch.zeros(90),
        torch.cat([torch.tensor([2.0, -2.0, 1.0, -1.0]), torch.linspace(0, 0.1, 86)]),
        torch.linspace(1, 1.001, 90),
    ]
    matrices = torch.stack([symmetric(values, seed) for seed, values in enumerate(spectra)])
    stack = DenseStack(matrices)
    together = lanczos_stack(stack, 6, which=which, tol=1e-8, max_matvecs=80, lowest=2, generators=random_starts(5))
    assert len(together) == 5
    for whole, matrix, start in zip(together, matrices, random_starts(5), strict=True):
        alone = lanczos(DenseOperator(matrix), 6, which=which, tol=1e-8, max_matvecs=80, lowest=2, generator=start)
        assert isinstance(whole, EigenPairs)
        for found, expected in ((whole, alone), (whole.lowest, alone.lowest)):
            assert found is not None
            assert expected is not None
            assert torch.equal(found.eigenvalues, expected.eigenvalues)
            assert torch.equal(found.eigenvectors, expected.eigenvectors)
            assert torch.equal(found.residual_norms, expected.residual_norms)
            assert (found.num_matvecs, found.message) == (expected.num_matvecs, expected.message)
    counts = [pairs.num_matvecs for pairs in together if isinstance(pairs, EigenPairs)]
    assert len(stack.sizes) == max(counts)
    assert min(stack.sizes) < 3  # reduced when searches ended
    assert sum(counts) <= sum(stack.sizes) <= 2 * sum(counts)


def test_a_product_that_is_not_finite_ends_one_search_of_a_stack() -> None:
    good = symmetric(torch.linspace(-3, 10, 40))
    matrices = torch.stack([good, torch.full_like(good, torch.nan), good])
    first, bad, last = lanczos_stack(DenseStack(matrices), 4, generators=random_starts(3))
    assert isinstance(bad, FloatingPointError)
    for pairs, start in ((first, 0), (last, 2)):
        assert isinstance(pairs, EigenPairs)
        alone = lanczos(DenseOperator(good), 4, generator=torch.Generator().manual_seed(start))
        assert torch.equal(pairs.eigenvectors, alone.eigenvectors)


def test_a_stack_needs_a_generator_for_each_matrix() -> None:
    with pytest.raises(ValueError, match="1 generators for 2 matrices"):
        lanczos_stack(DenseStack(torch.eye(3).repeat(2, 1, 1)), 1, generators=random_starts(1))


def test_the_message_says_how_the_search_ended() -> None:
    matrix = symmetric(torch.linspace(1, 2, 400))
    found = lanczos(DenseOperator(matrix), 2)
    assert found.message == f"complete to 0.003 after {found.num_matvecs} products"
    whole = lanczos(DenseOperator(matrix[:5, :5].contiguous()), 5)
    assert whole.message == "complete: the whole matrix is known after 5 products"
    limited = lanczos(DenseOperator(matrix), 10, tol=1e-8, max_matvecs=12)
    assert limited.message == "stopped at the limit of 12 products; 10 of 10 pairs have not converged"


# -- what a search may have missed ----------------------------------------------------------------------------

MISSED = {
    "every eigenvalue twice": (torch.linspace(1, 2, 50).repeat(2), 5, 1e-3),
    "two copies above a bulk": (torch.cat([torch.ones(2), torch.linspace(0, 0.9, 98)]), 2, 1e-3),
    "five copies above a bulk": (torch.cat([torch.ones(5), torch.linspace(-0.9, 0.9, 195)]), 5, 1e-3),
    "near copies": (
        torch.cat([torch.ones(4), torch.tensor([0.99938, 0.99926]), torch.linspace(0.99, 0, 194)]),
        6,
        1e-6,
    ),
}


@pytest.mark.parametrize("name", MISSED)
def test_copies_that_one_chain_cannot_see_are_found(name: str) -> None:
    eigenvalues, k, tol = MISSED[name]
    wanted = eigenvalues.double().sort(descending=True).values[:k]
    for start in random_starts(10):
        pairs = lanczos(DenseOperator(torch.diag(eigenvalues.double())), k, tol=tol, generator=start)
        assert torch.allclose(pairs.eigenvalues, wanted, rtol=2 * tol), pairs.message
        assert pairs.num_matvecs <= len(eigenvalues)


def test_the_bound_lies_beyond_what_is_left_and_within_the_slack() -> None:
    matrix = symmetric(torch.cat([torch.linspace(1, 2, 20), torch.linspace(-0.9, 0.9, 400)]))
    exact = torch.linalg.eigvalsh(matrix)
    for which, sign in (("LM", 1), ("LA", 1), ("SA", -1)):
        pairs = lanczos(DenseOperator(matrix), 5, which=which, slack=0.01)  # type: ignore[arg-type]
        last, following = sign * pairs.eigenvalues[-1], (sign * exact).sort(descending=True).values[5]
        assert float(following) <= sign * pairs.bound <= float(last) + 0.01 * abs(float(last)), which


def test_a_bound_that_is_not_close_enough_is_given_as_it_is() -> None:
    """In a dense bulk of thousands the bound needs more steps than it is worth."""
    eigenvalues = torch.linspace(-1, 1, 5000, dtype=torch.float64)
    diagonal = SimpleNamespace(size=5000, dtype=eigenvalues.dtype, device=eigenvalues.device)
    diagonal.matvec = lambda v: eigenvalues * v
    pairs = lanczos(diagonal, 2, tol=1e-2, slack=1e-6)
    assert "not complete to 1e-06" in pairs.message
    assert 1.0 <= pairs.bound < 1.1


@pytest.mark.parametrize("scale", [1e30, 1e-30])
def test_any_scale(scale: float) -> None:
    matrix = symmetric(torch.linspace(0.1, 1, 300)).float()
    pairs, scaled = (lanczos(DenseOperator(matrix * factor), 5) for factor in (1, scale))
    assert torch.allclose(scaled.eigenvalues / scale, pairs.eigenvalues, rtol=1e-5)
    assert scaled.bound / scale == pytest.approx(pairs.bound, rel=1e-3)
    assert bool(scaled.converged.all())


@pytest.mark.parametrize("size", [100, 300])
def test_a_matrix_that_is_not_symmetric_is_refused(size: int) -> None:
    a = torch.randn(size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with pytest.raises(FloatingPointError, match="not symmetric"):
        lanczos(DenseOperator(a + a.T + 1e-3 * (a - a.T)), 5)


def test_a_product_that_is_not_finite_ends_within_eight_products() -> None:
    eigenvalues = torch.linspace(-3, 10, 5000)
    count = 0

    def matvec(v: Tensor) -> Tensor:
        nonlocal count
        count += 1
        return eigenvalues * v if count < 10 else torch.full_like(v, torch.nan)

    operator = SimpleNamespace(size=5000, dtype=torch.float32, device=eigenvalues.device, matvec=matvec)
    with pytest.raises(FloatingPointError, match="not finite"):
        lanczos(operator, 3)
    assert count < 18


def test_known_vectors_are_completed() -> None:
    """From the vectors of which one is missing, the search finds it; from all of them, it only computes the bound."""
    matrix = symmetric(torch.cat([torch.linspace(1, 2, 6), torch.linspace(-0.5, 0.5, 400)]))
    whole = lanczos(DenseOperator(matrix), 6, tol=1e-6)
    for rows in ([0, 1, 2, 4, 5], [0, 1, 2, 3, 4, 5]):
        pairs = lanczos(DenseOperator(matrix), 6, tol=1e-4, known=whole.eigenvectors[rows])
        assert torch.allclose(pairs.eigenvalues, whole.eigenvalues, rtol=1e-6)
        assert pairs.bound <= 1.003
    assert pairs.num_matvecs < whole.num_matvecs


def test_vectors_far_from_convergence_become_the_start_of_a_chain() -> None:
    """Six known vectors are hardly more than random; to refine them, each by one product a round, takes 77 products."""
    generator = torch.Generator().manual_seed(3)
    eigenvalues = torch.cat([torch.linspace(3, 1.1, 12), torch.rand(5988, generator=generator)]).double()
    known = torch.eye(12, 6000).double()
    for row in range(1, 12, 2):
        known[row, row] = 0.1
        known[row, 12:] = torch.randn(5988, generator=generator) / math.sqrt(5988)
    pairs = lanczos(ReflectedDiagonal(eigenvalues), 12, known=known)
    assert bool(pairs.converged.all())
    assert torch.allclose(pairs.eigenvalues, eigenvalues[:12], atol=1e-4)
    assert pairs.bound <= 1.1 * 1.003
    assert pairs.num_matvecs < 70


# -- both ends ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", WHICH)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("lowest", [1, 4, 9])
def test_the_lowest_pairs(lowest: int, dtype: torch.dtype, which: Which) -> None:
    """They are those at the other end, copies included, next to the same k pairs as without them.

    Their tolerance and their slack are relative to the k-th eigenvalue if that is larger.
    """
    copies = torch.tensor([-0.2, -0.15, -0.15, -0.15, -0.1])
    matrix = symmetric(torch.cat([torch.linspace(1, 2, 20), torch.linspace(0, 0.9, 300), copies])).to(dtype)
    operator = DenseOperator(matrix)
    pairs, alone = (lanczos(operator, 6, which=which, lowest=count) for count in (lowest, 0))
    assert alone.lowest is None
    assert torch.equal(pairs.eigenvectors, alone.eigenvectors)
    assert pairs.lowest is not None
    check(pairs.lowest, matrix, "SA", 1e-3, resolution=abs(float(pairs.eigenvalues[-1])))
    assert pairs.num_matvecs == alone.num_matvecs + pairs.lowest.num_matvecs
    following = float(torch.linalg.eigvalsh(matrix.double())[lowest])
    last, kth = float(pairs.lowest.eigenvalues[-1]), abs(float(pairs.eigenvalues[-1]))
    assert last - 3e-3 * kth - 1e-4 <= pairs.lowest.bound <= following + 1e-6


def test_a_limit_on_products_leaves_lowest_pairs_that_are_flagged() -> None:
    matrix = symmetric(torch.linspace(1, 2, 400))
    pairs = lanczos(DenseOperator(matrix), 10, tol=1e-8, max_matvecs=12, lowest=2)
    assert pairs.lowest is not None
    assert pairs.num_matvecs == 12
    assert not bool(pairs.lowest.converged.any())
    assert pairs.lowest.eigenvectors.shape == (2, 400)
    assert pairs.lowest.bound == -torch.inf


def test_the_bound_of_one_lowest_pair_of_a_large_matrix_takes_no_products() -> None:
    outliers, bulk = torch.linspace(1, 2, 12), torch.linspace(-0.1, 0.1, 5987)
    eigenvalues = torch.cat([outliers, bulk, torch.tensor([-0.15])]).double()
    pairs = lanczos(ReflectedDiagonal(eigenvalues), 5, lowest=1)
    assert pairs.lowest is not None
    assert float(pairs.lowest.eigenvalues) == pytest.approx(-0.15, abs=1e-4)
    assert bool(pairs.lowest.converged)
    assert pairs.lowest.num_matvecs == 0
    assert "not complete to 0.003" in pairs.lowest.message
    assert -0.3 < pairs.lowest.bound < -0.1


def test_more_products_never_make_the_bound_wider() -> None:
    """Also when a chain has found a copy further out, and another chain, which knows nothing yet, has started."""
    matrix = symmetric(torch.cat([torch.tensor([3.0, 3.0, 3.0, 2.0]), torch.linspace(-1, 1, 296)]).double())
    bounds = [lanczos(DenseOperator(matrix), 2, max_matvecs=limit).bound for limit in range(4, 90)]
    assert bounds[0] == torch.inf
    assert bounds[-1] < 3.01
    assert all(later <= earlier + 1e-9 for earlier, later in itertools.pairwise(bounds))


def test_lowest_pairs_are_orthonormal_when_the_last_chain_found_some_of_them() -> None:
    """A chain whose pairs were locked is over: its vectors make no further pairs of the result."""
    eigenvalues = torch.cat([torch.tensor([2.0, 1.2, 1.2, 1.1, 1.1]), torch.linspace(0.1, 0, 5995)]).double()
    pairs = lanczos(
        ReflectedDiagonal(eigenvalues), 5, tol=1e-5, slack=0.01, lowest=3, known=torch.eye(6000).double()[[0, 1, 3]]
    )
    assert pairs.lowest is not None
    v = pairs.lowest.eigenvectors
    assert torch.allclose(v @ v.T, torch.eye(3, dtype=v.dtype), atol=1e-12)
    assert bool(pairs.lowest.converged.all())


def test_a_copy_that_hides_behind_rounding_is_found_or_bounded() -> None:
    """In the complement, the component of a random vector along the copy makes a β below the rounding of μ₁."""
    for seed, offset in enumerate((0.004, 0.01, 0.03)):
        eigenvalues = torch.ones(20_000)
        eigenvalues[:3] = torch.tensor([100.0, 1 + offset, 1 + offset])
        pairs = lanczos(ReflectedDiagonal(eigenvalues), 4, generator=torch.Generator().manual_seed(seed))
        assert torch.allclose(pairs.eigenvalues[1:].float(), eigenvalues[1:4], atol=1e-4), pairs.message
        assert 1 - 1e-5 <= pairs.bound <= 1.003


@pytest.mark.parametrize("factor", [torch.nan, torch.inf, 0.0])
def test_images_that_are_no_vectors_are_not_used(factor: float) -> None:
    operator = DenseOperator(symmetric(torch.cat([torch.full((4,), 2.0), torch.linspace(0, 1, 300)])))
    expected = lanczos(operator, 5)
    operator.images = SimpleNamespace(levels=2, images=lambda v, *_: v * factor)  # type: ignore[attr-defined]
    assert torch.equal(lanczos(operator, 5).eigenvectors, expected.eigenvectors)


@pytest.mark.parametrize("seed", [0, 1])
def test_images_of_each_eigenvector_are_taken_once(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when rounding brings a chain to a second vector of an eigenvalue, far out, after those further in."""
    copies = slice(2, 5)
    eigenvalues = torch.cat(
        [torch.tensor([40.0, 30.0, 3.0, 3.0, 3.0]), 2.5 * 0.97 ** torch.arange(40), torch.linspace(0.5, 0, 4955)]
    )

    def images(vectors: Tensor, _level: int, generator: torch.Generator) -> Tensor:
        turned = vectors.clone()
        for row in turned:
            row[copies] = torch.linalg.qr(torch.randn(3, 3, generator=generator)).Q @ row[copies]
        return turned

    taken: list[Tensor] = []
    add = CopySearch.add

    def record(self: CopySearch, values: Tensor, distances: Tensor, vectors: Tensor, products: Tensor) -> None:
        taken.extend(vectors.clone())
        add(self, values, distances, vectors, products)

    monkeypatch.setattr(CopySearch, "add", record)
    operator = ReflectedDiagonal(eigenvalues)
    operator.images = SimpleNamespace(levels=1, images=images)  # type: ignore[attr-defined]
    pairs = lanczos(operator, 20, generator=torch.Generator().manual_seed(seed))
    assert torch.allclose(pairs.eigenvalues.float(), eigenvalues[:20], atol=1e-4)
    vectors = torch.stack(taken)
    assert int((vectors[:, copies].norm(dim=1) > 0.9).sum()) > 1  # a chain found a second vector by itself
    overlaps = (vectors @ vectors.T).abs().fill_diagonal_(0)
    assert float(overlaps.max()) < 0.9
