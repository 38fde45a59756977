"""A reference for part ``spectrum``: all eigenvalues down to the k-th, and the number that a solver misses.

The dense Hessian of 118,282 parameters does not fit into memory. The reference therefore comes from SciPy's ``eigsh``
and float64 products by double backward. A Krylov method can miss copies, so the search is repeated from random starts
in the complement of what has been found, until several searches in succession find nothing further out than the k-th.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import platformdirs
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, eigsh
from torch.nn.functional import cross_entropy

from tests.benchmarks.accuracy import num_wrong
from tests.benchmarks.result_tables import progress

if TYPE_CHECKING:
    from torch import Tensor

    from tests.benchmarks.digit_problem import Problem

Array: TypeAlias = NDArray[np.float64]
Matvec: TypeAlias = Callable[[Array], Array]

EXTRA = 20
"""Eigenvalues that the first search computes in addition to the k wanted ones."""

FURTHER = 10
"""Eigenvalues that each search in the complement computes."""

EMPTY_SEARCHES = 3
"""Searches in succession that must find nothing."""

TOL = 1e-5
"""Relative accuracy at which ``eigsh`` stops: a hundredth of the accuracy with which eigenvalues are compared."""


def reference(problem: Problem, k: int) -> Tensor:
    """The eigenvalues (n,), n ≥ k, of :func:`complete_eigenvalues`; from a file after the first time.

    The file lies in the user's cache folder. Its name contains a digest of the weights, the rows and k.
    """
    content = [problem.theta, problem.x, problem.y, torch.tensor([k])]
    digest = hashlib.sha256(b"".join(part.cpu().numpy().tobytes() for part in content)).hexdigest()[:16]
    file = Path(platformdirs.user_cache_dir("hesstore")) / "benchmarks" / f"reference-{digest}.npy"
    if not file.exists():
        progress("  computing the reference in float64; this takes minutes, and the result is kept")
        values = complete_eigenvalues(double_backward(problem), len(problem.theta), k)
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, values)
    return torch.from_numpy(np.load(file))


def double_backward(problem: Problem) -> Matvec:
    """v ↦ H v in float64, by two reverse passes over all rows; the graph of the first one is kept."""
    module = problem.module(problem.theta.double())
    parameters = list(module.parameters())
    loss = cross_entropy(module(problem.x.double()), problem.y)
    slopes = torch.autograd.grad(loss, parameters, create_graph=True)
    flat = torch.cat([slope.reshape(-1) for slope in slopes])

    def matvec(v: Array) -> Array:
        direction = torch.from_numpy(np.ascontiguousarray(v.reshape(-1))).to(flat.device)
        parts = torch.autograd.grad(flat, parameters, direction, retain_graph=True)
        product: Array = torch.cat([part.reshape(-1) for part in parts]).cpu().numpy()
        return product

    return matvec


def complete_eigenvalues(matvec: Matvec, size: int, k: int) -> Array:
    """The eigenvalues (n,) by descending magnitude, with all copies of those that lie further out than the k-th."""
    rng = np.random.default_rng(0)
    values, vectors = _eigsh(matvec, size, min(k + EXTRA, size - 1), rng.standard_normal(size))
    empty = 0
    while empty < EMPTY_SEARCHES and size - len(values) > FURTHER:
        basis, _ = np.linalg.qr(vectors)
        start = _project(basis, rng.standard_normal(size))
        found, columns = _eigsh(_deflated(matvec, basis), size, FURTHER, start)
        weakest = np.sort(np.abs(values))[-k]
        further = np.abs(found) > weakest * (1 + TOL)
        values, vectors = np.append(values, found[further]), np.hstack([basis, columns[:, further]])
        empty = 0 if further.any() else empty + 1
        progress(f"  reference: {len(values)} eigenvalues; the last search added {further.sum()}")
    order: Array = values[np.abs(values).argsort()[::-1]]
    return order


def num_missing(eigenvalues: Tensor, complete: Tensor, tol: float) -> int:
    """The number of eigenvalues, with multiplicity, that lie further out than the last given one and are not given.

    Parameters
    ----------
    eigenvalues : Tensor
        (k,) the eigenvalues that a solver gives.
    complete : Tensor
        The eigenvalues of the operator with all their copies. If some of those behind the k-th are unknown, the result
        is the least possible number.
    tol : float
        Eigenvalues are compared with this relative tolerance, and each given one counts for one of the operator only.
    """
    last = float(eigenvalues.abs().min())
    return num_wrong(eigenvalues, complete[complete.abs() > last * (1 + tol)], tol)


def _eigsh(matvec: Matvec, size: int, count: int, start: Array) -> tuple[Array, Array]:
    operator = LinearOperator((size, size), matvec=matvec, dtype=np.float64)
    values, vectors = eigsh(operator, count, which="LM", tol=TOL, v0=start)
    return values, vectors


def _project(basis: Array, v: Array) -> Array:
    return v - basis @ (basis.T @ v)


def _deflated(matvec: Matvec, basis: Array) -> Matvec:
    """(I − VVᵀ) A (I − VVᵀ) for orthonormal columns V."""
    return lambda v: _project(basis, matvec(_project(basis, v.reshape(-1))))
