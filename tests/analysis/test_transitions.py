from functools import partial

import numpy as np
import pytest
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from hesstore import analysis
from hesstore.analysis import class_skill
from hesstore.errors import AnalysisError
from tests.support.analysis_datasets import accuracies, dataset

# Most curves below are accuracies made by hand, without the counts that skill comes from.
transitions = partial(analysis.transitions, quantity="class_accuracy")
hysteresis = partial(analysis.hysteresis, quantity="class_accuracy")

L2 = [0.0, 0.01, 0.02, 0.03, 0.04, 0.06]
NAN = np.nan


def curves(*classes: list[float]) -> NDArray[np.float64]:
    return np.array(classes).T


def test_a_curve_made_by_hand() -> None:
    """Two classes: chance is 0.5, so a class is there above 0.6."""
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


def test_classes_without_rows_and_one_strength() -> None:
    ds = accuracies(L2[:2], [curves([0.9, 0.2], [NAN, NAN])], status=[[2, 1]])
    found = transitions(ds).sel(run=0)
    np.testing.assert_array_equal(found.onset, [0, NAN])
    assert np.isnan(found.drop_size).all()
    assert found.onset_count.values.tolist() == [[1, 0]]


def runs_with_onsets(onsets: list[float], direction: str = "up") -> xr.Dataset:
    """One class of two is there up to the onset, the other one never."""
    up_to = [np.where(np.array(L2) <= onset, 0.9, 0.1) for onset in onsets]
    runs = [(seed, direction) for seed in range(len(onsets))]
    return accuracies(L2, [np.stack([there, 0 * there], 1) for there in up_to], runs)


def test_bootstrap_over_runs() -> None:
    onsets = [0.01, 0.03, 0.04, 0.02, 0.01]
    ds = runs_with_onsets(onsets)
    found = transitions(ds).sel(direction="up", label=0)
    mean, low, high = (found[f"onset_{name}"].item() for name in ("mean", "low", "high"))
    assert mean == pytest.approx(np.mean(onsets))
    assert min(onsets) <= low < mean < high <= max(onsets)
    # the bootstrap distribution itself: all 5⁵ samples
    samples = np.array(np.meshgrid(*[onsets] * 5)).reshape(5, -1).mean(0)
    assert low == pytest.approx(np.quantile(samples, 0.025), abs=0.0015)
    assert high == pytest.approx(np.quantile(samples, 0.975), abs=0.0015)
    assert found.onset_count.item() == 5
    xr.testing.assert_identical(transitions(ds), transitions(ds))
    assert not transitions(ds, resamples=20).identical(transitions(ds, resamples=20, seed=1))


def test_interval_of_equal_runs_is_a_point_and_of_one_run_is_nan() -> None:
    found = transitions(runs_with_onsets([0.02, 0.02, 0.02])).sel(direction="up", label=0)
    for name in ("onset", "drop_l2", "drop_size"):
        values = [found[f"{name}_{part}"].item() for part in ("mean", "low", "high")]
        np.testing.assert_allclose(values, values[0])
    one = transitions(runs_with_onsets([0.02])).sel(direction="up", label=0)
    assert one.onset_mean.item() == 0.02
    assert np.isnan([one.onset_low.item(), one.onset_high.item()]).all()


def test_directions_are_apart() -> None:
    ds = xr.concat([runs_with_onsets([0.01, 0.03]), runs_with_onsets([0.04, 0.06], "down")], "run")
    found = transitions(ds.assign_coords(run=range(4)))
    assert found.direction.values.tolist() == ["up", "down"]
    np.testing.assert_allclose(found.onset_mean.sel(label=0), [0.02, 0.05])
    assert found.run_direction.values.tolist() == ["up", "up", "down", "down"]
    assert transitions(runs_with_onsets([0.01], "down")).direction.values.tolist() == ["down"]


def test_runs_without_the_class_do_not_count() -> None:
    found = transitions(runs_with_onsets([0.01, -1, 0.03])).sel(direction="up", label=0)
    assert found.onset_mean.item() == pytest.approx(0.02)
    assert found.onset_count.item() == 2


