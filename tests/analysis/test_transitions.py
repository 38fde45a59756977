import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

from hesstore import analysis
from hesstore.analysis.refinement import Bracket, brackets_at, refined_l2, strongest_brackets
from hesstore.errors import AnalysisError
from tests.support.analysis_datasets import dataset, random_bases, spectra

L2 = np.round(np.linspace(0, 0.04, 41), 10)
NAN = np.nan


def losses(*at: float, size: float = 0.5, seed: int = 0) -> NDArray[np.float64]:
    """Training losses along λ that rise after each λ of ``at``, as (n, split)."""
    noise = 0.001 * np.random.default_rng(seed).standard_normal(L2.size)
    train = 0.3 + 2 * L2 + noise + size * sum((l2 < L2 for l2 in at), np.zeros(L2.size))
    return np.stack([train, np.ones_like(train)], axis=1)


def store(*runs: tuple[int, str, NDArray[np.float64]]) -> xr.Dataset:
    values = np.stack([series for *_, series in runs])
    norms = np.exp(-values[..., 0])
    return dataset(L2, {"loss": values, "weights_norm": norms}, [(seed, direction) for seed, direction, _ in runs])


def test_transitions_of_one_run() -> None:
    found = analysis.transitions(store((3, "up", losses(0.0145, 0.0255))))
    assert found["run"].values.tolist() == [0, 0]
    assert found["seed"].values.tolist() == [3, 3]
    assert found["run_direction"].values.tolist() == ["up", "up"]
    np.testing.assert_allclose(found["l2_from"], [0.014, 0.025])
    np.testing.assert_allclose(found["l2_to"], [0.015, 0.026])
    assert found["change"].values.tolist() == [
        "rise" if name == "loss" else "fall" for name in found["quantity_name"].values
    ]
    assert (found["strengths"].sel(quantity="loss") > 50).all()
    assert (found["strengths"].sel(quantity="weights_norm") < -50).all()
    np.testing.assert_array_equal(found["strength"], np.abs(found["strengths"].values).max(1))
    assert np.isnan(found["hysteresis"]).all()
    assert (found["runs_found"] == 1).all()
    assert (found["runs_searched"] == 1).all()
    assert found["l2_from"].attrs["long_name"]
    assert not analysis.transitions(store((0, "up", losses()))).sizes["transition"]
    assert not analysis.transitions(store((0, "up", losses(0.0145))), "loss", "test").sizes["transition"]
    assert not analysis.transitions(store((0, "up", losses(0.0145))), threshold=1e7).sizes["transition"]


def test_agreement_of_seeds_and_hysteresis() -> None:
    """Runs up agree where they pass the same loss; the run down is found where it passes it."""
    ds = store(
        (0, "up", losses(0.0145, 0.0255)),
        (1, "up", losses(0.0165, 0.0265, seed=1)),
        (2, "up", losses(0.0155, seed=2)),  # never passes the second change
        (0, "down", losses(0.0065, size=1.0, seed=3)),  # both changes together
    )
    found = analysis.transitions(ds, "loss")
    assert found["run"].values.tolist() == [0, 0, 1, 1, 2, 3]
    assert found["runs_found"].values.tolist() == [3, 2, 3, 2, 3, 1]
    assert found["runs_searched"].values.tolist() == [3, 2, 3, 2, 3, 1]
    np.testing.assert_allclose(found["runs_from"][:5], [0.014, 0.025, 0.014, 0.025, 0.014])
    np.testing.assert_allclose(found["runs_to"][:5], [0.017, 0.027, 0.017, 0.027, 0.017])
    np.testing.assert_allclose(found["hysteresis"][:5], [0.008, 0.019, NAN, NAN, NAN], atol=0.001)
    assert 0 < found["hysteresis"][5] <= 0.02


def test_grid_points_that_are_not_complete_are_left_out() -> None:
    ds = store((0, "up", losses(0.0145)), (1, "up", losses(0.0145, seed=1)))
    status = np.full((2, L2.size), 2)
    status[0, 14:17] = 0, 3, 1
    status[1, 8:] = 0
    found = analysis.transitions(ds.assign(status=(("run", "l2"), status)))
    assert found["run"].values.tolist() == [0]
    np.testing.assert_allclose([found["l2_from"][0], found["l2_to"][0]], [0.013, 0.017])
    assert found["runs_searched"].values.tolist() == [1]
    with pytest.raises(AnalysisError, match="no grid point of the store is complete"):
        analysis.transitions(ds.assign(status=0 * ds["status"]))


