"""Which pairs a search locks."""

from __future__ import annotations

import torch

from hesstore.linalg.criteria import Criteria, Goal


def chosen(values: list[float], residual_norms: list[float], k: int) -> list[float]:
    """The eigenvalues of the pairs that a search for the ``k`` largest magnitudes locks."""
    criteria = Criteria(Goal(k=k, which="LM", tol=1e-3, max_matvecs=100, eta=1e-4, slack=3e-3), torch.float64)
    all_values = torch.tensor(values, dtype=torch.float64)
    criteria.grow(all_values)
    norms = torch.tensor(residual_norms, dtype=torch.float64)
    return all_values[criteria.worth_locking(all_values, norms, torch.zeros(0, dtype=torch.float64))].tolist()


def test_pairs_behind_the_last_wanted_one_are_locked_from_there_inwards() -> None:
    """Behind the second, 2 · 1e-3 may be spent on r² / (2.002 − |μ|): here 3.3e-4, 1.4e-3 and 8e-4."""
    assert chosen([3, 2, 1.99, 1.9, 1.5], [0, 0, 2e-3, 1.2e-2, 2e-2], 2) == [3, 2, 1.99, 1.9]


def test_pairs_far_behind_are_locked_only_for_a_hundredth_of_that() -> None:
    """The first two cost 5e-5 and 6.7e-7; the last one is nearly an eigenpair, and that of the lowest eigenvalue."""
    assert chosen([3, 2, 0.01, -0.5], [0, 0, 1e-2, 1e-3], 2) == [3, 2, -0.5]


def test_only_converged_pairs_are_locked_before_there_are_enough() -> None:
    assert chosen([3, 2, 1.99, 1.5], [0, 1e-2, 1e-3, 0], 3) == [3, 1.99, 1.5]
    assert chosen([3, 2, 1.9, 1.5], [0, 1e-2, 1e-2, 0], 3) == [3, 1.5]
