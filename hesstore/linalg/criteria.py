"""The goal of a search, and what follows from it: which Ritz pairs have converged, which matter, and which to lock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from hesstore.linalg.eigenpairs import absolute_tolerance, distance, order, tolerances

if TYPE_CHECKING:
    from torch import Tensor

    from hesstore.linalg.eigenpairs import Which

MARGIN = 0.7
"""Fraction of the tolerance at which a search accepts a pair: later pairs add to its residual."""

COUPLING_SHARE = 1 / 3
"""Fraction of the slack that may be spent on locking pairs that have not converged; never more than the tolerance."""

NEAR = 0.5
"""Pairs at less than this fraction of the distance of the k-th one do not slow the next chain down."""

SMALL_COST = 0.01
"""Such pairs are locked before they have converged only if each costs at most this fraction of what may be spent. That
is for pairs at the other end of the spectrum, which a later search may want."""


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What a search is for; see :func:`~hesstore.linalg.lanczos.lanczos`.

    Attributes
    ----------
    resolution : float
        An eigenvalue of a smaller magnitude has the tolerance and the slack of one of this magnitude.
    bound_steps : int
        Steps after which a chain that finds nothing new ends, whatever bound it has reached.
    """

    k: int
    which: Which
    tol: float
    max_matvecs: int
    eta: float
    slack: float
    resolution: float = 0.0
    bound_steps: int = 128


class Criteria:
    """The decisions about Ritz values that follow from a goal.

    All values are divided by ``unit``.

    Parameters
    ----------
    goal : Goal
        The goal.
    dtype : torch.dtype
        The precision of the products.

    Attributes
    ----------
    unit : float
        The power of two by which products are divided: their squares must be finite and not zero.
    scale : float
        The largest magnitude that was seen so far, nearly |μ₁|.
    """

    def __init__(self, goal: Goal, dtype: torch.dtype) -> None:
        self.goal, self.dtype = goal, dtype
        self.unit, self.scale = 1.0, 0.0

    def grow(self, values: Tensor) -> None:
        """Take note of the magnitudes of ``values``."""
        self.scale = max(self.scale, float(values.abs().max()))

    @property
    def rounding(self) -> float:
        """The magnitude below which a number cannot be distinguished from rounding."""
        return absolute_tolerance(self.goal.tol, self.dtype, self.scale)

    def tolerances(self, values: Tensor) -> Tensor:
        """The residual norms at which pairs with these eigenvalues have converged."""
        return tolerances(values, self.goal.tol, self.dtype, self.scale, self.goal.resolution / self.unit)

    def have_converged(self, values: Tensor, residual_norms: Tensor) -> Tensor:
        """Whether the search accepts pairs with these eigenvalues and residual norms, or estimates of them."""
        return residual_norms <= MARGIN * self.tolerances(values)

    def distance(self, values: Tensor) -> Tensor:
        """The distance of each eigenvalue towards the wanted end of the spectrum."""
        return distance(values, self.goal.which)

    def order(self, values: Tensor) -> Tensor:
        """The indices that sort eigenvalues, the outermost first."""
        return order(values, self.goal.which)

    def weakest(self, values: Tensor) -> float:
        """The distance of the k-th of at least k eigenvalues."""
        return float(self.distance(values).sort(descending=True).values[self.goal.k - 1])

    def further_out(self, values: Tensor, weakest: float) -> Tensor:
        """Which eigenvalues lie further out than the distance ``weakest``, by more than their tolerance."""
        return self.distance(values) > weakest + self.tolerances(values)

    def limit(self, weakest: float) -> float:
        """The largest bound on further eigenvalues that lies within the slack beyond the k-th one, ``weakest``."""
        magnitude = max(abs(weakest), self.goal.resolution / self.unit)
        return weakest + max(self.goal.slack * magnitude, self.rounding)

    def worth_locking(self, values: Tensor, residual_norms: Tensor, others: Tensor) -> Tensor:
        """Which Ritz pairs to lock: the converged ones, and others that make the next bound easier.

        A locked pair with residual norm r that lies behind the k-th raises the bound x by r² / (x − μ), see
        :mod:`~hesstore.linalg.certificate`, and adds up to as much to the residual norms of pairs that are found later.
        In return the complement no longer contains it, and its chain converges in fewer steps. The nearer the pair is
        to the k-th, the larger is the gain. So pairs are chosen from the k-th inwards until :data:`COUPLING_SHARE` of
        the slack, or the tolerance if it is smaller, is spent. Pairs far from the k-th must cost very little.

        Parameters
        ----------
        values, residual_norms : Tensor
            (n,) the Ritz values and the norms of their residuals, or estimates of them.
        others : Tensor
            Eigenvalues that will be locked, too.
        """
        converged = self.have_converged(values, residual_norms)
        found = torch.cat([others, values[converged]])
        if len(found) < self.goal.k:
            return converged
        weakest = self.weakest(found)
        allowed = min(COUPLING_SHARE * self.goal.slack, self.goal.tol) * abs(weakest)
        distance = self.distance(values)
        behind = distance < weakest
        chosen = converged & ~behind
        cost = residual_norms.square() / (weakest + allowed - distance)
        near = distance > NEAR * weakest
        candidates = behind & (near | (cost <= SMALL_COST * allowed))
        for index in distance.where(near, torch.inf).argsort(descending=True).tolist():
            if candidates[index] and float(cost[index]) <= allowed:
                chosen[index] = True
                allowed -= float(cost[index])
        return chosen
