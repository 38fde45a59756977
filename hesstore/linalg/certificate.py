"""A bound, with a stated probability, on the eigenvalues that a search has not found.

Let M be a symmetric operator on a space of d dimensions and q a vector drawn uniformly from its unit sphere. After m
steps of Lanczos from q, let T have the eigenvalues θᵢ (Ritz values) and the off-diagonal β₁ … β_m, where the last one
leads out of the Krylov space. The next Lanczos vector is p(M) q with the polynomial

    p_m(x) = Π (x − θᵢ) / Π βⱼ,

and likewise with p_j(x) for the vectors before it. They are orthonormal. So an eigenvalue λ of M with the unit
eigenvector u satisfies K(λ) (u·q)² ≤ 1 (Bessel's inequality), where

    K(x) = Σ p_j(x)² over j = 0 … m = p_m(x)² (1 + Σ eᵢ² / (x − θᵢ)²)

and eᵢ = β_m |s_mi| are the residual norms of the Ritz pairs: (p_0 … p_{m−1}) solves (x − T) p = β_m p_m(x) e_m. With
probability at least 1 − η, |u·q| > δ = η √(π / 2d). Beyond the Ritz values K grows without limit. Therefore the largest
eigenvalue of M lies, with that probability, below the t > max θ with K(t) = 1/δ². The probability is that of drawing q:
it holds for all numbers of steps together.

A is the operator of interest, and k approximate eigenpairs (μᵢ, vᵢ) with residual norms rᵢ are already known. If M is A
restricted to the complement of their span, then A has no eigenvalue above x other than those near the μᵢ above x, where

    x = t + Σ rᵢ² / (x − μᵢ), summed over the pairs with μᵢ < x.

This follows from Sylvester's law of inertia: the Schur complement of the known pairs in A − x is negative definite.

Source: van Dorsselaer, Hochstenbach & van der Vorst, *Computing probabilistic bounds for extreme eigenvalues of
symmetric matrices with the Lanczos method*, SIAM J. Matrix Anal. Appl. 22 (2000), 837–852. Their bound has p_m² in the
place of K, and is wider.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

_HALVINGS = 60
"""Bisection steps: enough to reach the precision of float64."""


def smallest_component(size: int, eta: float) -> float:
    """The δ that a component of a random unit vector exceeds with probability at least 1 − ``eta``.

    The density of the component along a fixed direction is largest at zero, where it is below √(d / 2π). So the
    probability that its magnitude is at most δ is below 2 δ √(d / 2π) = η.

    Parameters
    ----------
    size : int
        d, the number of dimensions.
    eta : float
        η.
    """
    return eta * math.sqrt(math.pi / (2 * size))


def log_growth(ritz_values: Array, residual_norms: Array, beta: Array, x: float) -> float:
    """The logarithm of √K(x) for m Lanczos steps, where x lies above all Ritz values and no β is zero.

    Parameters
    ----------
    ritz_values, residual_norms : ndarray
        (m,) θ, the eigenvalues of T, and e, the residual norms of the Ritz pairs.
    beta : ndarray
        (m,) the off-diagonal of T, and last the length of the vector that leads out of the Krylov space.
    x : float
        The argument of K.
    """
    gaps = x - ritz_values
    return float(np.log(gaps / beta).sum() + np.log1p(np.square(residual_norms / gaps).sum()) / 2)


def upper_bound(ritz_values: Array, residual_norms: Array, beta: Array, delta: float) -> float:
    """The bound t on the largest eigenvalue, from a chain of m Lanczos steps with a random start vector.

    Parameters
    ----------
    ritz_values, residual_norms, beta : ndarray
        (m,) θ, e and β, see :func:`log_growth`.
    delta : float
        δ, see :func:`smallest_component`.

    Returns
    -------
    float
        t, or the largest Ritz value if a β is zero: then the Krylov space is invariant, and it contains an eigenvector
        of each eigenvalue, except for start vectors of probability zero.
    """
    top = float(ritz_values.max())
    if not (beta > 0).all():
        return top

    def excess(step: float) -> float:
        return log_growth(ritz_values - top, residual_norms, beta, step) + math.log(delta)

    high = float(beta[-1])
    while excess(high) < 0:  # K increases with the step
        high *= 2
    return top + _bisect(excess, 0.0, high)


def bound_outside(bound: float, eigenvalues: Array, residual_norms: Array) -> float:
    """The bound x on further eigenvalues of A, from the bound t on its restriction to the complement of known pairs.

    Parameters
    ----------
    bound : float
        t.
    eigenvalues, residual_norms : ndarray
        (k,) μ and r of the known pairs.
    """
    above = np.sort(eigenvalues[eigenvalues > bound]).tolist()
    last = max([bound, *above]) + float(np.linalg.norm(residual_norms))

    def excess(x: float) -> float:
        below = eigenvalues < x
        return x - bound - float((residual_norms[below] ** 2 / (x - eigenvalues[below])).sum())

    # The excess increases between two neighbouring μ and drops to −∞ just above each. It is not negative at the last x.
    for low, high in itertools.pairwise([bound, *above, last]):
        if high > low and excess(high) >= 0:
            return _bisect(excess, low, high)
    return float(last)


def _bisect(function: Callable[[float], float], low: float, high: float) -> float:
    """The upper end of a tiny interval in which an increasing function changes sign; it is not negative there."""
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) < 0 else (low, middle)
    return high