def test_quantities_without_values_are_not_searched() -> None:
    ds = store((0, "up", losses(0.0145)))
    ds = ds.assign(weights_norm=NAN * ds["weights_norm"])
    found = analysis.transitions(ds)
    assert found["quantity_name"].values.tolist() == ["loss"]
    assert np.isnan(found["strengths"].sel(quantity="weights_norm")).all()
    nothing = analysis.transitions(ds, "weights_norm")
    assert nothing.sizes["transition"] == 0
    assert nothing["strengths"].dims == ("transition", "quantity")


def test_norms_are_searched_on_a_logarithmic_scale() -> None:
    """A norm that falls by a constant factor from each grid point to the next changes nowhere suddenly."""
    norms = 1000 * 0.5 ** np.arange(40.0) * np.exp(0.01 * np.random.default_rng(0).standard_normal(40))
    ds = dataset(
        np.arange(40.0),
        {"weights_norm": np.stack([norms, np.where(np.arange(40) > 20, norms / 8, norms)])},
        [(0, "up"), (1, "up")],
    )
    found = analysis.transitions(ds, "weights_norm")
    assert found["run"].values.tolist() == [1]
    assert found["l2_from"].item() == 20


def test_the_span_of_the_eigenvectors_turns_suddenly() -> None:
    """Between the grid points 14 and 15 it turns by more than elsewhere."""
    rng = np.random.default_rng(0)
    (base, other) = random_bases(2, 3, 40)
    angle = 0.05 * np.arange(30) + np.where(np.arange(30) > 14, 0.8, 0.0)
    turned = np.cos(angle)[:, None, None] * base + np.sin(angle)[:, None, None] * other
    noisy = turned + 0.002 * rng.standard_normal((30, 3, 40))
    vectors = np.linalg.qr(noisy.swapaxes(1, 2))[0].swapaxes(1, 2)
    ds = spectra(vectors).assign_coords(label=range(4))
    found = analysis.transitions(ds, "overlap")
    np.testing.assert_allclose([found["l2_from"].item(), found["l2_to"].item()], [0.014, 0.015])
    assert found["change"].item() == "rise"


def test_malformed_questions_are_refused() -> None:
    ds = store((0, "up", losses()))
    ds = ds.assign(class_accuracy=ds["loss"].expand_dims(label=3, axis=-1))
    for arguments, message in (
        ({"quantities": "colour"}, "'colour' is not a quantity of this store: choose one such as loss or weights_norm"),
        ({"quantities": "lss"}, "did you mean loss"),
        ({"quantities": ()}, "no quantity is given"),
        ({"quantities": "seed"}, "seed is not a small numeric variable"),
        ({"quantities": "class_accuracy"}, "class_accuracy has the further dimension label"),
        ({"split": "dev"}, "split is 'dev': choose from train, test"),
        ({"threshold": 0}, "threshold is 0: it must be above 0"),
    ):
        with pytest.raises(AnalysisError, match=message):
            analysis.transitions(ds, **arguments)


def test_changes_of_several_quantities_are_one_transition() -> None:
    """The norm changes two gaps later, and has no values above 0.03."""
    ds = store((0, "up", losses(0.0145, 0.0325)))
    norms = np.where(L2 > 0.0165, 0.5, 1.0) * np.exp(0.01 * np.random.default_rng(0).standard_normal(L2.size))
    ds = ds.assign(weights_norm=(("run", "l2"), np.where(L2 > 0.03, NAN, norms)[None]))
    found = analysis.transitions(ds)
    np.testing.assert_allclose(found["l2_from"], [0.014, 0.032])
    assert found["quantity_name"].values.tolist() == ["loss", "loss"]
    of_norm = analysis.transitions(ds, "weights_norm")
    assert of_norm["change"].values.tolist() == ["fall"]
    np.testing.assert_allclose(found["strengths"].sel(quantity="weights_norm"), [-of_norm["strength"].item(), 0])


def test_seeds_that_agree_find_weak_transitions_together() -> None:
    """Neither of two runs has one above the threshold; in opposite directions they do not agree."""
    ds = store((0, "up", losses(0.0145, size=0.015)), (1, "up", losses(0.0145, size=0.015, seed=1)))
    alone = analysis.transitions(ds, "loss", threshold=4)["strength"].values
    threshold = 1.1 * alone.max()
    together = analysis.transitions(ds, "loss", threshold=threshold)
    assert together["run"].values.tolist() == [0, 1]
    np.testing.assert_allclose(together["combined_strength"], alone.sum() / np.sqrt(2))
    assert not analysis.transitions(ds.isel(run=[0]), "loss", threshold=threshold).sizes["transition"]
    mirrored = ds["loss"].values.copy()
    mirrored[1] = 0.69 - mirrored[1]  # it passes the same value
    opposite = ds.assign(loss=(ds["loss"].dims, mirrored))
    assert not analysis.transitions(opposite, "loss", threshold=threshold).sizes["transition"]


