"""Each way to get the largest eigenpairs, from θ to vectors, with its products counted and timed."""

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
from tests.benchmarks.accuracy import Spectrum, by_magnitude
from tests.benchmarks.hessian_products import (
    CURVLINOPS,
    EIGENTHINGS,
    HESSTORE,
    ORIGINAL,
    Contestant,
    Product,
    direction,
    imported,
)
from tests.benchmarks.timing import synchronise, timed

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from tests.benchmarks.digit_problem import Problem

TOL = 1e-3
MOST_STEPS = 1000


class CountedOperator:
    """H as an operator that counts its products and the seconds in them."""

    def __init__(self, product: Product, theta: Tensor) -> None:
        self.product = product
        self.size, self.dtype, self.device = len(theta), theta.dtype, theta.device
        self.num_matvecs = 0
        self.seconds = 0.0

    def matvec(self, v: Tensor) -> Tensor:
        """H v."""
        synchronise(self.device)
        began = time.perf_counter()
        result = self.product(v)
        synchronise(self.device)
        self.seconds += time.perf_counter() - began
        self.num_matvecs += 1
        return result


@dataclass(frozen=True)
class Solved:
    """What a solver found, the products that it took, and the seconds of setting up, in products, and beside them."""

    spectrum: Spectrum
    num_matvecs: int
    setup_seconds: float
    product_seconds: float
    solver_seconds: float


@dataclass(frozen=True)
class Solver:
    """A way to get the k largest eigenpairs: products from ``contestant``, pairs from ``solve(operator, k)``."""

    name: str
    contestant: Contestant
    solve: Callable[[CountedOperator, int], Spectrum]

    def run(self, problem: Problem, k: int) -> Solved:
        """From weights to pairs: setting up the products is part of it."""
        setup, product = timed(partial(self.contestant.make, problem), problem.device)
        operator = CountedOperator(product, problem.theta)
        seconds, spectrum = timed(partial(self.solve, operator, k), problem.device)
        return Solved(spectrum, operator.num_matvecs, setup, operator.seconds, seconds - operator.seconds)


def by_hesstore(operator: CountedOperator, k: int) -> Spectrum:
    """hesstore's Lanczos."""
    pairs = hesstore.lanczos(operator, k, tol=TOL)
    return by_magnitude(pairs.eigenvalues, pairs.eigenvectors)


def hesstore_later(problem: Problem) -> Solver:
    """hesstore at a λ after the first: what it traces and arranges serves all of them."""
    hessian = hesstore.Hessian(problem.model, problem.x, problem.y)
    hessian.at(problem.theta)
    later = Contestant("hesstore", lambda at: hessian.at(at.theta).matvec)
    return Solver("hesstore, each λ after the first", later, by_hesstore)


def by_eigsh(operator: CountedOperator, k: int) -> Spectrum:
    """SciPy's ARPACK, with its own choice of basis size."""

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
    """hessian-eigenthings' Lanczos; with its defaults unless ``options`` say otherwise."""
    eigenthings = imported("hessian_eigenthings")
    theirs = eigenthings.LambdaOperator(operator.matvec, operator.size, operator.device, operator.dtype)
    found = eigenthings.lanczos(theirs, k=k, seed=0, **options)
    return by_magnitude(found.eigenvalues, found.eigenvectors)


def steps_needed(problem: Problem, k: int) -> int:
    """Lanczos steps after which k pairs have converged: what a user of a fixed number of steps has to find out.

    The first m steps of a long chain are the chain of m steps, so one long chain tells for all m: the residual
    estimates are β_m |s_mi|, s the eigenvectors of T_m.
    """
    eigenthings = imported("hessian_eigenthings")
    operator = eigenthings.LambdaOperator(HESSTORE.make(problem), len(problem.theta), problem.device)
    length = 6 * k
    while length < MOST_STEPS:
        chain = eigenthings.lanczos_tridiagonal(operator, direction(problem), min(length, operator.size))
        alpha, beta = chain.alphas.double().cpu(), chain.betas.double().cpu()
        for steps in range(k, len(alpha)):
            if _converged(alpha[:steps], beta[:steps], k):
                return steps
        length *= 2
    return MOST_STEPS


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
    """hessian-eigenthings' Lanczos with reorthogonalisation and as many steps as it needs."""

    def solve(operator: CountedOperator, k: int) -> Spectrum:
        return by_eigenthings(operator, k, max_iter=steps, reorthogonalize=True)

    return Solver(f"hessian-eigenthings, reorthogonalised, {steps} steps", EIGENTHINGS, solve)
