import numpy as np
import pytest

from hesstore.analysis import complete, overlap, track
from hesstore.errors import AnalysisError
from tests.support.analysis_datasets import accuracies, random_bases, spectra

GAPS = [2, 0, 1, 2, 3]


def test_complete_selects_the_complete_grid_points_of_one_run() -> None:
    curves = np.arange(20.0).reshape(2, 5, 2) / 20
    ds = accuracies([0, 0.1, 0.2, 0.3, 0.4], curves, [(7, "up"), (7, "down")], [[2] * 5, GAPS])
    part = complete(ds, run=1)
    assert "run" not in part.dims
    assert part.l2.values.tolist() == [0, 0.3]
    assert part.direction.item() == "down"
    np.testing.assert_array_equal(part.class_accuracy.sel(split="test"), curves[1, [0, 3]])
    assert complete(ds).sizes["l2"] == 5


def test_complete_without_gaps_does_not_copy() -> None:
    ds = spectra(random_bases(4, 2, 9), status=[0, 2, 2, 3])
    part = complete(ds)
    assert part.sizes["l2"] == 2
    assert np.shares_memory(part.eigenvectors.values, ds.eigenvectors.values)


def test_nothing_to_select() -> None:
    ds = accuracies([0, 0.1], np.ones((1, 2, 2)), status=[[0, 3]])
    with pytest.raises(AnalysisError, match="run 0 has no complete grid point: run the sweep first"):
        complete(ds)
    with pytest.raises(AnalysisError, match="run 3 is not in the store: choose from 0"):
        complete(ds, run=3)
    with pytest.raises(AnalysisError, match="no dimension run"):
        complete(ds.isel(run=0))
    with pytest.raises(AnalysisError, match="the Dataset has no eigenvectors, eigenvalues"):
        track(ds)
    with pytest.raises(AnalysisError, match="the Dataset has no status"):
        complete(ds.drop_vars("status"))


def test_grid_points_are_found_despite_rounding() -> None:
    ds = spectra(random_bases(4, 2, 9), l2=[0.1, 0.2, 0.3, 0.4], status=[2, 2, 2, 0])
    assert overlap(ds, 0.1 + 0.2, 0.3).overlap.item() == pytest.approx(1)
    for missing in (0.4, 0.21):
        with pytest.raises(
            AnalysisError, match=rf"λ = {missing} is not one of the 3 complete grid points of run 0: try 0\.[23]"
        ):
            overlap(ds, 0.1, missing)
    with pytest.raises(AnalysisError, match="λ = nan"):
        overlap(ds, 0.1, np.nan)


@pytest.mark.parametrize("k", [0, -1, 3])
def test_k_is_checked(k: int) -> None:
    ds = spectra(random_bases(2, 2, 9))
    with pytest.raises(AnalysisError, match=f"k = {k}, but the store has 2 modes: choose from 1 to 2"):
        track(ds, k=k)
