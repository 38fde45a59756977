from functools import partial

import numpy as np
import pytest
import scipy
import xarray as xr

from hesstore import analysis
from hesstore.errors import AnalysisError
from tests.support.analysis_datasets import accuracies, counted, curves, runs_with_onsets

# Most curves below are accuracies made by hand, without the counts from which skill is computed.
lost_classes = partial(analysis.lost_classes, quantity="class_accuracy", margin=0.1)

L2 = [0.0, 0.01, 0.02, 0.03, 0.04, 0.06]
NAN = np.nan

PERFECT = [[8, 0, 0], [0, 2, 0], [0, 0, 6]]
ONE_ANSWER = [[8, 0, 0], [2, 0, 0], [6, 0, 0]]
MIXED = [[6, 1, 1], [1, 1, 0], [3, 0, 3]]


def test_a_curve_made_by_hand() -> None:
    """Three classes: the chance level is 1/3, so a class is known above 0.433."""
    ds = accuracies(
        L2,
        [curves([0.9, 0.8, 0.7, 0.1, 0.2, 0.0], [0.9, 0.9, 0, 0.8, 0.7, 0.6], [0.2, 0.3, 0.4, 0.41, 0.42, 0.43])],
        status=[[2, 2, 3, 2, 2, 2]],  # 0.02 failed: 0.01 and 0.03 are neighbours
    )
    found = lost_classes(ds).sel(run=0)
    np.testing.assert_allclose(found["lost_l2"], [0.02, NAN, NAN])
    np.testing.assert_allclose(found["lost_from"], [0.01, NAN, NAN])
    np.testing.assert_allclose(found["lost_to"], [0.03, NAN, NAN])
    assert found["crossings"].values.tolist() == [1, 0, 0]
    assert found["censored"].values.tolist() == ["", "never lost", "lost before the first grid point"]
    assert lost_classes(ds, margin=0.5)["lost_from"].values[0, 0] == 0  # 0.8 is not more than 0.833
    assert (lost_classes(ds, split="train")["censored"] == "never lost").all()
    assert found["lost_l2"].attrs["long_name"]


def test_a_late_flicker_is_not_the_loss() -> None:
    l2 = np.linspace(0, 0.09, 91)
    skill = np.where(l2 < 0.0295, 0.9, 0.0)
    skill[[10, 60, 75]] = 0.0, 0.8, 0.9
    ds = accuracies(l2, [np.stack([skill, 0 * skill], 1)])
    found = lost_classes(ds).sel(run=0, label=0)
    assert found["lost_l2"].item() == pytest.approx(0.0295)
    assert 0.025 < found["low"].item() <= 0.029
    assert 0.03 <= found["high"].item() < 0.034
    assert found["crossings"].item() == 7


def test_intervals_are_open_at_the_ends_of_the_grid() -> None:
    found = lost_classes(accuracies(L2, [curves([0.9] * 6, [0.9] + [0.0] * 5)])).sel(run=0)
    assert found["low"].values[0] == 0.06
    assert np.isnan(found["high"].values[0])
    assert np.isnan(found["low"].values[1])


def test_classes_without_rows_and_one_grid_point() -> None:
    ds = accuracies(L2[:2], [curves([0.9, 0.2], [NAN, NAN])], status=[[2, 1]])
    found = lost_classes(ds).sel(run=0)
    assert np.isnan(found["lost_l2"]).all()
    assert found["censored"].values.tolist() == ["never lost", "no values"]


