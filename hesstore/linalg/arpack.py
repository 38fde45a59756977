"""SciPy's ARPACK on the same operators: the usual method in the field, and an independent check of the Lanczos here."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, LinearOperator
from scipy.sparse.linalg import eigsh as scipy_eigsh

from hesstore.linalg.lanczos import lanczos

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hesstore.linalg.eigenpairs import EigenPairs, Which
    from hesstore.linalg.operators import SymmetricOperator

_NUMPY_DTYPES = {torch.float32: np.float32, torch.float64: np.float64}


def as_scipy(operator: SymmetricOperator) -> LinearOperator:
    """The SciPy ``LinearOperator`` (P, P) of ``operator``, in its precision.

    Each product copies its vector to the operator's device and the result back.
    """
    dtype = _NUMPY_DTYPES[operator.dtype]

    def matvec(v: NDArray[np.floating]) -> NDArray[np.floating]:
        vector = torch.from_numpy(v.reshape(-1).astype(dtype)).to(operator.device)
        product: NDArray[np.floating] = operator.matvec(vector).cpu().numpy()
        return product

    return LinearOperator((operator.size, operator.size), matvec=matvec, rmatvec=matvec, dtype=dtype)


class _CountingOperator:
    """An operator that counts its products."""

    def __init__(self, operator: SymmetricOperator) -> None:
        self.size, self.dtype, self.device = operator.size, operator.dtype, operator.device
        self.count = 0
        self._operator = operator

    def matvec(self, v: torch.Tensor) -> torch.Tensor:
        self.count += 1
        return self._operator.matvec(v)


def _arpack_vectors(
    operator: _CountingOperator, k: int, which: Which, tol: float, max_matvecs: int, generator: torch.Generator
) -> tuple[NDArray[np.floating], str]:
    """The eigenvectors (P, n) that ARPACK finds, n ≤ k, and how it ended, in words."""
    basis_size = min(operator.size, max(2 * k + 1, 20))
    restarts = max(1, (max_matvecs - basis_size) // max(1, basis_size - k))
    start = torch.randn(operator.size, generator=generator, dtype=torch.float64).to(operator.dtype).numpy()
    try:
        _, columns = scipy_eigsh(
            as_scipy(operator), k, which=which, tol=tol, ncv=basis_size, maxiter=restarts, v0=start
        )
    except ArpackNoConvergence as stop:
        found = stop.eigenvectors
        return found, f"ARPACK stopped after {operator.count} products with {found.shape[1]} of {k} pairs"
    except ArpackError as error:
        raise FloatingPointError(f"ARPACK failed: {error}") from error
    return columns, f"ARPACK converged after {operator.count} products"


def eigsh(
    operator: SymmetricOperator,
    k: int,
    *,
    which: Which = "LM",
    tol: float = 1e-3,
    max_matvecs: int = 2000,
    generator: torch.Generator | None = None,
    eta: float = 1e-4,
    slack: float = 3e-3,
    lowest: int = 0,
) -> EigenPairs:
    """The k eigenpairs at one end of the spectrum by ARPACK's restarted Lanczos, completed by a bound on further ones.

    ARPACK, like every Krylov method with one start vector, may skip copies of a multiple eigenvalue. So
    :func:`~hesstore.linalg.lanczos.lanczos` continues from its vectors: k products measure their residuals, and the
    chains that follow add what is missing until the bound is close enough. The lowest pairs are found by ``lanczos``
    alone. The arguments are those of ``lanczos``, with k < P. ARPACK counts ``max_matvecs`` in restarts; what it leaves
    of them is for the rest.

    Raises
    ------
    ValueError
        If k is not below P.
    FloatingPointError
        If ARPACK fails, for example because a product is not finite.
    """
    if not 1 <= k < operator.size:
        raise ValueError(f"k: {k} must be between 1 and {operator.size - 1} for eigsh")
    counting = _CountingOperator(operator)
    rng = generator or torch.Generator().manual_seed(0)
    columns, said = _arpack_vectors(counting, k, which, tol, max_matvecs, rng)
    count = counting.count
    known = torch.from_numpy(np.ascontiguousarray(columns.T)).to(operator.device, operator.dtype)
    rest = max(max_matvecs - count, k)
    pairs = lanczos(
        operator,
        k,
        which=which,
        tol=tol,
        max_matvecs=rest,
        generator=rng,
        eta=eta,
        slack=slack,
        lowest=lowest,
        known=known,
    )
    return replace(pairs, num_matvecs=count + pairs.num_matvecs, message=f"{said}; then {pairs.message}")
