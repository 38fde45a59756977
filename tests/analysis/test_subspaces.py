import tracemalloc

import numpy as np
import pytest
import scipy.linalg
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from hesstore.analysis import overlap, overlap_map, principal_angles
from hesstore.analysis.eigenvectors import EigenvectorReader
from hesstore.errors import AnalysisError
from tests.support.analysis_datasets import dataset, random_bases, spectra

ANGLES = np.array([1e-6, 3e-4, 0.2, 1.1, np.pi / 2])


def rotated(angles: NDArray[np.float64], size: int = 400) -> xr.Dataset:
    """Spans at λ = 0 and 0.001 with these principal angles, in mixed bases."""
    k = len(angles)
    frame = np.linalg.qr(np.random.default_rng(1).standard_normal((size, 2 * k)))[0].T
    turned = np.cos(angles)[:, None] * frame[:k] + np.sin(angles)[:, None] * frame[k:]
    mixing = np.linalg.qr(np.random.default_rng(2).standard_normal((2, k, k)))[0]
    return spectra([mixing[0] @ frame[:k], mixing[1] @ turned])


def test_angles_of_rotated_spans() -> None:
    ds = rotated(ANGLES)
    found = overlap(ds, 0, 0.001)
    np.testing.assert_allclose(found.principal_angle, ANGLES, atol=2e-7)
    assert found.overlap.item() == pytest.approx(np.mean(np.cos(ANGLES) ** 2), abs=1e-7)
    assert found.chance.item() == 5 / 400
    xr.testing.assert_identical(principal_angles(ds, 0, 0.001), found[["principal_angle"]])


def test_overlap_is_its_definition() -> None:
    vectors = random_bases(3, 6, 50)
    ds = spectra(vectors)
    a, b = vectors[[0, 2], :4].astype(np.float64)
    found = overlap(ds, 0, 0.002, k=4)
    assert found.overlap.item() == pytest.approx(np.linalg.norm(a @ b.T) ** 2 / 4, rel=1e-6)
    cosines = scipy.linalg.svdvals(a @ b.T)
    np.testing.assert_allclose(np.cos(found.principal_angle), cosines, rtol=1e-6)


def test_overlap_between_runs() -> None:
    vectors = random_bases(4, 3, 40).reshape(2, 2, 3, 40)
    values: dict[str, ArrayLike] = {"eigenvectors": vectors, "eigenvalues": np.ones((2, 2, 3))}
    ds = dataset([0, 0.1], values, [(0, "up"), (1, "up")])
    expected = np.linalg.norm(vectors[0, 1] @ vectors[1, 0].T) ** 2 / 3
    assert overlap(ds, 0.1, 0, run=0, run_b=1).overlap.item() == pytest.approx(expected, rel=1e-5)


def test_fewer_pairs_than_k() -> None:
    vectors = random_bases(2, 4, 30)
    vectors[1, 2:] = np.nan
    ds = spectra(vectors)
    assert overlap(ds, 0, 0.001).sizes["angle"] == 2
    with pytest.raises(AnalysisError, match=r"λ = 0.001 of run 0 has 2 pairs, but k is 3: choose a smaller k"):
        overlap(ds, 0, 0.001, k=3)
    vectors[1] = np.nan
    with pytest.raises(AnalysisError, match="has 0 pairs, but k is 1"):
        overlap(spectra(vectors), 0, 0.001)


def dense_map(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = vectors.astype(np.float64)
    products: NDArray[np.float64] = np.einsum("aip,bjp->abij", wide, wide)
    overlaps: NDArray[np.float64] = np.square(products).sum((2, 3)) / vectors.shape[1]
    return overlaps


@pytest.mark.parametrize("count", [1, 2, 23])
@pytest.mark.parametrize("memory", [1, 30e3, 100e3, 1e9])
def test_map_is_dense_whatever_the_blocks(count: int, memory: float) -> None:
    vectors = random_bases(count, 3, 70)
    ds = spectra(vectors)
    done: list[tuple[int, int]] = []
    found = overlap_map(ds, memory=memory, progress=lambda *now: done.append(now))
    np.testing.assert_allclose(found.overlap, dense_map(vectors), atol=1e-6)
    np.testing.assert_array_equal(found.overlap, found.overlap.T)
    assert done[-1] == (count * (count + 1) // 2,) * 2
    assert done == sorted(set(done))
    assert found.chance.item() == 3 / 70


def test_map_has_gaps() -> None:
    vectors = random_bases(5, 4, 60)
    vectors[2, 3:] = np.nan  # one pair short
    ds = spectra(vectors, status=[2, 3, 2, 2, 0])
    found = overlap_map(ds)
    assert found.l2.values.tolist() == found.l2_other.values.tolist() == [0, 0.002, 0.003]
    assert np.isnan(found.overlap.values).tolist() == [[False, True, False], [True] * 3, [False, True, False]]
    shorter = overlap_map(ds, k=3)
    np.testing.assert_allclose(shorter.overlap, dense_map(vectors[[0, 2, 3], :3]), atol=1e-6)
    with pytest.raises(AnalysisError, match="memory = -1 bytes: it must be above 0"):
        overlap_map(ds, memory=-1)


def test_map_stays_within_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    count, k, size = 40, 4, 20_000
    ds = spectra(np.broadcast_to(random_bases(1, k, size), (count, k, size)))
    reads: list[int] = []
    read = EigenvectorReader.read

    def counted(self: EigenvectorReader, index: int, k: int) -> NDArray[np.float32]:
        reads.append(index)
        return read(self, index, k)

    monkeypatch.setattr(EigenvectorReader, "read", counted)
    one = 4 * k * size
    tracemalloc.start()
    found = overlap_map(ds, memory=12 * one)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_allclose(found.overlap, 1, atol=1e-5)
    assert peak < 12 * one < count * one / 3
    # a block of 8 (of 11 that fit with their products, 1 passes and 2 are for reading): 40 + 32 + 24 + 16 + 8 reads
    assert len(reads) == 120
    reads.clear()
    overlap_map(ds)
    assert reads == list(range(count))
