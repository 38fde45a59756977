import numpy as np
import pytest

from hesstore.analysis import layer_mass, participation_ratio
from tests.support.analysis_datasets import random_bases, spectra


def test_layer_mass_sums_squares() -> None:
    vectors = random_bases(3, 4, 31)
    ds = spectra(vectors, status=[2, 0, 2])
    done: list[tuple[int, int]] = []
    found = layer_mass(ds, progress=lambda *now: done.append(now))
    first = ds.layer.values == "fc1"
    expected = (vectors[[0, 2]].astype(np.float64) ** 2)[..., first].sum(-1)
    np.testing.assert_allclose(found.layer_mass.sel(layer="fc1"), expected, rtol=1e-12)
    np.testing.assert_allclose(found.layer_mass.sum("layer"), 1, rtol=1e-6)
    assert found.chance.values.tolist() == [21 / 31, 10 / 31]
    assert done == [(1, 2), (2, 2)]


def test_layers_keep_the_order_of_the_parameters_and_may_be_scattered() -> None:
    ds = spectra(np.eye(3)[None]).assign_coords(layer=("param", np.array(["out", "in", "out"], dtype=object)))
    found = layer_mass(ds)
    assert found.layer.values.tolist() == ["out", "in"]
    assert found.layer_mass[0].values.tolist() == [[1, 0], [0, 1], [1, 0]]


def test_participation_ratio_closed_forms() -> None:
    size = 100
    even, one, half = np.full(size, 0.1), np.zeros(size), np.zeros(size)
    one[3] = -1
    half[:50] = np.sqrt(1 / 50)
    found = participation_ratio(spectra([[even, one, half, np.full(size, np.nan)]]))
    np.testing.assert_allclose(found.participation_ratio[0], [1, 1 / size, 0.5, np.nan], rtol=1e-6)


def test_participation_ratio_of_random_vectors() -> None:
    """E Σ v⁴ = 3/(P + 2) on the sphere."""
    size = 12
    normal = np.random.default_rng(0).standard_normal((40_000, size))
    fourth = ((normal / np.linalg.norm(normal, axis=1, keepdims=True)) ** 4).sum(1).mean()
    chance = participation_ratio(spectra(random_bases(1, 1, size))).chance.item()
    assert chance == 14 / 36
    assert 1 / (size * fourth) == pytest.approx(chance, rel=0.01)


def test_missing_modes_are_nan() -> None:
    vectors = random_bases(1, 3, 20)
    vectors[0, 2] = np.nan
    ds = spectra(vectors)
    assert np.isnan(layer_mass(ds).layer_mass[0]).any("layer").values.tolist() == [False, False, True]
