import numpy as np
import pytest

from hesstore.analysis import sensitivity
from hesstore.errors import AnalysisError
from tests.support.analysis_datasets import Classes


@pytest.fixture(scope="module")
def classes() -> Classes:
    return Classes()


def test_shares_of_the_training_curvature(classes: Classes) -> None:
    """Σ_c π_c vᵀH_c v = μ, with the dense Hessians."""
    found = sensitivity(classes.ds)
    part = np.einsum("c,lkp,lcpq,lkq->lkc", classes.shares[0], classes.vectors, classes.hessians[:, 0], classes.vectors)
    np.testing.assert_allclose(found.curvature, part, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.curvature_share, part / classes.eigenvalues[..., None], rtol=1e-9)
    np.testing.assert_allclose(found.curvature_share.sum("label"), 1, rtol=1e-9)


def test_identity_error_is_relative_to_each_eigenvalue(classes: Classes) -> None:
    """An error that is small relative to the first eigenvalue can be large relative to another one."""
    ds = classes.ds.copy(deep=True)
    ds["eigenvalues"][0, 1] *= [1, 1, 1, 1.02]
    ds["eigenvalues"][0, 2, 3] = 0
    error = sensitivity(ds)["identity_error"]
    assert error.dims == ("l2", "mode")
    np.testing.assert_allclose(error[1], [0, 0, 0, 0.02 / 1.02], atol=1e-9)
    assert np.isnan(error.values[2]).tolist() == [False, False, False, True]
    assert "identity_error" not in sensitivity(ds, split="test")
    subset = sensitivity(ds.assign_attrs(identity='{"hessian_samples": 20}'))
    assert np.isnan(subset["identity_error"]).all()
    assert np.isfinite(subset["curvature"]).all()


@pytest.mark.parametrize(("split", "index"), [("train", 0), ("test", 1)])
def test_slopes_sum_to_that_of_the_split(classes: Classes, split: str, index: int) -> None:
    found = sensitivity(classes.ds, split=split)
    gradient = np.einsum("c,lcp->lp", classes.shares[index], classes.gradients[:, index])
    expected = np.einsum("lkp,lp->lk", classes.vectors, gradient)
    np.testing.assert_allclose(found.slope.sum("label"), expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.slope_share.sum("label"), 1, rtol=1e-9)
    np.testing.assert_allclose(found.curvature_share.sum("label"), 1, rtol=1e-9)
    total = abs(found.slope).sum("label")
    np.testing.assert_allclose(found.slope_share, (abs(found.slope) / total).transpose("l2", "mode", "label"))
    assert (found.slope_share.fillna(0) >= 0).all()


def test_classes_without_rows_are_nan(classes: Classes) -> None:
    found = sensitivity(classes.ds, split="test")
    for name in ("curvature", "curvature_share", "slope_share", "slope", "response"):
        assert found[name].dims == ("l2", "mode", "label")
        assert np.isnan(found[name].sel(label=2)).all()
        assert np.isfinite(found[name].sel(label=[0, 1, 3])).all()


def test_response_is_the_mean_over_both_ways(classes: Classes) -> None:
    expected = classes.response.mean(2)
    for split in ("train", "test"):
        np.testing.assert_allclose(sensitivity(classes.ds, split=split).response, expected)


def test_gaps(classes: Classes) -> None:
    ds = classes.ds.copy(deep=True)
    ds["status"][0, 1] = 3
    ds["class_curvature"][0, 0, 3] = np.nan  # a mode that was not found
    ds["class_slope"][0, 0, 3] = np.nan
    ds["class_slope"][0, 2, 0] = 0.0
    ds["class_curvature"][0, 2, 0, 0] = [4, -1, 0, 0]  # of 5, 20, 8 and 7 rows: the sum is 0
    found = sensitivity(ds)
    assert found.l2.values.tolist() == pytest.approx([0, 0.02, 0.03, 0.04])
    assert np.isnan(found.curvature_share[0, 3]).all()
    assert np.isnan(found.slope_share.sel(l2=0.02)[0]).all()  # no slope to share
    assert np.isnan(found.curvature_share.sel(l2=0.02)[0]).all()
    np.testing.assert_allclose(found.curvature.sel(l2=0.02)[0], [0.5, -0.5, 0, 0])  # the parts are not lost
    assert set(found.dims) == {"l2", "mode", "label"}


def test_stores_without_responses(classes: Classes) -> None:
    found = sensitivity(classes.ds.drop_vars("class_response"))
    assert "response" not in found
    assert found.identical(sensitivity(classes.ds).drop_vars("response"))


def test_malformed_questions_are_refused(classes: Classes) -> None:
    with pytest.raises(AnalysisError, match="the Dataset has no class_slope: pass a whole store"):
        sensitivity(classes.ds.drop_vars("class_slope"))
    with pytest.raises(AnalysisError, match="split is 'all'"):
        sensitivity(classes.ds, split="all")