def test_other_quantities_by_magnitude() -> None:
    mu = np.array([[[-8.0, 2.0], [5.0, -2.0], [-0.5, 2.0], [0.1, 0.1]]])
    ds = dataset([0, 1, 2, 3], {"eigenvalues": mu, "trace": np.array([[NAN] * 4])})
    found = transitions(ds, quantity="eigenvalues")
    assert found.onset.dims == ("run", "mode")
    np.testing.assert_array_equal(found.onset, [[1, 2]])  # above 0.8, and above 0.2
    np.testing.assert_allclose(found.drop_size, [[4.5, 1.9]])
    np.testing.assert_allclose(found.drop_l2, [[1.5, 2.5]])
    assert found.drop_size.attrs["units"] == "nat"
    assert found.onset.attrs["units"] == "1"
    assert np.isnan(transitions(ds, quantity="trace").onset_mean).all()
    assert transitions(ds, quantity="trace").onset.dims == ("run",)


def test_extra_dimensions_stay_and_the_split_is_chosen() -> None:
    values = np.random.default_rng(0).standard_normal((1, 3, 2, 2, 4))
    ds = dataset([0, 1, 2], {"class_curvature": values})
    found = transitions(ds, quantity="class_curvature", split="train")
    assert found.drop_size.dims == ("run", "mode", "label")
    falls = -np.diff(np.abs(values[0, :, :, 0]), axis=0).min(0)
    np.testing.assert_allclose(found.drop_size[0], np.maximum(falls, 0))


def test_what_transitions_refuse() -> None:
    ds = runs_with_onsets([0.01])
    for arguments, message in (
        ({"quantity": "colour"}, "the Dataset has no colour"),
        ({"quantity": "seed"}, "seed is not a small number"),
        ({"split": "dev"}, "split is 'dev': choose from train, test"),
        ({"margin": 1.0}, "margin is 1: it must be at least 0 and below 1"),
        ({"resamples": 0}, "resamples is 0"),
    ):
        with pytest.raises(AnalysisError, match=message):
            transitions(ds, **arguments)
    with pytest.raises(AnalysisError, match="no λ of any run is complete"):
        transitions(ds.assign(status=0 * ds.status))


def loop(up: NDArray[np.float64], down: NDArray[np.float64], status: ArrayLike | None = None) -> xr.Dataset:
    return accuracies(L2, np.stack([up, down]), [(4, "up"), (4, "down")], status)


def test_area_of_a_loop() -> None:
    up = curves([1, 1, 1, 1, 0, 0], [0.5] * 6)
    down = curves([1, 1, 0, 0, 0, 0], [0.7, 0.5, 0.5, 0.5, 0.5, 0.3])
    found = hysteresis(loop(up, down)).sel(seed=4)
    # trapezoids of |1, 1, …|: 0.01 to 0.04 with heights 0, 1, 1, 0; then 0.2, 0 and 0, 0.2
    np.testing.assert_allclose(found.area, [0.02, 0.001 + 0.002], atol=1e-12)
    np.testing.assert_allclose(found.signed_area, [0.02, -0.001 + 0.002], atol=1e-12)
    np.testing.assert_allclose(found.width, [0.03 - 0.01, NAN])
    swapped = hysteresis(loop(down, up)).sel(seed=4)
    np.testing.assert_allclose(swapped.signed_area, -found.signed_area)
    np.testing.assert_allclose(swapped.area, found.area)


def test_loops_use_what_both_ways_have() -> None:
    up = curves([1, 1, 1, 1, 0, 0], [NAN] * 6)
    down = curves([1, 1, 0, 0, 0, 0], [NAN] * 6)
    found = hysteresis(loop(up, down, status=[[2, 2, 3, 2, 2, 2], [2, 2, 2, 2, 0, 2]])).sel(seed=4)
    # λ 0, 0.01, 0.03, 0.06 with heights 0, 0, 1, 0
    np.testing.assert_allclose(found.area, [0.5 * 0.02 + 0.5 * 0.03, NAN])
    np.testing.assert_allclose(found.width, [0.03 - 0.01, NAN])


