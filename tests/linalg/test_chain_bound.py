from __future__ import annotations

import math

import pytest
import torch

from hesstore.linalg.chain_bound import ChainBound, part_of_eta
from hesstore.linalg.criteria import Criteria, Goal
from hesstore.linalg.eigenpairs import Which
from hesstore.linalg.tridiagonal import Tridiagonal

SIZE = 1000


def chain_bound(steps: int, which: Which = "LM", locked: tuple[float, ...] = ()) -> ChainBound:
    """From the chain of a spectrum that fills [-1, 1]."""
    goal = Goal(k=2, which=which, tol=1e-3, max_matvecs=100, eta=1e-4, slack=3e-3)
    beta = torch.full((steps,), 0.5, dtype=torch.float64)
    values = torch.tensor(locked, dtype=torch.float64)
    chain = Tridiagonal(torch.zeros_like(beta), beta)
    return ChainBound(chain, SIZE, values, torch.zeros_like(values), Criteria(goal, torch.float64), goal.eta)


def test_the_parts_of_eta_add_up_to_nearly_one() -> None:
    count = 1000
    total = sum(part_of_eta(complements) for complements in range(count))
    rest = part_of_eta(count) * count**3 / (2 * (count - 1) ** 2)  # the integral of 1/c³ from the last one on
    assert 0.999 < total < total + rest < 1


@pytest.mark.parametrize("which", ["LM", "LA", "SA"])
def test_no_further_step_is_needed_exactly_where_the_bound_is(which: Which) -> None:
    of_chain = chain_bound(12, which)
    assert of_chain.bound > 1
    assert of_chain.steps_until(of_chain.bound * (1 + 1e-9)) == 0
    assert of_chain.steps_until(of_chain.bound * (1 - 1e-6)) > 0
    assert of_chain.steps_until(0.9) == math.inf  # there are Ritz values beyond


def test_the_number_of_further_steps_is_roughly_right() -> None:
    """For this chain K grows by the same factor with each step, after the first ones."""
    limit = chain_bound(40).bound
    assert 4 <= chain_bound(32).steps_until(limit) <= 12


def test_the_end_at_which_the_locked_pairs_lie_gets_the_closer_bound() -> None:
    """With n of k locked eigenvalues above zero, the upper end gets (n + 1)/(k + 2) of the probability."""
    upper = chain_bound(12, locked=(3.0, 2.0))
    parts = dict(upper._parts_of_ends)
    assert parts == pytest.approx({1: 0.75, -1: 0.25})
    assert dict(chain_bound(12, locked=(3.0, -2.0))._parts_of_ends) == pytest.approx({1: 0.5, -1: 0.5})
    assert dict(chain_bound(12)._parts_of_ends) == pytest.approx({1: 0.5, -1: 0.5})


def test_pairs_behind_the_kth_are_within_the_bound() -> None:
    """The result contains k pairs, so the others that are locked count as further eigenvalues."""
    assert chain_bound(30, locked=(3.0, 2.0)).bound < 1.2
    assert chain_bound(30, locked=(3.0, 2.0, 1.9)).bound == pytest.approx(1.9)