def test_mean_over_runs() -> None:
    ds = runs_with_onsets(L2, [0.01, 0.03, 0.04, 0.02, 0.01])
    found = lost_classes(ds).sel(direction="up", label=0)
    mean, low, high = (found[f"lost_l2_mean{end}"].item() for end in ("", "_low", "_high"))
    middles = [0.015, 0.035, 0.05, 0.025, 0.015]
    expected = scipy.stats.t.interval(0.95, 4, np.mean(middles), scipy.stats.sem(middles))
    half_gap = np.mean([0.01, 0.01, 0.02, 0.01, 0.01]) / 2
    np.testing.assert_allclose([mean, low, high], [np.mean(middles), expected[0] - half_gap, expected[1] + half_gap])
    assert found["count"].item() == 5
    one = lost_classes(runs_with_onsets(L2, [0.02])).sel(direction="up", label=0)
    assert one["lost_l2_mean"].item() == 0.025
    assert np.isnan([one["lost_l2_mean_low"].item(), one["lost_l2_mean_high"].item()]).all()


@pytest.mark.parametrize("runs", [2, 4])
def test_the_interval_of_the_mean_covers_it(runs: int) -> None:
    """Losses are normal around a mean, and known only to lie between two grid points."""
    grid = np.linspace(0, 0.1, 51)
    rng = np.random.default_rng(runs)
    covered = []
    for _ in range(20):
        true = rng.uniform(0.04, 0.06)
        known = np.stack([grid < each for each in rng.normal(true, 0.005, (runs * 4, 1))])
        curve = np.where(known, 0.9, 0.0).reshape(4, runs, -1).transpose(1, 2, 0)
        found = lost_classes(accuracies(grid, curve, [(seed, "up") for seed in range(runs)])).sel(direction="up")
        has_interval = np.isfinite(found["lost_l2_mean_low"].values)  # equal values have none
        covers = (found["lost_l2_mean_low"] <= true) & (true <= found["lost_l2_mean_high"])
        covered += covers.values[has_interval].tolist()
    assert len(covered) > 40
    assert np.mean(covered) >= 0.93


def test_a_mean_with_censored_runs_is_unknown() -> None:
    found = lost_classes(runs_with_onsets(L2, [0.01, -1, 0.03])).sel(direction="up", label=0)
    assert np.isnan([found[f"lost_l2_mean{end}"].item() for end in ("", "_low", "_high")]).all()


def test_directions_are_summarised_separately() -> None:
    ds = xr.concat([runs_with_onsets(L2, [0.01, 0.03]), runs_with_onsets(L2, [0.02, 0.04], "down")], "run")
    found = lost_classes(ds.assign_coords(run=range(4)))
    assert found["direction"].values.tolist() == ["up", "down"]
    np.testing.assert_allclose(found["lost_l2_mean"].sel(label=0), [0.025, 0.0375])
    assert found["run_direction"].values.tolist() == ["up", "up", "down", "down"]
    assert lost_classes(runs_with_onsets(L2, [0.01], "down"))["direction"].values.tolist() == ["down"]


def test_a_network_with_one_answer_knows_no_class() -> None:
    """Its accuracy for one class is 1, although it does not know that class."""
    ds = counted(L2, PERFECT, MIXED, ONE_ANSWER)
    found = analysis.lost_classes(ds).sel(run=0)
    np.testing.assert_array_equal(found["lost_from"], [0, 0.01, 0.01])  # 0.25 is not above 0.25
    ds = ds.assign(class_accuracy=ds["confusion"].isel(pred=0, drop=True) * 0 + np.array([1.0, 0, 0]))
    assert lost_classes(ds)["censored"].sel(run=0, label=0) == "never lost"


def test_malformed_questions_are_refused() -> None:
    ds = runs_with_onsets(L2, [0.01])
    for arguments, message in (
        ({"quantity": "loss"}, "quantity is 'loss': choose from class_skill, class_accuracy"),
        ({"split": "dev"}, "split is 'dev': choose from train, test"),
        ({"margin": 1.0}, "margin is 1: it must be at least 0 and below 1"),
    ):
        with pytest.raises(AnalysisError, match=message):
            lost_classes(ds, **arguments)
    with pytest.raises(AnalysisError, match="no grid point of the store is complete"):
        lost_classes(ds.assign(status=0 * ds.status))