def test_loops_need_both_directions() -> None:
    with pytest.raises(AnalysisError, match="no seed has a run in both directions: sweep with --direction both"):
        hysteresis(runs_with_onsets([0.01, 0.02]))
    flat = np.ones((6, 2))
    never = [[2, 2, 2, 0, 0, 0], [0, 0, 0, 2, 2, 2]]
    with pytest.raises(AnalysisError, match="no λ is complete both up and down"):
        hysteresis(loop(flat, flat, status=never))
    one = hysteresis(loop(flat, flat, status=[[2, 2, 2, 0, 0, 0], [0, 0, 2, 2, 2, 2]])).sel(seed=4)
    assert np.isnan(one.area).all()
    np.testing.assert_array_equal(one.width, 0)


def test_only_seeds_with_both_are_compared() -> None:
    runs = [(0, "up"), (1, "up"), (1, "down"), (2, "down")]
    ds = accuracies(L2, np.ones((4, 6, 3)), runs)
    assert hysteresis(ds).seed.values.tolist() == [1]


def counted(*matrices: ArrayLike, runs: int = 1) -> xr.Dataset:
    """Test confusion counts at as many λ; on the training set nothing is confused."""
    test = np.array(matrices)
    rows = test[0].sum(1)
    train = np.broadcast_to(np.diag(rows), test.shape)
    counts = np.stack([train, test], axis=1)[None].repeat(runs, 0)
    return dataset(L2[: len(test)], {"confusion": counts}, [(seed, "up") for seed in range(runs)])


PERFECT = [[8, 0, 0], [0, 2, 0], [0, 0, 6]]
ONE_ANSWER = [[8, 0, 0], [2, 0, 0], [6, 0, 0]]
MIXED = [[6, 1, 1], [1, 1, 0], [3, 0, 3]]


def test_skill_by_hand() -> None:
    ds = counted(PERFECT, MIXED, ONE_ANSWER)
    found = class_skill(ds)["class_skill"].sel(run=0)
    np.testing.assert_allclose(found[0], 1)
    np.testing.assert_allclose(found[1], [6 / 8 - 4 / 8, 1 / 2 - 1 / 14, 3 / 6 - 1 / 10])
    np.testing.assert_array_equal(found[2], 0)
    np.testing.assert_array_equal(class_skill(ds, "train")["class_skill"], 1)


def test_one_answer_to_everything_knows_no_class() -> None:
    """Its accuracy for one class is 1, which is no reason to say that the class is there."""
    ds = counted(PERFECT, MIXED, ONE_ANSWER)
    found = analysis.transitions(ds).sel(run=0)
    np.testing.assert_array_equal(found["onset"], [0.01] * 3)
    np.testing.assert_allclose(found["drop_size"], [0.75, 4 / 7, 0.6])
    ds = ds.assign(class_accuracy=ds["confusion"].isel(pred=0, drop=True) * 0 + np.array([1.0, 0, 0]))
    assert transitions(ds)["onset"].sel(run=0, label=0) == 0.02


def test_skill_without_rows_of_a_class_and_loops_of_it() -> None:
    ds = counted([[4, 0, 0], [0, 0, 0], [0, 0, 4]], runs=2)
    np.testing.assert_array_equal(class_skill(ds)["class_skill"].isel(run=0, l2=0), [1, np.nan, 1])
    with pytest.raises(AnalysisError, match="the test split has rows of one class alone, and skill compares classes"):
        class_skill(counted([[0, 0, 0], [1, 0, 3], [0, 0, 0]]))
    two = counted(PERFECT, PERFECT, ONE_ANSWER, runs=2)
    down = two["confusion"].values.copy()
    down[1, 1] = down[1, 2]
    two = two.assign(confusion=(two["confusion"].dims, down)).assign_coords(
        seed=("run", [0, 0]), direction=("run", np.array(["up", "down"], dtype=object))
    )
    found = analysis.hysteresis(two).sel(seed=0)
    np.testing.assert_allclose(found["area"], 0.01)  # 1 at one λ of three, trapezoids of width 0.01
    np.testing.assert_allclose(found["width"], 0.01)
    with pytest.raises(AnalysisError, match="quantity is 'loss': choose from class_skill, class_accuracy"):
        analysis.hysteresis(two, quantity="loss")
