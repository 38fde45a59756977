from functools import partial

import numpy as np
import pytest
import scipy.stats
import xarray as xr

from hesstore import analysis
from hesstore.errors import AnalysisError
from tests.support.analysis_datasets import accuracies, counted, curves, dataset, runs_with_onsets

# Most curves below are accuracies made by hand, without the counts from which skill is computed.
transitions = partial(analysis.transitions, quantity="class_accuracy")

L2 = [0.0, 0.01, 0.02, 0.03, 0.04, 0.06]
NAN = np.nan

PERFECT = [[8, 0, 0], [0, 2, 0], [0, 0, 6]]
ONE_ANSWER = [[8, 0, 0], [2, 0, 0], [6, 0, 0]]
MIXED = [[6, 1, 1], [1, 1, 0], [3, 0, 3]]


def test_a_curve_made_by_hand() -> None:
    """Two classes: the chance level is 0.5, so a class is known above 0.6."""
    ds = accuracies(
        L2,
        [curves([0.9, 0.8, 0.7, 0.1, 0.65, 0.0], [0.2, 0.3, 0.4, 0.5, 0.55, 0.6])],
        status=[[2, 2, 3, 2, 2, 2]],  # 0.02 failed: 0.01 and 0.03 are neighbours
    )
    found = transitions(ds).sel(run=0)
    np.testing.assert_array_equal(found.onset, [0.04, NAN])  # 0.6 is not more than 0.6
    np.testing.assert_allclose(found.drop_l2, [0.02, NAN])
    np.testing.assert_array_equal(found.drop_from, [0.01, NAN])
    np.testing.assert_array_equal(found.drop_to, [0.03, NAN])
    np.testing.assert_allclose(found.drop_size, [0.7, 0])  # it never falls
    assert transitions(ds, margin=0.3).onset.values[0, 0] == 0  # 0.8 is not more than 0.8
    assert transitions(ds, split="train").onset.values.tolist() == [[0.06, 0.06]]


def test_classes_without_rows_and_one_grid_point() -> None:
    ds = accuracies(L2[:2], [curves([0.9, 0.2], [NAN, NAN])], status=[[2, 1]])
    found = transitions(ds).sel(run=0)
    np.testing.assert_array_equal(found.onset, [0, NAN])
    assert np.isnan(found.drop_size).all()
    assert found.onset_count.values.tolist() == [[1, 0]]


def test_interval_over_runs_is_students() -> None:
    onsets = [0.01, 0.03, 0.04, 0.02, 0.01]
    found = transitions(runs_with_onsets(L2, onsets)).sel(direction="up", label=0)
    mean, low, high = (found[f"onset_{name}"].item() for name in ("mean", "low", "high"))
    assert mean == pytest.approx(np.mean(onsets))
    expected = scipy.stats.t.interval(0.95, 4, np.mean(onsets), scipy.stats.sem(onsets))
    assert (low, high) == pytest.approx(expected, rel=1e-9)
    assert found.onset_count.item() == 5


@pytest.mark.parametrize("onsets", [[0.02], [0.02, 0.02, 0.02]])
def test_one_run_and_equal_runs_have_no_interval(onsets: list[float]) -> None:
    found = transitions(runs_with_onsets(L2, onsets)).sel(direction="up", label=0)
    assert found.onset_mean.item() == pytest.approx(0.02)
    assert np.isnan([found.onset_low.item(), found.onset_high.item()]).all()


def test_directions_are_summarised_separately() -> None:
    ds = xr.concat([runs_with_onsets(L2, [0.01, 0.03]), runs_with_onsets(L2, [0.04, 0.06], "down")], "run")
    found = transitions(ds.assign_coords(run=range(4)))
    assert found.direction.values.tolist() == ["up", "down"]
    np.testing.assert_allclose(found.onset_mean.sel(label=0), [0.02, 0.05])
    assert found.run_direction.values.tolist() == ["up", "up", "down", "down"]
    assert transitions(runs_with_onsets(L2, [0.01], "down")).direction.values.tolist() == ["down"]


def test_runs_that_never_know_the_class_are_not_counted() -> None:
    found = transitions(runs_with_onsets(L2, [0.01, -1, 0.03])).sel(direction="up", label=0)
    assert found.onset_mean.item() == pytest.approx(0.02)
    assert found.onset_count.item() == 2


def test_other_quantities_are_compared_by_magnitude() -> None:
    mu = np.array([[[-8.0, 2.0], [5.0, -2.0], [-0.5, 2.0], [0.1, 0.1]]])
    ds = dataset([0, 1, 2, 3], {"eigenvalues": mu, "trace": np.array([[NAN] * 4])})
    found = transitions(ds, quantity="eigenvalues")
    assert found.onset.dims == ("run", "mode")
    np.testing.assert_array_equal(found.onset, [[1, 2]])  # above 0.8, and above 0.2
    np.testing.assert_allclose(found.drop_size, [[4.5, 1.9]])
    np.testing.assert_allclose(found.drop_l2, [[1.5, 2.5]])
    assert found.drop_size.attrs["units"] == "nat"
    assert "units" not in found.onset.attrs
    assert np.isnan(transitions(ds, quantity="trace").onset_mean).all()
    assert transitions(ds, quantity="trace").onset.dims == ("run",)


def test_further_dimensions_are_kept_and_the_split_is_chosen() -> None:
    values = np.random.default_rng(0).standard_normal((1, 3, 2, 2, 4))
    ds = dataset([0, 1, 2], {"class_curvature": values})
    found = transitions(ds, quantity="class_curvature", split="train")
    assert found.drop_size.dims == ("run", "mode", "label")
    falls = -np.diff(np.abs(values[0, :, :, 0]), axis=0).min(0)
    np.testing.assert_allclose(found.drop_size[0], np.maximum(falls, 0))


def test_malformed_questions_are_refused() -> None:
    ds = runs_with_onsets(L2, [0.01])
    for arguments, message in (
        ({"quantity": "colour"}, "the Dataset has no colour"),
        ({"quantity": "seed"}, "seed is not a small numeric variable"),
        ({"split": "dev"}, "split is 'dev': choose from train, test"),
        ({"margin": 1.0}, "margin is 1: it must be at least 0 and below 1"),
    ):
        with pytest.raises(AnalysisError, match=message):
            transitions(ds, **arguments)
    with pytest.raises(AnalysisError, match="no grid point of the store is complete"):
        transitions(ds.assign(status=0 * ds.status))


def test_a_network_with_one_answer_knows_no_class() -> None:
    """Its accuracy for one class is 1, although it does not know that class."""
    ds = counted(L2, PERFECT, MIXED, ONE_ANSWER)
    found = analysis.transitions(ds).sel(run=0)
    np.testing.assert_array_equal(found["onset"], [0.01] * 3)
    np.testing.assert_allclose(found["drop_size"], [0.75, 4 / 7, 0.6])
    ds = ds.assign(class_accuracy=ds["confusion"].isel(pred=0, drop=True) * 0 + np.array([1.0, 0, 0]))
    assert transitions(ds)["onset"].sel(run=0, label=0) == 0.02
