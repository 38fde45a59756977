"""Lanczos with full reorthogonalisation: a few eigenpairs at one end of a spectrum, including multiple eigenvalues.

With Q_m orthonormal, A Q_m = Q_m T_m + β_m q_{m+1} e_mᵀ, T_m tridiagonal. Eigenpairs of T_m give Ritz pairs of A.
The search itself is in :mod:`hesstore.linalg.lanczos_search`. It asks for one product with A after the other, and so
the searches of several matrices can run side by side.

>>> import torch
>>> from types import SimpleNamespace
>>> a = torch.diag(torch.tensor([5.0, -4.0, 1.0, 0.5, 0.1], dtype=torch.float64))
>>> operator = SimpleNamespace(size=5, dtype=a.dtype, device=a.device, matvec=lambda v: a @ v)
>>> pairs = lanczos(operator, 2, tol=1e-8)
>>> pairs.eigenvalues.shape, pairs.eigenvectors.shape
(torch.Size([2]), torch.Size([2, 5]))

Source: Golub & Van Loan, *Matrix Computations*, 4th ed., §10.1–10.3; Parlett, *The Symmetric Eigenvalue Problem*,
§6, §13; locking: Bai et al., *Templates for the Solution of Algebraic Eigenvalue Problems*, §4.5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from hesstore.linalg.eigenpairs import EigenPairs, Which, order
from hesstore.linalg.lanczos_search import LanczosSearch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hesstore.linalg.operators import OperatorStack, SymmetricOperator


def lanczos(
    operator: SymmetricOperator,
    k: int,
    *,
    which: Which = "LM",
    tol: float = 1e-3,
    max_matvecs: int = 2000,
    generator: torch.Generator | None = None,
) -> EigenPairs:
    """The k eigenpairs at one end of the spectrum.

    The first chain of Lanczos vectors ends when the k wanted Ritz pairs have residual estimates β_m |s_mi| within
    :func:`~hesstore.linalg.eigenpairs.tolerances`. In exact arithmetic a chain holds one copy of each eigenvalue. Where
    there are signs that one is multiple (a β that almost vanishes, or two Ritz values that almost agree) the converged
    pairs are locked. Further chains then start from random directions orthogonal to the locked pairs, and each runs
    until its outermost Ritz pair has converged. The search ends when a chain finds nothing further out than the k
    locked pairs.

    Parameters
    ----------
    operator : SymmetricOperator
        A, P × P.
    k : int
        Number of pairs, 1 ≤ k ≤ P.
    which : {"LM", "LA", "SA"}
        Largest magnitude, largest, smallest.
    tol : float
        Relative residual at which a pair has converged.
    max_matvecs : int
        Maximum number of products with A, at least k. When this limit is reached, the pairs are returned as they are,
        with those that have not converged flagged.
    generator : torch.Generator, optional
        CPU generator of the start vectors; seed 0 by default.

    Raises
    ------
    ValueError
        If k, ``max_matvecs`` or ``which`` is out of range.
    FloatingPointError
        If a product with A is NaN or infinite.

    Notes
    -----
    If rounding has not yet produced a second copy of a multiple eigenvalue, there is no sign of it, and it is found
    once. This holds for every Krylov method that starts from one vector.
    """
    _check_arguments(operator.size, k, which, max_matvecs)
    generator = generator or torch.Generator().manual_seed(0)
    search = LanczosSearch(operator, k, which=which, tol=tol, max_matvecs=max_matvecs, generator=generator)
    steps = search.run()
    q = next(steps)
    try:
        while True:
            q = steps.send(operator.matvec(q))
    except StopIteration as stop:
        return search.result(stop.value)


def lanczos_stack(
    operator: OperatorStack,
    k: int,
    *,
    which: Which = "LM",
    tol: float = 1e-3,
    max_matvecs: int = 2000,
    generators: Sequence[torch.Generator],
) -> list[EigenPairs | FloatingPointError]:
    """The result of :func:`lanczos` for each of G matrices whose products are computed together.

    Each search has its own start vectors and its own T, and ends by itself. When half of the searches have ended, the
    stack is reduced to the remaining matrices.

    Parameters
    ----------
    operator : OperatorStack
        The matrices.
    k, which, tol, max_matvecs
        As in :func:`lanczos`, the same for every matrix.
    generators : sequence of Generator
        One for each matrix.

    Returns
    -------
    list
        The pairs of each matrix, or the error if a product with that matrix was NaN or infinite.

    Raises
    ------
    ValueError
        As in :func:`lanczos`, or if there are not G generators.
    """
    _check_arguments(operator.size, k, which, max_matvecs)
    if len(generators) != operator.copies:
        raise ValueError(
            f"generators: {len(generators)} generators for {operator.copies} matrices: pass one for each matrix"
        )
    results: dict[int, EigenPairs | FloatingPointError] = {}
    searches = {
        row: LanczosSearch(operator, k, which=which, tol=tol, max_matvecs=max_matvecs, generator=generator)
        for row, generator in enumerate(generators)
    }
    steps = {row: search.run() for row, search in searches.items()}
    wanted = {row: next(each) for row, each in steps.items()}
    rows = list(searches)  # the matrices that the stack holds now, in its order
    nothing = torch.zeros(operator.size, dtype=operator.dtype, device=operator.device)
    while wanted:
        if 2 * len(wanted) <= len(rows):
            operator = operator.subset([place for place, row in enumerate(rows) if row in wanted])
            rows = list(wanted)
        products = operator.matvec(torch.stack([wanted.get(row, nothing) for row in rows]))
        for row, product in zip(rows, products, strict=True):
            if row not in wanted:
                continue
            try:
                wanted[row] = steps[row].send(product)
                continue
            except StopIteration as stop:
                results[row] = searches[row].result(stop.value)
            except FloatingPointError as error:
                results[row] = error
            del wanted[row], steps[row], searches[row]  # this frees the vectors of the search
    return [results[row] for row in sorted(results)]


def _check_arguments(size: int, k: int, which: Which, max_matvecs: int) -> None:
    if not 1 <= k <= size:
        raise ValueError(f"k: {k} must be between 1 and the operator's size {size}")
    if max_matvecs < k:
        raise ValueError(f"max_matvecs: {max_matvecs} is below k = {k}: raise max_matvecs or lower k")
    order(torch.zeros(0), which)  # raises on a bad name before any work
