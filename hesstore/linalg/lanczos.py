"""Lanczos with full reorthogonalisation: the outermost eigenpairs, and a bound on what the search may have missed.

With Q_m orthonormal, A Q_m = Q_m T_m + β_m q_{m+1} e_mᵀ, T_m tridiagonal. Eigenpairs of T_m give Ritz pairs of A.
The search itself is in :mod:`hesstore.linalg.lanczos_search`, and the bound in :mod:`hesstore.linalg.certificate`.

>>> import torch
>>> from types import SimpleNamespace
>>> a = torch.diag(torch.tensor([5.0, -4.0, 1.0, 0.5, 0.1], dtype=torch.float64))
>>> operator = SimpleNamespace(size=5, dtype=a.dtype, device=a.device, matvec=lambda v: a @ v)
>>> pairs = lanczos(operator, 2, tol=1e-8)
>>> pairs.eigenvalues.shape, pairs.eigenvectors.shape
(torch.Size([2]), torch.Size([2, 5]))
>>> pairs.message
'complete: the whole matrix is known after 5 products'

Source: Golub & Van Loan, *Matrix Computations*, 4th ed., §10.1–10.3; Parlett, *The Symmetric Eigenvalue Problem*,
§6, §13; locking: Bai et al., *Templates for the Solution of Algebraic Eigenvalue Problems*, §4.5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from hesstore.linalg.both_ends import SearchAtBothEnds
from hesstore.linalg.criteria import Goal
from hesstore.linalg.eigenpairs import EigenPairs, Which, order
from hesstore.linalg.lanczos_search import REMEMBERED_SIZE
from hesstore.linalg.operators import SymmetricOperator
from hesstore.linalg.search_stack import SearchStack, SteppingTogether

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from hesstore.linalg.operators import OperatorStack


def lanczos(
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
    known: Tensor | None = None,
) -> EigenPairs:
    """The k outermost eigenpairs at one end of the spectrum, and a bound on further eigenvalues.

    The first chain of Lanczos vectors ends when the k wanted Ritz pairs have residual estimates β_m |s_mi| within
    :func:`~hesstore.linalg.eigenpairs.tolerances`. It contains one copy of each eigenvalue, and only those that its
    start vector has a component along. So its pairs are locked, and further chains start from random vectors in their
    complement. Pairs that lie further out than the k locked ones are locked too. The search ends when the bound of a
    chain on all other eigenvalues lies at most ``slack`` beyond the k-th.

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
        with those that have not converged flagged. A small matrix never takes more than P products.
    generator : torch.Generator, optional
        CPU generator of the start vectors; seed 0 by default.
    eta : float
        η: with probability at least 1 − η over the start vectors, no eigenvalue but those found lies beyond the bound.
    slack : float
        How far the bound may lie beyond the k-th eigenvalue, relative to its magnitude; infinite if none is wanted.
    lowest : int
        Number of algebraically smallest pairs to find in addition, up to P, as :attr:`EigenPairs.lowest`. The search
        for them uses what is left of ``max_matvecs``.
    known : Tensor, optional
        (n, P) approximate eigenvectors to begin with, such as those of another solver or of a store.

    Raises
    ------
    TypeError
        If ``operator`` is something else, such as a matrix, or if a number of pairs or products is not whole.
    ValueError
        If k, ``lowest``, ``max_matvecs``, ``which``, ``eta`` or ``slack`` is out of range.
    FloatingPointError
        If a product with A is NaN or infinite, or if A is not symmetric.
    """
    if not isinstance(operator, SymmetricOperator):
        raise TypeError(
            f"operator: {type(operator).__name__} has no matvec: pass an object with size, dtype, device and matvec, "
            "such as hesstore.Hessian"
        )
    goal = Goal(k=k, which=which, tol=tol, max_matvecs=max_matvecs, eta=eta, slack=slack)
    _check_arguments(operator.size, goal, lowest)
    rng = generator or torch.Generator().manual_seed(0)
    search = SearchAtBothEnds(operator, goal, rng, lowest, getattr(operator, "images", None), known)
    while search.pairs is None:
        search.take(operator.matvec(search.wanted))
    return search.pairs


def lanczos_stack(
    operator: OperatorStack,
    k: int,
    *,
    which: Which = "LM",
    tol: float = 1e-3,
    max_matvecs: int = 2000,
    generators: Sequence[torch.Generator],
    eta: float = 1e-4,
    slack: float = 3e-3,
    lowest: int = 0,
) -> list[EigenPairs | FloatingPointError]:
    """The result of :func:`lanczos` for each of G matrices whose products are computed together.

    Each search has its own start vectors and its own T, and ends by itself. When half of the searches have ended, the
    stack is reduced to the remaining matrices.

    Parameters
    ----------
    operator : OperatorStack
        The matrices.
    k, which, tol, max_matvecs, eta, slack, lowest
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
    goal = Goal(k=k, which=which, tol=tol, max_matvecs=max_matvecs, eta=eta, slack=slack)
    _check_arguments(operator.size, goal, lowest)
    if len(generators) != operator.copies:
        raise ValueError(
            f"generators: {len(generators)} generators for {operator.copies} matrices: pass one for each matrix"
        )
    steps_together = operator.device.type != "cpu" and operator.size > REMEMBERED_SIZE
    kind = SteppingTogether if steps_together else SearchStack
    return kind(operator, goal, generators, lowest).solve()


def _check_arguments(size: int, goal: Goal, lowest: int) -> None:
    k, max_matvecs = goal.k, goal.max_matvecs
    for name, value in (("k", k), ("lowest", lowest), ("max_matvecs", max_matvecs)):
        if not hasattr(value, "__index__"):
            raise TypeError(f"{name}: {value!r} is not a whole number")
    if not 1 <= k <= size:
        raise ValueError(f"k: {k} must be between 1 and the operator's size {size}")
    if not 0 <= lowest <= size:
        raise ValueError(f"lowest: {lowest} must be between 0 and the operator's size {size}")
    if max_matvecs < k:
        raise ValueError(f"max_matvecs: {max_matvecs} is below k = {k}: raise max_matvecs or lower k")
    if not 0 < goal.eta < 1:
        raise ValueError(f"eta: {goal.eta} must be above 0 and below 1: it is a probability")
    if not goal.slack >= 0:
        raise ValueError(f"slack: {goal.slack} must be at least 0: it is relative to the k-th eigenvalue")
    order(torch.zeros(0), goal.which)  # raises on a bad name before any work
