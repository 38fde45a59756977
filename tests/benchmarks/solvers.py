"""The eigensolvers that are compared, from weights to eigenpairs, with their products counted and timed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh

import hesstore
from hesstore.curvature import FlatHessian
from tests.benchmarks.accuracy import Spectrum, by_magnitude
from tests.benchmarks.hessian_products import (
    CURVLINOPS,
    EIGENTHINGS,
    HESSTORE,
    ORIGINAL,
    Implementation,
    Product,
    optional_package,
    random_vector,
)
from tests.benchmarks.timing import synchronise, timed

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from tests.benchmarks.digit_problem import Problem

TOL = 1e-3
MAX_STEPS = 1000


class CountedOperator:
    """An operator for H that counts its products and the seconds that they take."""

    def __init__(self, product: Product, theta: Tensor) -> None:
        self.product = product
        self.size, self.dtype, self.device = len(theta), theta.dtype, theta.device
        self.num_matvecs = 0
        self.seconds = 0.0

    def matvec(self, v: Tensor) -> Tensor:
        """Return H v."""
        synchronise(self.device)
        began = time.perf_counter()
        result = self.product(v)
        synchronise(self.device)
        self.seconds += time.perf_counter() - began
        self.num_matvecs += 1
        return result


@dataclass(frozen=True)
class Solution:
    """The eigenpairs that a solver found, its number of products, and the seconds of set-up, products and solver.

    The solver's seconds include neither the set-up nor the products.
    """

    spectrum: Spectrum
    num_matvecs: int
    setup_seconds: float
    product_seconds: float
    solver_seconds: float


@dataclass(frozen=True)
class Solver:
    """A way to compute the top k: products by ``implementation``, eigenpairs by ``solve(operator, k)``."""

    name: str
    implementation: Implementation
    solve: Callable[[CountedOperator, int], Spectrum]

    def run(self, problem: Problem, k: int) -> Solution:
        """Compute the top k from the weights; this includes the set-up of the products."""
        setup, product = timed(partial(self.implementation.make, problem), problem.device)
        operator = CountedOperator(product, problem.theta)
        seconds, spectrum = timed(partial(self.solve, operator, k), problem.device)
        return Solution(spectrum, operator.num_matvecs, setup, operator.seconds, seconds - operator.seconds)


def by_hesstore(operator: CountedOperator, k: int) -> Spectrum:
    """Return the top k from hesstore's Lanczos."""
    pairs = hesstore.lanczos(operator, k, tol=TOL)
    return by_magnitude(pairs.eigenvalues, pairs.eigenvectors)


def hesstore_later(problem: Problem) -> Solver:
    """Return hesstore's solver at a later grid point, which uses the traced program of the first one again."""
    hessian = FlatHessian(problem.model, problem.x, problem.y)
    hessian.at(problem.theta)
    later = Implementation("hesstore", lambda at: hessian.at(at.theta).matvec)
    return Solver("hesstore, after the first grid point", later, by_hesstore)


def by_eigsh(operator: CountedOperator, k: int) -> Spectrum:
    """Return the top k from SciPy's ARPACK, with its default basis size."""

    def matvec(v: NDArray[np.float32]) -> NDArray[np.float32]:
        vector = torch.from_numpy(v.reshape(-1).astype(np.float32)).to(operator.device)
        result: NDArray[np.float32] = operator.matvec(vector).cpu().numpy()
        return result

    size = operator.size
    start = np.random.default_rng(0).standard_normal(size).astype(np.float32)
    linear = LinearOperator((size, size), matvec=matvec, dtype=np.float32)
    values, columns = eigsh(linear, k, which="LM", tol=TOL, v0=start)
    return by_magnitude(torch.from_numpy(values), torch.from_numpy(np.ascontiguousarray(columns.T)))


def by_eigenthings(operator: CountedOperator, k: int, **options: Any) -> Spectrum:
    """Return the top k from the Lanczos of hessian-eigenthings, with its defaults where ``options`` give no value."""
    eigenthings = optional_package("hessian_eigenthings")
    theirs = eigenthings.LambdaOperator(operator.matvec, operator.size, operator.device, operator.dtype)
    found = eigenthings.lanczos(theirs, k=k, seed=0, **options)
    return by_magnitude(found.eigenvalues, found.eigenvectors)


def steps_needed(problem: Problem, k: int) -> int:
    """Return the number of Lanczos steps after which k pairs have converged.

    The user of a solver with a fixed number of steps has to find this number. The first m steps of a long chain are
    the chain of m steps, so one long chain gives the residual estimates β_m |s_mi| for all m, where s_i are the
    eigenvectors of T_m.
    """
    eigenthings = optional_package("hessian_eigenthings")
    operator = eigenthings.LambdaOperator(HESSTORE.make(problem), len(problem.theta), problem.device)
    length = 6 * k
    while length < MAX_STEPS:
        chain = eigenthings.lanczos_tridiagonal(operator, random_vector(problem), min(length, operator.size))
        alpha, beta = chain.alphas.double().cpu(), chain.betas.double().cpu()
        for steps in range(k, len(alpha)):
            if _converged(alpha[:steps], beta[:steps], k):
                return steps
        length *= 2
    return MAX_STEPS


def _converged(alpha: Tensor, beta: Tensor, k: int) -> bool:
    off = beta[:-1]
    values, s = torch.linalg.eigh(torch.diag(alpha) + torch.diag(off, 1) + torch.diag(off, -1))
    largest = values.abs().argsort(descending=True)[:k]
    return bool((beta[-1] * s[-1, largest].abs() <= TOL * values[largest].abs()).all())


HESSTORE_SOLVER = Solver("hesstore", HESSTORE, by_hesstore)
CURVLINOPS_SOLVER = Solver("curvlinops + eigsh", CURVLINOPS, by_eigsh)
ORIGINAL_SOLVER = Solver("original (DataLoader + eigsh)", ORIGINAL, by_eigsh)
EIGENTHINGS_DEFAULTS = Solver("hessian-eigenthings, its defaults", EIGENTHINGS, by_eigenthings)


def eigenthings_reorthogonalised(steps: int) -> Solver:
    """Return the Lanczos of hessian-eigenthings with reorthogonalisation and ``steps`` steps."""

    def solve(operator: CountedOperator, k: int) -> Spectrum:
        return by_eigenthings(operator, k, max_iter=steps, reorthogonalize=True)

    return Solver(f"hessian-eigenthings, reorthogonalised, {steps} steps", EIGENTHINGS, solve)
