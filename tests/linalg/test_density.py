"""The spectral density against the exact eigenvalues, and the coverage of its error."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from hesstore.linalg import Kernel, lanczos, spectral_density
from hesstore.linalg.density import Quadrature
from hesstore.linalg.eigenpairs import EigenPairs, padded
from tests.support.operators import DenseOperator, ReflectedDiagonal, symmetric

KERNEL = Kernel(0.3, 0.1)
GRID = 0.1 * torch.sinh(torch.linspace(-7, 7, 400, dtype=torch.float64))


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def exact(eigenvalues: Tensor, grid: Tensor, kernel: Kernel) -> Tensor:
    """The same kernels at the eigenvalues themselves."""
    distances = (torch.asinh(grid / kernel.scale)[:, None] - torch.asinh(eigenvalues / kernel.scale)) / kernel.width
    kernels = torch.exp(-0.5 * distances**2) / (kernel.width * math.sqrt(2 * math.pi))
    return kernels.mean(1) / (grid.square() + kernel.scale**2).sqrt()


def no_pairs(size: int) -> EigenPairs:
    nothing = torch.zeros(0, dtype=torch.float64)
    return EigenPairs(nothing, torch.zeros(0, size, dtype=torch.float64), nothing, nothing.bool(), 0, "")


def spectrum() -> Tensor:
    outliers = torch.tensor([9.0, -7.0, 5.0, 4.0, 3.0], dtype=torch.float64)
    return torch.cat([outliers, torch.linspace(-0.5, 1, 195, dtype=torch.float64)])


@pytest.mark.parametrize("known", [0, 5])
def test_many_probes_approach_the_density_of_the_dense_spectrum(known: int) -> None:
    operator = DenseOperator(symmetric(spectrum()))
    pairs = lanczos(operator, 5, tol=1e-10) if known else no_pairs(200)
    found = spectral_density(operator, pairs, GRID, KERNEL, probes=100, steps=60, generator=rng())
    expected = exact(spectrum(), GRID, KERNEL)
    assert float(torch.trapezoid(found.values, GRID)) == pytest.approx(1, abs=1e-3)
    assert float(torch.trapezoid((found.values - expected).abs(), GRID)) < 0.05
    shifted = exact(spectrum() + 1, GRID, KERNEL)
    assert float(torch.trapezoid((found.values - shifted).abs(), GRID)) > 0.5  # a wrong density would be noticed


def test_known_pairs_have_their_exact_mass() -> None:
    """With one probe the outliers are right; without the pairs they are wrong by a tenth and more."""
    operator = DenseOperator(symmetric(spectrum()))
    pairs = padded(lanczos(operator, 5, tol=1e-10), 6)
    outliers = GRID.abs() > 4
    expected = exact(spectrum(), GRID, KERNEL)[outliers]
    with_pairs, without = (
        spectral_density(operator, each, GRID, KERNEL, probes=1, steps=60, generator=rng())
        for each in (pairs, no_pairs(200))
    )
    assert float((with_pairs.values[outliers] - expected).abs().max() / expected.max()) < 1e-3
    assert float((without.values[outliers] - expected).abs().max() / expected.max()) > 0.1
    assert bool(with_pairs.errors.isnan().any())


def test_a_matrix_that_is_known_has_no_error() -> None:
    operator = DenseOperator(symmetric(spectrum()[:7]))
    found = spectral_density(operator, lanczos(operator, 7), GRID, KERNEL, probes=2, steps=4, generator=rng())
    torch.testing.assert_close(found.values, exact(spectrum()[:7], GRID, KERNEL), rtol=1e-6, atol=1e-9)
    assert float(found.errors.abs().max()) == 0


@pytest.mark.parametrize("eigenvalues", [[2.0, 2.0, 2.0, 0.0, 0.0, 0.0], [0.0] * 6])
def test_a_spectrum_of_few_values_ends_the_chain_early(eigenvalues: list[float]) -> None:
    values = torch.tensor(eigenvalues, dtype=torch.float64)
    found = spectral_density(
        DenseOperator(torch.diag(values)), no_pairs(6), GRID, KERNEL, probes=300, steps=6, generator=rng()
    )
    expected = exact(values, GRID, KERNEL)
    assert float((found.values - expected).abs().max()) < 0.1 * float(expected.max())


def test_nan_products_are_an_error() -> None:
    a = symmetric(spectrum())
    a[3, 3] = torch.nan
    with pytest.raises(FloatingPointError, match="NaN"):
        spectral_density(DenseOperator(a), no_pairs(200), GRID, KERNEL, probes=1, steps=4, generator=rng())


def test_smoothing_keeps_the_mass() -> None:
    quadrature = Quadrature(torch.tensor([0.0, 0.2, -3.0]).double(), torch.tensor([0.5, 0.2, 0.1]).double())
    assert float(torch.trapezoid(KERNEL.smooth(quadrature, GRID), GRID)) == pytest.approx(0.8, abs=1e-3)


def bulk_of(kind: str, size: int) -> NDArray[np.float64]:
    """Eigenvalues of a bulk that ends at about 0.1."""
    random, place = np.random.default_rng(0), np.arange(size)
    bulks = {
        "many orders of magnitude": 10 ** random.uniform(-6, -1, size) * np.where(place % 2, 1, -1),
        "normal": random.normal(0, 0.03, size),
        "mostly zero": np.where(place < size // 6, 10 ** (-5 + 24 * place / size), 0),
        "a few values": np.where(place < 40, 10 ** (-3 + place / 20), 0),
    }
    return bulks[kind]


@pytest.mark.parametrize(
    ("probes", "steps"),
    [
        pytest.param(4, 64, marks=pytest.mark.slow),
        *(pytest.param(*n, marks=pytest.mark.bench) for n in ((2, 32), (4, 32))),
    ],
)
@pytest.mark.parametrize("bulk", ["many orders of magnitude", "normal", "mostly zero", "a few values"])
def test_errors_cover(bulk: str, probes: int, steps: int) -> None:
    """Where an error is given, it is at least the deviation from the exact density, in 95 % of cases.

    The kernel and the grid are those of a store. Only points with a noticeable density count.
    """
    size, kernel = 2000, Kernel(0.1, 1e-3)
    grid = 1e-3 * torch.sinh(torch.linspace(-14.5, 14.5, 512, dtype=torch.float64))
    values = torch.cat([torch.linspace(4, 0.2, 30).double(), torch.from_numpy(bulk_of(bulk, size - 30))])
    operator = ReflectedDiagonal(values)
    vectors = torch.eye(30, size, dtype=torch.float64)
    zeros = torch.zeros(30, dtype=torch.float64)
    pairs = EigenPairs(values[:30], vectors, zeros, zeros == 0, 30, "")
    expected = exact(values, grid, kernel)
    covered, given = [], []
    in_t = (grid.square() + 1e-6).sqrt()
    counts = expected * in_t > 1e-3 * (expected * in_t).max()
    for seed in range(20):
        found = spectral_density(operator, pairs, grid, kernel, probes=probes, steps=steps, generator=rng(seed))
        has_error = counts & found.errors.isfinite()
        off = (found.values - expected).abs() <= found.errors + 1e-6 * expected
        covered.append(float(off[has_error].double().mean()))
        given.append(float(has_error.sum() / counts.sum()))
    assert np.mean(covered) > 0.94
    assert np.mean(given) > 0.5
