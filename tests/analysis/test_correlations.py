import warnings

import numpy as np
import pytest
import scipy.stats
import xarray as xr

from hesstore.analysis import rank_correlations, rank_intervals
from hesstore.errors import AnalysisError
from tests.support.analysis_datasets import dataset

COUNT = 40


def sweep(seed: int = 0, count: int = COUNT) -> xr.Dataset:
    """Accuracies in hundredths, so that there are ties; class 2 is constant, class 3 has no rows; there is no trace."""
    rng = np.random.default_rng(seed)
    by_class = np.round(rng.uniform(size=(1, count, 2, 4)), 1)
    by_class[..., 2], by_class[..., 3] = 0.5, np.nan
    values = {
        "eigenvalues": rng.uniform(-0.5, 1, (1, count, 3)) + np.eye(3)[0],
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
    found = rank_correlations(sweep(count=count)).sel(measure="top eigenvalue")
    assert np.isfinite(found.overall_correlation.item()) == (count == 3)
    assert np.isnan(found.overall_low.item())


def test_interval_is_that_of_a_jackknife() -> None:
    """Each of six blocks is left out once, and the rest is ranked again by scipy."""
    rng = np.random.default_rng(8)
    a, b = np.round(rng.standard_normal((2, 40)).cumsum(1) * 0.3 + rng.standard_normal((2, 40)), 1)
    assert rank_intervals.num_blocks(*map(scipy.stats.rankdata, (a, b))) == 6
    rho, low, high = rank_intervals.rank_correlation(a, b)
    assert rho == pytest.approx(scipy.stats.spearmanr(a, b).statistic, abs=1e-12)
    blocks = np.array_split(np.arange(40), 6)
    without = [scipy.stats.spearmanr(np.delete(a, block), np.delete(b, block)).statistic for block in blocks]
    pseudo_values = 6 * np.arctanh(rho) - 5 * np.arctanh(without)
    error = np.sqrt(sum(np.diff(pseudo_values) ** 2) / 5 / 12)
    reach = scipy.stats.t.ppf(0.975, 50 / 14) * error
    assert (low, high) == pytest.approx(tuple(np.tanh(np.arctanh(rho) + np.array([-reach, reach]))), abs=1e-9)


def test_similar_neighbours_need_longer_blocks() -> None:
    rng = np.random.default_rng(3)
    white = rng.standard_normal((2, 400))
    smooth = np.array([np.convolve(series, np.ones(12), "same") for series in white])
    blocks = [rank_intervals.num_blocks(*map(scipy.stats.rankdata, pair)) for pair in (white, smooth)]
    assert blocks[0] == 12 > blocks[1]
    waves = np.sin(np.linspace(0, 9, 400)), np.cos(np.linspace(0, 9, 400))  # as smooth as very persistent noise
    assert rank_intervals.num_blocks(*map(scipy.stats.rankdata, waves)) == 0


def test_monotone_series_have_no_interval() -> None:
    """Their ρ is ±1 whatever is left out, which shows no spread, and says nothing about other runs."""
    x = np.linspace(0, 1, COUNT)
    rho, low, high = rank_intervals.rank_correlation(x, -(x**3))
    assert rho == pytest.approx(-1)
    assert np.isnan([low, high]).all()


def test_one_large_value_does_not_warn() -> None:
    ds = sweep()
    ds["class_accuracy"][0, :, 1, 0] = 0.0
    ds["class_accuracy"][0, 0, 1, 0] = 1.0  # without it, the series is constant
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = rank_correlations(ds).sel(measure="top eigenvalue", label=0)
    assert np.isfinite(found.correlation)
    assert np.isnan(found.low)


@pytest.mark.parametrize("which", ["LM", "LA", "SA"])
def test_top_eigenvalue_is_the_largest_or_unknown(which: str) -> None:
    """The largest of the smallest eigenvalues is the k-th smallest; largest magnitudes may all be negative."""
    ds = sweep().assign_attrs(identity=f'{{"which": "{which}"}}')
    ds["eigenvalues"][0, 7] = [-3, -2, -1]
    top = ds.eigenvalues.values[0].max(1)
    if which == "LM":
        top[top < 0] = np.nan
    expected = scipy.stats.spearmanr(top, ds.accuracy.values[0, :, 1], nan_policy="omit").statistic
    found = rank_correlations(ds).overall_correlation.sel(measure="top eigenvalue").item()
    assert found == pytest.approx(np.nan if which == "SA" else expected, abs=1e-12, nan_ok=True)


def test_without_a_trace() -> None:
    """A sweep without probes does not record it."""
    found = rank_correlations(sweep().drop_vars("trace"))
    assert found["correlation"].sel(measure="trace").isnull().all()
    rest = {"measure": ["top eigenvalue", "top eigenvalue * |weights|^2"]}
    assert found.sel(rest).identical(rank_correlations(sweep()).sel(rest))


def test_malformed_questions_are_refused() -> None:
    with pytest.raises(AnalysisError, match="the Dataset has no weights_norm"):
        rank_correlations(sweep().drop_vars("weights_norm"))
    with pytest.raises(AnalysisError, match="split is 'x'"):
        rank_correlations(sweep(), split="x")
