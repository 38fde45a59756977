"""How a search ends, and the sentence that says so."""

from __future__ import annotations

import math
from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hesstore.linalg.criteria import Goal


class Ending(Enum):
    """How a search ended."""

    COMPLETE = auto()
    WHOLE_MATRIX = auto()
    LOOSE_BOUND = auto()
    PRODUCT_LIMIT = auto()


def ending_message(ending: Ending | None, goal: Goal, *, products: int, unconverged: int, bound: float) -> str:
    """How a search ended, in a sentence. A search can be complete although some pairs have not converged.

    Parameters
    ----------
    ending : Ending or None
        The ending; None if the search has not ended.
    goal : Goal
        What was searched for.
    products : int
        Number of products.
    unconverged : int
        Number of the k pairs that have not converged.
    bound : float
        The bound on further eigenvalues; infinite if nothing is known.
    """
    further = f": further eigenvalues up to {bound:.3g} are possible" if math.isfinite(bound) else ""
    complete = f"complete to {goal.slack:.2g} after {products} products"
    without_bound = f"{products} products, without a bound on further eigenvalues"
    said = {
        Ending.COMPLETE: complete if math.isfinite(goal.slack) else without_bound,
        Ending.WHOLE_MATRIX: f"complete: the whole matrix is known after {products} products",
        Ending.LOOSE_BOUND: f"not complete to {goal.slack:.2g} after {products} products{further}",
        Ending.PRODUCT_LIMIT: f"stopped at the limit of {products} products{further}",
        None: "not ended",
    }[ending]
    return said + (f"; {unconverged} of {goal.k} pairs have not converged" if unconverged else "")
