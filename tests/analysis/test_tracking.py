from itertools import permutations

import numpy as np
import pytest

from hesstore.analysis import track
from tests.support.analysis_datasets import random_bases, spectra


def test_tracks_follow_through_a_crossing() -> None:
    basis = random_bases(1, 3, 30)[0]
    rising, falling, small = np.array([1.0, 2.0, 3.0, 4.0]), np.array([3.5, 2.5, 1.5, 0.5]), np.full(4, 0.1)
    mu = np.stack([rising, falling, small], axis=1)
    order = mu.argsort(axis=1)[:, ::-1]
    signs = np.array([1, -1, -1, 1])[:, None, None]
    ds = spectra(signs * basis[order], np.take_along_axis(mu, order, 1))
    found = track(ds)
    assert found.mode.values.tolist() == [[0, 1, 2], [0, 1, 2], [1, 0, 2], [1, 0, 2]]
    np.testing.assert_array_equal(found.eigenvalue, np.stack([falling, rising, small], axis=1))
    np.testing.assert_allclose(found.confidence[1:], 1, atol=1e-6)
    np.testing.assert_allclose(found.runner_up[1:], 0, atol=1e-6)
    assert np.isnan(found.confidence[0]).all()
    assert np.isnan(found.runner_up[0]).all()


def test_confidence_of_turned_vectors() -> None:
    basis, angle = np.eye(2, 5), 0.3
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    found = track(spectra([basis, turn @ basis]))
    np.testing.assert_allclose(found.confidence[1], np.cos(angle) ** 2, rtol=1e-6)
    np.testing.assert_allclose(found.runner_up[1], np.sin(angle) ** 2, rtol=1e-6)


def test_matching_is_optimal_not_greedy() -> None:
    """Greedy from the first track takes 0.6 + 0.0; the best sum is 0.5 + 0.4."""
    squares = np.array([[0.6, 0.5], [0.4, 0.0]])
    first, then = np.zeros((2, 8)), np.zeros((2, 8))
    first[:, :2] = np.eye(2)
    then[:, :2] = np.sqrt(squares.T)
    then[0, 2], then[1, 3] = np.sqrt(1 - squares.sum(0))
    found = track(spectra([first, then]))
    assert found.mode[1].values.tolist() == [1, 0]
    np.testing.assert_allclose(found.confidence[1], [0.5, 0.4], rtol=1e-6)
    np.testing.assert_allclose(found.runner_up[1], [0.6, 0.0], atol=1e-6)


def test_few_tracks_may_leave_the_first_modes() -> None:
    basis = random_bases(1, 4, 30)[0]
    found = track(spectra([basis, basis[[2, 0, 1, 3]]]), k=2)
    assert found.mode.values.tolist() == [[0, 1], [1, 2]]


def test_gaps_are_bridged() -> None:
    basis = random_bases(1, 3, 30)[0]
    short = basis[[1, 0, 2]].copy()
    short[1:] = np.nan  # only what was mode 1 is found
    ds = spectra([basis, random_bases(1, 3, 30, seed=9)[0], short, basis[[2, 0, 1]]], status=[2, 3, 2, 2])
    found = track(ds)
    assert found.l2.values.tolist() == [0, 0.002, 0.003]
    assert found.mode.values.tolist() == [[0, 1, 2], [-1, 0, -1], [1, 2, 0]]
    assert np.isnan(found.eigenvalue[1]).values.tolist() == [True, False, True]
    np.testing.assert_allclose(found.confidence[2], 1, atol=1e-6)  # with the last vector that was found
    assert np.isnan(found.runner_up[1]).all()  # nothing else was found


def test_a_track_can_begin_late() -> None:
    basis = random_bases(1, 2, 30)[0]
    first = basis.copy()
    first[1] = np.nan
    found = track(spectra([first, basis[::-1], basis]))
    assert found.mode.values.tolist() == [[0, -1], [1, 0], [0, 1]]
    assert np.isnan(found.confidence[1]).values.tolist() == [False, True]
    np.testing.assert_allclose(found.confidence[2], 1, atol=1e-6)


def test_one_grid_point_and_progress() -> None:
    done: list[tuple[int, int]] = []
    found = track(spectra(random_bases(1, 1, 9)), progress=lambda *now: done.append(now))
    assert found.mode.values.tolist() == [[0]]
    assert done == [(1, 1)]
    assert np.isnan(track(spectra(random_bases(2, 1, 9))).runner_up[1].item())


def test_matching_maximises_the_sum() -> None:
    """Against all permutations."""
    vectors = random_bases(2, 5, 12)
    squares = (vectors[0].astype(np.float64) @ vectors[1].T) ** 2
    best = max(permutations(range(5)), key=lambda order: squares[range(5), order].sum())
    found = track(spectra(vectors))
    assert tuple(found.mode[1].values) == best
    assert found.confidence[1].sum().item() == pytest.approx(squares[range(5), best].sum(), rel=1e-5)
