"""The bound on further eigenvalues from one chain of a search, at each end of the spectrum that matters.

:mod:`~hesstore.linalg.certificate` has the bound at one end. Here are the parts of η that the chains and the ends get.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hesstore.linalg.certificate import bound_outside, log_growth, smallest_component, upper_bound

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from hesstore.linalg.criteria import Criteria
    from hesstore.linalg.tridiagonal import Tridiagonal

    Array = NDArray[np.float64]

FIRST_CHAIN = 0.02
"""The part of η that is spent on the bound of the first chain, which seldom decides; the rest is for the others."""

CUBES = 1.2021
"""Slightly more than ζ(3), the sum of 1/c³ over all positive integers c."""


def part_of_eta(complements: int) -> float:
    """The part of η that is spent on a chain; the parts of all chains add up to less than 1.

    Most of it is for the first chain in a complement, because few searches need a second one.

    Parameters
    ----------
    complements : int
        The number of chains in complements of locked pairs up to this one: 0 for the first chain of the search.
    """
    return (1 - FIRST_CHAIN) / (CUBES * complements**3) if complements else FIRST_CHAIN


@dataclass(frozen=True)
class ChainBound:
    """The bound from a chain that started from a random vector orthogonal to the locked vectors.

    Attributes
    ----------
    chain : Tridiagonal
        Its T.
    size : int
        P, the dimension of the whole space.
    locked, residual_norms : Tensor
        (n,) the eigenvalues of the locked pairs and their residual norms, on the host in float64.
    criteria : Criteria
        What is searched for.
    eta : float
        The probability that the bound is wrong, at most.
    """

    chain: Tridiagonal
    size: int
    locked: Tensor
    residual_norms: Tensor
    criteria: Criteria
    eta: float

    @property
    def bound(self) -> float:
        """The distance beyond which no eigenvalue lies but those near the k outermost locked ones."""
        theta, estimates, beta = self._arrays
        locked, residual_norms = self.locked.numpy(), self.residual_norms.numpy()
        behind = self.criteria.distance(self.locked).sort(descending=True).values[self.criteria.goal.k :]
        least = float(behind[0]) if len(behind) else -math.inf  # the result does not contain the pairs behind the k-th
        ends = [(sign, upper_bound(sign * theta, estimates, beta, delta)) for sign, delta in self._smallest_components]
        return max(bound_outside(max(end, least), sign * locked, residual_norms) for sign, end in ends)

    def steps_until(self, limit: float) -> float:
        """The further steps after which the bound will be below ``limit``, if K grows at its mean rate so far.

        They are infinite while a Ritz value lies beyond the limit. No β of the chain may be zero.
        """
        theta, estimates, beta = self._arrays
        steps = 0.0
        for sign, delta in self._smallest_components:
            if limit <= float((sign * theta).max()):
                return math.inf
            growth = log_growth(sign * theta, estimates, beta, limit)
            steps = max(steps, len(theta) * (-math.log(delta) / max(growth, 1.0) - 1))
        return steps

    @property
    def _arrays(self) -> tuple[Array, Array, Array]:
        """(m,) the Ritz values, the residual norms of their pairs, and β."""
        theta, _, estimates = self.chain.ritz
        return theta.numpy(), estimates.numpy(), self.chain.beta.numpy()

    @property
    def _smallest_components(self) -> list[tuple[int, float]]:
        """The sign of each end that matters, and δ there."""
        dimensions = self.size - len(self.locked)
        return [(sign, smallest_component(dimensions, part * self.eta)) for sign, part in self._parts_of_ends]

    @property
    def _parts_of_ends(self) -> list[tuple[int, float]]:
        """The sign of each end that matters, and its part of the probability.

        The end at which most of the outermost locked pairs lie gets most of it: there the bound has to be close. These
        pairs are known before the start vector of the chain is drawn.
        """
        goal = self.criteria.goal
        if goal.which != "LM":
            return [(1 if goal.which == "LA" else -1, 1.0)]
        outermost = self.locked[self.criteria.order(self.locked)[: goal.k]]
        positive = (1 + int((outermost > 0).sum())) / (2 + len(outermost))
        return [(1, positive), (-1, 1 - positive)]
