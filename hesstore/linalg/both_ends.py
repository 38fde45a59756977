"""A search at both ends of a spectrum: the k outermost eigenpairs, then the lowest ones.

It is used as a :class:`~hesstore.linalg.lanczos_search.LanczosSearch`, so that many of them can share one operator.
With ``lowest`` = 0 it is that search alone. A caller that takes the steps itself works with the search that goes on.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hesstore.linalg.lanczos_search import REMEMBERED_SIZE, LanczosSearch

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from hesstore.linalg.criteria import Goal
    from hesstore.linalg.eigenpairs import EigenPairs
    from hesstore.linalg.operators import Images, VectorSpace
    from hesstore.linalg.vector_rows import VectorRows

FURTHER_PRODUCTS = 0.2
"""Maximum number of products for one lowest pair of a large matrix, as a fraction of those for the outermost pairs."""


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
    images : Images, optional
        Maps that nearly commute with A.
    known : Tensor, optional
        (n, P) approximate eigenvectors with which the first search begins.
    rows : VectorRows, optional
        Where the vectors are kept; memory of its own by default.

    Attributes
    ----------
    search : LanczosSearch
        The search whose goal is that of one of the two, and then of the other.
    pairs : EigenPairs or None
        The result of both searches; None until they have ended.
    """

    def __init__(
        self,
        space: VectorSpace,
        goal: Goal,
        generator: torch.Generator,
        lowest: int = 0,
        images: Images | None = None,
        known: Tensor | None = None,
        rows: VectorRows | None = None,
    ) -> None:
        self._lowest, self._size = lowest, space.size
        self.pairs: EigenPairs | None = None
        self._outermost: EigenPairs | None = None  # the result of the first search while the second one runs
        self.search = LanczosSearch(space, goal, generator, images, known, rows)

    @property
    def wanted(self) -> Tensor:
        """(P,) the unit vector whose product with A is needed next."""
        return self.search.wanted

    def take(self, product: Tensor) -> None:
        """Take the product of A with the vector that was :attr:`wanted`; the tensor may be changed in place.

        Raises
        ------
        FloatingPointError
            If a product is NaN or infinite, or if A is not symmetric.
        """
        self.search.take(product)
        self._proceed()

    def begin_step(self, product: Tensor) -> None:
        """Begin a step of :attr:`search` that the caller takes; see :meth:`LanczosSearch.begin_step`."""
        self.search.begin_step(product)

    def inspect(self, diagonals: Tensor) -> None:
        """Inspect the chain of :attr:`search`, which has taken steps by itself; see :meth:`LanczosSearch.inspect`."""
        self.search.inspect(diagonals)
        self._proceed()

    def _proceed(self) -> None:
        """Go on to the second search if the first one has ended, and to the result if both have."""
        if self.search.ending is not None and self._outermost is None:
            self._end_first(self.search.result())
        if self.search.ending is not None and self._outermost is not None:
            found = self.search.result()
            further = found.num_matvecs - self._outermost.num_matvecs
            lowest = replace(found, num_matvecs=further)
            self.pairs = replace(self._outermost, num_matvecs=found.num_matvecs, lowest=lowest)

    def _end_first(self, found: EigenPairs) -> None:
        """End the search for the outermost pairs, and begin the one for the lowest pairs if there is one."""
        goal = self.search.goal
        if not self._lowest:
            self.pairs = found
        elif goal.which == "SA" and self._lowest <= goal.k:
            self.pairs = replace(found, lowest=_first(found, self._lowest))
        else:
            self._outermost = found
            resolution = float(found.eigenvalues[-1].abs().nan_to_num(0.0))
            lowest = replace(goal, k=self._lowest, which="SA", resolution=resolution)
            if self._lowest == 1 and self._size > REMEMBERED_SIZE:
                # The pair may take further products. Its bound is the one that the chains have anyway.
                limit = found.num_matvecs + int(FURTHER_PRODUCTS * found.num_matvecs)
                lowest = replace(lowest, max_matvecs=min(goal.max_matvecs, limit), bound_steps=0)
            self.search.aim(lowest)


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
