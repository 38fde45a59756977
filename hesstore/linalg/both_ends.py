"""A search at both ends of a spectrum: the k outermost eigenpairs, then the lowest ones.

It has the protocol of :class:`~hesstore.linalg.lanczos_search.LanczosSearch`, so that many of them can share one
operator. With ``lowest`` = 0 it is that search alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hesstore.linalg.lanczos_search import Goal, LanczosSearch

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from hesstore.linalg.eigenpairs import EigenPairs
    from hesstore.linalg.operators import VectorSpace


class SearchAtBothEnds:
    """The search for the outermost pairs, followed by the one for the lowest pairs.

    Parameters
    ----------
    space : VectorSpace
        Size, precision and device of the vectors.
    goal : Goal
        The goal of the first search.
    generator : torch.Generator
        CPU generator of the start vectors of both searches.
    lowest : int
        Number of algebraically smallest pairs; 0 for none.
    known : Tensor, optional
        (n, P) approximate eigenvectors with which the first search begins.

    Attributes
    ----------
    pairs : EigenPairs or None
        The result of both searches; None until they have ended.
    """

    def __init__(
        self,
        space: VectorSpace,
        goal: Goal,
        generator: torch.Generator,
        lowest: int = 0,
        known: Tensor | None = None,
    ) -> None:
        self.space, self.goal, self.generator, self.lowest = space, goal, generator, lowest
        self.pairs: EigenPairs | None = None
        self._outermost: EigenPairs | None = None  # the result of the first search while the second one runs
        self._search = LanczosSearch(space, goal, generator, known)

    @property
    def wanted(self) -> Tensor:
        """(P,) the unit vector whose product with A is needed next."""
        return self._search.wanted

    def take(self, product: Tensor) -> None:
        """Take the product of A with the vector that was :attr:`wanted`; the tensor may be changed in place.

        Raises
        ------
        FloatingPointError
            If a product is NaN or infinite, or if A is not symmetric.
        """
        self._search.take(product)
        if self._search.ending is None:
            return
        found = self._search.result()
        if self._outermost is not None:
            count = self._outermost.num_matvecs + found.num_matvecs
            self.pairs = replace(self._outermost, num_matvecs=count, lowest=found)
        elif not self.lowest:
            self.pairs = found
        elif self.goal.which == "SA" and self.lowest <= self.goal.k:
            self.pairs = replace(found, lowest=_first(found, self.lowest))
        else:
            self._outermost = found
            # A second search uses what the first one leaves of the limit, but can't end without one product per pair.
            limit = max(self.goal.max_matvecs - found.num_matvecs, self.lowest)
            goal = replace(self.goal, k=self.lowest, which="SA", max_matvecs=limit)
            self._search = LanczosSearch(self.space, goal, self.generator)


def _first(pairs: EigenPairs, count: int) -> EigenPairs:
    """The first ``count`` of the lowest pairs, which took no further product."""
    bound = pairs.bound
    if count < len(pairs.eigenvalues):  # the next one, which was found too, is one that is not among the first
        bound = min(bound, float(pairs.eigenvalues[count] - pairs.residual_norms[count]))
    return replace(
        pairs,
        eigenvalues=pairs.eigenvalues[:count],
        eigenvectors=pairs.eigenvectors[:count],
        residual_norms=pairs.residual_norms[:count],
        converged=pairs.converged[:count],
        num_matvecs=0,
        bound=bound,
    )
