import warnings

import numpy as np
import pytest
import scipy.stats
import xarray as xr

from hesstore.analysis import correlations, rank_correlations
from hesstore.errors import AnalysisError
from tests.support.analysis_datasets import dataset

COUNT = 40


def sweep(seed: int = 0, count: int = COUNT) -> xr.Dataset:
    """Accuracies in hundredths, so that there are ties; class 2 is constant, class 3 has no rows; there is no trace."""
    rng = np.random.default_rng(seed)
    by_class = np.round(rng.uniform(size=(1, count, 2, 4)), 1)
    by_class[..., 2], by_class[..., 3] = 0.5, np.nan
    values = {
        "eigenvalues": rng.standard_normal((1, count, 3)),
        "trace": np.full((1, count), np.nan),
        "weights_norm": rng.uniform(1, 2, (1, count)),
        "class_accuracy": by_class,
        "accuracy": rng.uniform(size=(1, count, 2)),
    }
    return dataset(np.arange(count), values)


def test_correlation_is_scipys() -> None:
    ds = sweep()
    ds["trace"][0] = np.random.default_rng(5).standard_normal(COUNT)
    found = rank_correlations(ds, split="train")
    top = ds.eigenvalues.values[0].max(1)
    measures = {
        "top eigenvalue": top,
        "trace": ds.trace.values[0],
        "top eigenvalue * |weights|^2": top * ds.weights_norm.values[0] ** 2,
    }
    assert found.measure.values.tolist() == list(measures)
    for name, series in measures.items():
        for label in (0, 1):
            accuracy = ds.class_accuracy.sel(run=0, split="train", label=label)
            expected = scipy.stats.spearmanr(series, accuracy).statistic
            assert found.correlation.sel(measure=name, label=label).item() == pytest.approx(expected, abs=1e-12)
        expected = scipy.stats.spearmanr(series, ds.accuracy.sel(run=0, split="train")).statistic
        assert found.overall_correlation.sel(measure=name).item() == pytest.approx(expected, abs=1e-12)


def test_nan_where_constant_or_missing() -> None:
    found = rank_correlations(sweep())
    for name in ("correlation", "low", "high"):
        assert np.isnan(found[name].sel(measure="trace")).all()
        assert np.isnan(found[name].sel(label=[2, 3])).all()
        assert np.isfinite(found[name].sel(measure="top eigenvalue", label=[0, 1])).all()
        assert np.isnan(found[f"overall_{name}"].values).tolist() == [False, True, False]


def test_gaps_are_left_out() -> None:
    ds = sweep()
    ds["status"][0, 5:9] = 3
    ds["eigenvalues"][0, 20] = np.nan
    ds["eigenvalues"][0, 21, 2] = np.nan  # a mode that was not found
    known = [index for index in range(COUNT) if index not in {5, 6, 7, 8, 20}]
    top = np.nanmax(ds.eigenvalues.values[0][known], axis=1)
    expected = scipy.stats.spearmanr(top, ds.class_accuracy.values[0][known, 1, 0]).statistic
    found = rank_correlations(ds).correlation.sel(measure="top eigenvalue", label=0)
    assert found.item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_grid_points(count: int) -> None:
    found = rank_correlations(sweep(count=count)).overall_correlation.sel(measure="top eigenvalue")
    assert np.isfinite(found.item()) == (count == 3)


def test_interval() -> None:
    ds = sweep()
    x = np.linspace(0, 1, COUNT)
    ds["accuracy"][0, :, 1] = -(x**3)
    ds["eigenvalues"][0] = np.stack([x, -x, -x], axis=1)
    ds["class_accuracy"][0, :, 1, 0] = x + 0.3 * np.sin(40 * x)
    found = rank_correlations(ds).sel(measure="top eigenvalue")
    values = [found[f"overall_{name}"].item() for name in ("correlation", "low", "high")]
    np.testing.assert_allclose(values, -1)  # of monotone series, in every sample
    one = found.sel(label=0)
    assert -1 <= one.low.item() < one.correlation.item() < one.high.item() <= 1
    xr.testing.assert_identical(rank_correlations(ds, seed=3), rank_correlations(ds, seed=3))


def test_samples_are_those_of_a_block_bootstrap() -> None:
    """Drawn and ranked one by one with scipy."""
    rng = np.random.default_rng(8)
    a, b = np.round(rng.standard_normal((2, 30)), 1)
    weights = correlations._block_weights(30, 50, seed=1)
    assert (weights.sum(1) == 30).all()
    found = correlations._spearman(a, b, weights)
    for sample, value in zip(weights.astype(int), found, strict=True):
        drawn = np.repeat(np.arange(30), sample)
        assert value == pytest.approx(scipy.stats.spearmanr(a[drawn], b[drawn]).statistic, abs=1e-12)


def test_blocks_are_of_neighbours() -> None:
    assert [correlations.block_length(count) for count in (1, 3, 27, 64, 451)] == [1, 3, 6, 8, 16]
    weights = correlations._block_weights(64, 1, seed=4)[0]  # 8 blocks of 8
    starts = np.random.default_rng(4).integers(64, size=8)
    assert starts.max() > 56  # one goes round the end
    expected = np.zeros(64)
    for start in starts:
        for step in range(8):
            expected[(start + step) % 64] += 1
    np.testing.assert_array_equal(weights, expected)


def test_similar_neighbours_widen_the_interval() -> None:
    """Repeating each grid point eight times adds no information, but an interval over single points would shrink."""
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal((2, 16))
    a, b = (np.repeat(series, 8) + 1e-6 * rng.standard_normal(128) for series in (a, b))
    _, low, high = correlations._rho_and_interval(a, b, 2000, 0)
    draws = rng.multinomial(128, np.full(128, 1 / 128), size=2000).astype(float)
    single = np.quantile(correlations._spearman(a, b, draws), (0.025, 0.975))
    assert high - low > 1.8 * (single[1] - single[0])


def test_without_a_trace() -> None:
    """A sweep without probes does not record it."""
    found = rank_correlations(sweep().drop_vars("trace"), resamples=10)
    assert found["correlation"].sel(measure="trace").isnull().all()
    rest = {"measure": ["top eigenvalue", "top eigenvalue * |weights|^2"]}
    assert found.sel(rest).identical(rank_correlations(sweep(), resamples=10).sel(rest))


def test_malformed_questions_are_refused() -> None:
    with pytest.raises(AnalysisError, match="the Dataset has no weights_norm"):
        rank_correlations(sweep().drop_vars("weights_norm"))
    with pytest.raises(AnalysisError, match="resamples is 0"):
        rank_correlations(sweep(), resamples=0)
    with pytest.raises(AnalysisError, match="split is 'x'"):
        rank_correlations(sweep(), split="x")


def test_constant_samples_do_not_warn() -> None:
    ds = sweep()
    ds["class_accuracy"][0, :, 1, 0] = 0.0
    ds["class_accuracy"][0, 0, 1, 0] = 1.0  # most samples lack the one that differs
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isfinite(rank_correlations(ds).low.sel(measure="top eigenvalue", label=0))
