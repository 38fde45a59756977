from functools import partial

import numpy as np
import pytest
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from hesstore import analysis
from hesstore.errors import AnalysisError
from tests.support.analysis_datasets import accuracies, counted, curves, runs_with_onsets

hysteresis = partial(analysis.hysteresis, quantity="class_accuracy", margin=0.1)

L2 = [0.0, 0.01, 0.02, 0.03, 0.04, 0.06]
NAN = np.nan


def loop(up: NDArray[np.float64], down: NDArray[np.float64], status: ArrayLike | None = None) -> xr.Dataset:
    return accuracies(L2, np.stack([up, down]), [(4, "up"), (4, "down")], status)


def test_area_of_a_loop() -> None:
    up = curves([1, 1, 1, 1, 0, 0], [0.5] * 6)
    down = curves([1, 1, 0, 0, 0, 0], [0.7, 0.5, 0.5, 0.5, 0.5, 0.3])
    found = hysteresis(loop(up, down)).sel(seed=4)
    # trapezoids of |1, 1, …|: 0.01 to 0.04 with heights 0, 1, 1, 0; then 0.2, 0 and 0, 0.2
    np.testing.assert_allclose(found.area, [0.02, 0.001 + 0.002], atol=1e-12)
    np.testing.assert_allclose(found.signed_area, [0.02, -0.001 + 0.002], atol=1e-12)
    np.testing.assert_allclose(found.width, [0.035 - 0.015, -0.005])
    assert found.width_bound.values.tolist() == ["", "at most"]  # class 1 is never known on the way up
    swapped = hysteresis(loop(down, up)).sel(seed=4)
    np.testing.assert_allclose(swapped.signed_area, -found.signed_area)
    np.testing.assert_allclose(swapped.area, found.area)


def test_loops_use_the_grid_points_of_both_runs() -> None:
    up = curves([1, 1, 1, 1, 0, 0], [NAN] * 6)
    down = curves([1, 1, 0, 0, 0, 0], [NAN] * 6)
    found = hysteresis(loop(up, down, status=[[2, 2, 3, 2, 2, 2], [2, 2, 2, 2, 0, 2]])).sel(seed=4)
    # λ 0, 0.01, 0.03, 0.06 with heights 0, 0, 1, 0
    np.testing.assert_allclose(found.area, [0.5 * 0.02 + 0.5 * 0.03, NAN])
    np.testing.assert_allclose(found.width, [0.045 - 0.02, NAN])


def test_widths_of_classes_that_are_not_lost_are_bounds() -> None:
    """The widest loops: never lost on the way up, never known on the way down."""
    always, half, never = [1.0] * 6, [1.0, 1, 1, 0, 0, 0], [0.0] * 6
    up, down = curves(always, half, always, never, never), curves(half, never, never, always, never)
    found = hysteresis(loop(up, down)).sel(seed=4)
    np.testing.assert_allclose(found.width, [0.06 - 0.025, 0.025 - 0, 0.06, -0.06, NAN])
    assert found.width_bound.values.tolist() == ["at least", "at least", "at least", "at most", ""]


def test_loops_need_both_directions() -> None:
    with pytest.raises(AnalysisError, match="no seed has a run in both directions: sweep with --direction both"):
        hysteresis(runs_with_onsets(L2, [0.01, 0.02]))
    flat = np.ones((6, 2))
    never = [[2, 2, 2, 0, 0, 0], [0, 0, 0, 2, 2, 2]]
    with pytest.raises(AnalysisError, match="no seed has a grid point that is complete in both directions"):
        hysteresis(loop(flat, flat, status=never))
    one = hysteresis(loop(flat, flat, status=[[2, 2, 2, 0, 0, 0], [0, 0, 2, 2, 2, 2]])).sel(seed=4)
    assert np.isnan(one.area).all()
    assert np.isnan(one.width).all()  # never lost in both


def test_only_seeds_with_both_directions_are_compared() -> None:
    runs = [(0, "up"), (1, "up"), (1, "down"), (2, "down")]
    ds = accuracies(L2, np.ones((4, 6, 3)), runs)
    assert hysteresis(ds).seed.values.tolist() == [1]


def test_loops_of_skill() -> None:
    perfect, one_answer = [[8, 0, 0], [0, 2, 0], [0, 0, 6]], [[8, 0, 0], [2, 0, 0], [6, 0, 0]]
    two = counted(L2, perfect, perfect, one_answer, runs=2)
    down = two["confusion"].values.copy()
    down[1, 1] = down[1, 2]
    two = two.assign(confusion=(two["confusion"].dims, down)).assign_coords(
        seed=("run", [0, 0]), direction=("run", np.array(["up", "down"], dtype=object))
    )
    found = analysis.hysteresis(two).sel(seed=0)
    np.testing.assert_allclose(found["area"], 0.01)  # 1 at one of three grid points, trapezoids of width 0.01
    np.testing.assert_allclose(found["width"], 0.01)
    with pytest.raises(AnalysisError, match="quantity is 'loss': choose from class_skill, class_accuracy"):
        analysis.hysteresis(two, quantity="loss")
