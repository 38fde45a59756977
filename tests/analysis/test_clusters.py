import numpy as np
import pytest
import scipy.linalg
from numpy.typing import NDArray

from hesstore.analysis import clusters, track
from hesstore.analysis.clusters import group
from hesstore.errors import AnalysisError
from tests.support.analysis_datasets import random_bases, spectra

NAN = np.nan


def turned(vectors: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Return another basis of the span of the rows."""
    turn = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(vectors), len(vectors))))[0]
    return (turn @ vectors).astype(np.float32)


def test_groups_are_separated_by_relative_gaps() -> None:
    def modes(*eigenvalues: float, gap: float = 0.05) -> list[list[int]]:
        return [members.tolist() for members in group(np.array(eigenvalues), gap)]

    assert modes(4, 3.9, 3.0, 2.9, 1.0) == [[0, 1], [2, 3], [4]]
    assert modes(4, 3.9, 3.0, 2.9, 1.0, gap=0) == [[0], [1], [2], [3], [4]]
    assert modes(4, -4, 3.9, -3.9) == [[0, 2], [1, 3]]  # neighbours by magnitude, but not by value
    assert modes(4, 1e-9, -1e-12, 0) == [[0], [1, 2, 3]]  # zero to rounding
    assert modes(4, 3.9, NAN) == [[0, 1]]
    assert modes(NAN) == []


def test_a_cluster_is_followed_where_its_vectors_are_not() -> None:
    basis = random_bases(1, 5, 40)[0]
    mu = np.array([[5, 2.02, 2.01, 2.0, 1]] * 4)
    ds = spectra([np.vstack([basis[:1], turned(basis[1:4], seed), basis[4:]]) for seed in range(4)], mu)
    found = clusters(ds)
    assert found["track"].values.tolist() == [[0, 1, 1, 1, 2]] * 4
    assert found["size"].values.tolist() == [[1, 3, 3, 3, 1]] * 4
    np.testing.assert_allclose(found["overlap"][1:], 1, atol=1e-6)
    np.testing.assert_allclose(found["principal_angle"][1:], 0, atol=1e-3)
    assert np.isnan(found["overlap"][0]).all()
    assert float(track(ds)["confidence"][1:, 1:4].min()) < 0.5  # which single modes are ambiguous
    np.testing.assert_array_equal(found["eigenvalue"], mu)


def test_angle_and_overlap_are_those_of_the_spans() -> None:
    a, b = random_bases(2, 3, 12, seed=4)
    b = np.linalg.qr((a + 0.2 * b).T)[0].T
    found = clusters(spectra([a, b], [[1, 1, 1]] * 2))
    angles = scipy.linalg.subspace_angles(a.T.astype(float), b.T)
    assert float(found["principal_angle"][1, 0]) == pytest.approx(angles.max(), abs=1e-6)
    assert float(found["overlap"][1, 0]) == pytest.approx(np.mean(np.cos(angles) ** 2), abs=1e-6)


def test_clusters_merge_and_split() -> None:
    basis = random_bases(1, 3, 20)[0]
    ds = spectra([basis, turned(basis, 1), basis], [[3, 2, 1], [2, 2, 2], [3, 2, 1]])
    found = clusters(ds)
    first, merged, split = found["track"].values.tolist()
    assert first == [0, 1, 2]
    assert len(set(merged)) == 1
    assert merged[0] in first
    assert len(set(split)) == 3
    assert len(set(split) & set(merged)) == 1
    assert set(split) - set(merged) == {3, 4}  # new tracks
    np.testing.assert_allclose(found["overlap"][1], 1, atol=1e-6)  # of the smaller span with the larger one


def test_unrelated_clusters_are_not_linked_and_gaps_are_bridged() -> None:
    basis = random_bases(1, 4, 20)[0]
    lost = basis[:2].copy()
    lost[:] = NAN
    mu = np.array([[3, 1], [3, 1], [NAN, NAN], [3, 1]])
    ds = spectra([basis[:2], basis[2:], lost, basis[2:]], mu)
    found = clusters(ds)
    assert found["track"].values.tolist() == [[0, 1], [2, 3], [-1, -1], [2, 3]]
    assert found["size"][2].values.tolist() == [0, 0]
    calls: list[tuple[int, int]] = []
    one = clusters(ds, k=1, progress=lambda *now: calls.append(now))
    assert one["track"].values.tolist() == [[0], [1], [-1], [1]]
    assert calls[-1] == (4, 4)


@pytest.mark.parametrize("gap", [-0.1, 1.0, NAN])
def test_gaps_out_of_range_are_refused(gap: float) -> None:
    with pytest.raises(AnalysisError, match="gap = "):
        clusters(spectra(random_bases(1, 2, 9)), gap=gap)