@pytest.mark.parametrize("runs", [2, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("trials", [30, pytest.param(150, marks=pytest.mark.slow)])
def test_noise_in_several_runs_has_no_transition(runs: int, trials: int) -> None:
    """Normal and autocorrelated noise around a trend that all runs have in common."""
    rng = np.random.default_rng(runs)
    l2, trend = np.linspace(0, 0.09, 91), np.linspace(0, 2, 91)
    alarms = {0.0: 0, 0.9: 0}
    for rho in alarms:
        for _ in range(trials):
            noise = rng.standard_normal((2, runs, 91))
            for at in range(1, 91):
                noise[..., at] += rho * noise[..., at - 1]
            loss, norm = trend + 0.02 * noise[0], np.exp(-trend + 0.02 * noise[1])
            values = {"loss": np.stack([loss, loss], axis=2), "weights_norm": norm}
            ds = dataset(l2, values, [(seed, "up") for seed in range(runs)])
            alarms[rho] += analysis.transitions(ds).sizes["transition"] > 0
    assert max(alarms.values()) <= 0.05 * trials


def test_the_refined_grid_has_more_points_in_transitions() -> None:
    ds = store((0, "up", losses(0.0145)), (1, "up", losses(0.0255, seed=1)))
    added = set(refined_l2(ds, 3)) - set(L2.tolist())
    assert sorted(added) == [0.01425, 0.0145, 0.01475, 0.02525, 0.0255, 0.02575]
    assert refined_l2(store((0, "up", losses())), 3) == tuple(L2.tolist())
    with pytest.raises(AnalysisError, match="points is 0: it must be at least 1"):
        refined_l2(ds, 0)


def jumping(l2: NDArray[np.float64], *jumps: float) -> xr.Dataset:
    """Two runs, up and down, on any grid, whose loss rises at the λ of ``jumps`` (those of the run down lie lower)."""
    grid = np.asarray(l2)
    noise = 1e-3 * np.sin(1e9 * grid)  # the same at a λ on every grid
    series = np.stack(
        [0.3 + 2 * grid + noise + 0.5 * sum(shift + grid > jump for jump in jumps) for shift in (0.0, 0.003)]
    )
    values = {"loss": np.stack([series, series], axis=2), "weights_norm": np.exp(-series)}
    return dataset(grid, values, [(0, "up"), (0, "down")])


def test_bisection_follows_each_jump_and_ends_with_narrow_brackets() -> None:
    jumps, grid = (0.01437, 0.02561), L2
    for _ in range(20):  # each round, all values anew from the grid alone, as if the command was run again
        brackets = strongest_brackets(jumping(grid, *jumps), 2)
        new = {each.middle for each in brackets if each.width > 1e-7} - set(grid.tolist())
        if not new:
            break
        grid = np.array(sorted({*grid.tolist(), *new}))
    assert [(each.run, each.direction) for each in brackets] == [(0, "up"), (0, "up"), (1, "down"), (1, "down")]
    for each, jump in zip(brackets, (*jumps, *(jump - 0.003 for jump in jumps)), strict=True):
        assert each.l2_from <= jump <= each.l2_to
        assert each.width <= 1e-7
        rise = each.value_to - each.value_from
        assert rise == pytest.approx(0.5, abs=0.01) if each.quantity == "loss" else rise < 0
        assert each.l2_before == (each.l2_from if each.direction == "up" else each.l2_to)
    assert grid.size == L2.size + 4 * 14  # 0.001 / 2^14 < 1e-7: one value for each halving
    alone = strongest_brackets(jumping(grid, *jumps), 1, runs=[1])
    assert len(alone) == 1
    assert alone[0] in brackets


def test_bisection_at_a_given_value() -> None:
    ds = jumping(L2, 0.0252)
    first, second = brackets_at(ds, [0.0259])
    assert first == Bracket(0, "up", "loss", 0.025, 0.026, *ds["loss"][0, [25, 26], 0].values.tolist())
    assert (second.run, second.l2_from) == (1, 0.025)
    assert [each.run for each in brackets_at(ds, [0.04, 0.0], runs=[1], quantity="weights_norm")] == [1, 1]
    for places, runs, message in (
        ([0.041], [], "λ = 0.041 is outside the grid: choose a value from 0 to 0.04"),
        ([0.01], [7], "run 7 does not exist: the runs are 0, 1"),
    ):
        with pytest.raises(AnalysisError, match=message):
            brackets_at(ds, places, runs=runs)
    status = np.full((2, L2.size), 2)
    status[0, 10:] = 0
    with pytest.raises(AnalysisError, match=r"run 0 has no complete grid points on both sides of λ = 0.02"):
        brackets_at(ds.assign(status=(("run", "l2"), status)), [0.02])
    with pytest.raises(AnalysisError, match="count is 0"):
        strongest_brackets(ds, 0)
