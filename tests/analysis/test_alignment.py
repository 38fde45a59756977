"""Alignment and sharpness of given gradients and Hessians."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import xarray as xr

from hesstore.analysis import alignment, sharpness
from hesstore.errors import AnalysisError
from tests.support.analysis_datasets import Classes

WEIGHTS = 2.5


@pytest.fixture(scope="module")
def classes() -> Classes:
    return Classes()


@pytest.fixture(scope="module")
def ds(classes: Classes) -> xr.Dataset:
    norms = np.linalg.norm(classes.gradients, axis=-1)
    units = classes.gradients / norms[..., None]
    units[:, 1, 2] = norms[:, 1, 2] = np.nan  # the class without test rows
    more = {"class_gradient_norm": norms, "class_gradient_cosine": units @ units.swapaxes(-1, -2)}
    names = {"class_gradient_norm": ("split", "label"), "class_gradient_cosine": ("split", "label", "other")}
    ds = classes.ds.assign({name: (("run", "l2", *names[name]), values[None]) for name, values in more.items()})
    return ds.assign(weights_norm=(("run", "l2"), np.full((1, 5), WEIGHTS)))


@pytest.mark.parametrize(("split", "index", "rows"), [("train", 0, [0, 1, 2, 3]), ("test", 1, [0, 1, 3])])
def test_spans_are_compared_without_reading_vectors(
    classes: Classes, ds: xr.Dataset, split: str, index: int, rows: list[int]
) -> None:
    found = alignment(ds, split=split, k=4)
    for at in range(5):
        gradients = classes.gradients[at, index, rows]
        angles = scipy.linalg.subspace_angles(classes.vectors[at].T, gradients.T)[::-1]
        known = found["principal_angle"][at].values[: len(rows)]
        np.testing.assert_allclose(known, angles, atol=1e-6)
        assert np.isnan(found["principal_angle"][at].values[len(rows) :]).all()
        assert float(found["overlap"][at]) == pytest.approx(np.mean(np.cos(angles) ** 2))
        shares = np.square(gradients @ classes.vectors[at].T).sum(1) / np.square(gradients).sum(1)
        np.testing.assert_allclose(found["share"][at, rows], shares)
    assert (found["rank"] == len(rows)).all()
    assert np.isnan(found["share"].isel(label=2)).all() == (split == "test")
    assert alignment(ds).sizes["angle"] == 3  # classes − 1


def test_dependent_gradients_span_less(ds: xr.Dataset) -> None:
    equal = ds.assign(class_gradient_cosine=ds["class_gradient_cosine"] * 0 + 1)
    assert (alignment(equal)["rank"] == 1).all()
    lacking = ds.copy(deep=True)
    lacking["class_slope"][0, 1, 2] = np.nan  # a mode that was not found
    found = alignment(lacking)
    assert np.isnan(found["overlap"].values).tolist() == [False, True, False, False, False]


def test_sharpness_does_not_change_with_the_scale_of_the_weights(classes: Classes, ds: xr.Dataset) -> None:
    """If the loss depends on θ/s alone, its gradients are 1/s, its Hessians 1/s² and θ is s times as large."""
    s = 7.0
    scaled = ds.assign(
        weights_norm=ds["weights_norm"] * s,
        class_slope=ds["class_slope"] / s,
        eigenvalues=ds["eigenvalues"] / s**2,
    )
    one, other = sharpness(ds, radius=0.2), sharpness(scaled, radius=0.2)
    xr.testing.assert_allclose(one.drop_vars("step_length"), other.drop_vars("step_length"))
    np.testing.assert_allclose(other["step_length"], s * one["step_length"])
    gradient = np.einsum("c,lcp->lp", classes.shares[0], classes.gradients[:, 0])
    for at in range(5):
        steps = np.concatenate([-classes.vectors[at], classes.vectors[at]]) * 0.2 * WEIGHTS
        rises = steps @ gradient[at] + np.einsum("kp,pq,kq->k", steps, classes.hessian[at], steps) / 2
        assert float(one["sharpness"][at]) == pytest.approx(rises.max())


def test_missing_pairs_and_malformed_questions(ds: xr.Dataset) -> None:
    lacking = ds.copy(deep=True)
    lacking["eigenvalues"][0, 3] = lacking["class_slope"][0, 3] = np.nan
    found = sharpness(lacking).isel(l2=3)
    assert np.isnan(found["sharpness"])
    assert (int(found["mode"]), int(found["sign"])) == (-1, 0)
    with pytest.raises(AnalysisError, match="radius = -1"):
        sharpness(ds, radius=-1)
    with pytest.raises(AnalysisError, match="k = 5, but the store has 4 modes"):
        alignment(ds, k=5)
    with pytest.raises(AnalysisError, match="split is 'x'"):
        alignment(ds, split="x")
