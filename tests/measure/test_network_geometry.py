"""What is computed from gradients by class and from logits, against dense matrices of a small network."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.linalg
import torch
import xarray as xr
from torch import Tensor, nn

import hesstore
from hesstore.analysis import alignment
from hesstore.config import SweepConfig
from hesstore.engine.sweep import run_sweep
from hesstore.errors import AnalysisError, DataError, ExportError
from hesstore.problem.models import FlatModel, build
from tests.support import toy
from tests.support.toy import TOY

K = 9
X, Y = (torch.from_numpy(each) for each in toy.digits()[:2])
X, Y = X.double(), Y.long()


@pytest.fixture(scope="module")
def ds(tmp_path_factory: pytest.TempPathFactory) -> xr.Dataset:
    path = tmp_path_factory.mktemp("network") / "run.zarr"
    settings = {**TOY, "hidden": "4", "l2": [0.001, 0.01], "k": 12, "dtype": "float64", "epochs": 40, "tol": 1e-9}
    run_sweep(SweepConfig.from_mapping(settings), path)
    return hesstore.open(path).load()


@pytest.fixture(scope="module")
def found(ds: xr.Dataset) -> xr.Dataset:
    return hesstore.network_geometry(ds, l2=0.01, radius=0.1, trust=True).isel(l2=0)


@pytest.fixture(scope="module")
def model() -> FlatModel:
    model = build("mlp", (4,), (64,), 10, seed=0)
    model.module.double()
    return model


@pytest.fixture(scope="module")
def theta(ds: xr.Dataset) -> Tensor:
    return torch.from_numpy(ds["weights"].sel(run=0, l2=0.01).values).double()


@pytest.fixture(scope="module")
def vectors(ds: xr.Dataset) -> Tensor:
    return torch.from_numpy(ds["eigenvectors"].sel(run=0, l2=0.01).values).double()


@pytest.fixture(scope="module")
def jacobian(model: FlatModel, theta: Tensor) -> Tensor:
    """(N, C, P)."""
    found: Tensor = torch.func.jacrev(lambda weights: model.logits(weights, X))(theta)
    return found


def loss(model: FlatModel, x: Tensor = X, y: Tensor = Y) -> Callable[[Tensor], Tensor]:
    return lambda theta: nn.functional.cross_entropy(model.logits(theta, x), y)


def cosines(a: Tensor, b: Tensor) -> np.ndarray:
    """Squared cosines of the principal angles between two spans of rows, by bases from a QR decomposition."""
    bases = [np.linalg.qr(each.numpy().T)[0] for each in (a, b)]
    values: np.ndarray = scipy.linalg.svdvals(bases[0].T @ bases[1])
    return values**2


def test_gauss_newton_and_the_rest_add_up(
    ds: xr.Dataset, found: xr.Dataset, model: FlatModel, theta: Tensor, vectors: Tensor, jacobian: Tensor
) -> None:
    p = torch.softmax(model.logits(theta, X), 1)
    weights = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    dense = torch.einsum("ncp,ncd,ndq->pq", jacobian, weights, jacobian) / len(X)
    np.testing.assert_allclose(found["gauss_newton"], ((vectors @ dense) * vectors).sum(1), rtol=1e-5)
    rest = torch.func.hessian(loss(model))(theta) - dense
    np.testing.assert_allclose(found["residual"], ((vectors @ rest) * vectors).sum(1), rtol=1e-4, atol=1e-6)
    total = found["gauss_newton"] + found["residual"]
    np.testing.assert_allclose(total, ds["eigenvalues"].sel(run=0, l2=0.01), rtol=1e-12)


def test_alignment_with_mean_logits(found: xr.Dataset, vectors: Tensor, jacobian: Tensor) -> None:
    means = jacobian.mean(0)
    centred = means - means.mean(0)
    shares = (vectors[:K] @ centred.T).square().sum(0) / centred.square().sum(1)
    np.testing.assert_allclose(found["share"], shares, rtol=1e-5)
    expected = cosines(vectors[:K], centred[:-1])  # of rank C − 1
    np.testing.assert_allclose(np.cos(found["principal_angle"]) ** 2, expected, rtol=1e-4)
    assert float(found["overlap"]) == pytest.approx(expected.mean(), rel=1e-4)


def test_alignment_with_class_means_of_gradients(
    ds: xr.Dataset, model: FlatModel, theta: Tensor, vectors: Tensor
) -> None:
    gradients = torch.stack([torch.func.grad(loss(model, X[c == Y], Y[c == Y]))(theta) for c in range(10)])
    at = ds.hess.alignment().sel(l2=0.01)
    np.testing.assert_allclose(
        at["share"], (vectors[:K] @ gradients.T).square().sum(0) / gradients.square().sum(1), rtol=1e-5
    )
    expected = cosines(vectors[:K], gradients)
    assert at["rank"] == 10
    np.testing.assert_allclose(np.cos(at["principal_angle"]) ** 2, expected, rtol=1e-4)
    assert float(at["overlap"]) == pytest.approx(expected.mean(), rel=1e-5)
    few = ds.hess.alignment(k=3, split="test")
    assert few.sizes["angle"] == 3
    assert float(few["chance"]) == 3 / 310


def test_sharpness_modelled_and_measured(
    ds: xr.Dataset, found: xr.Dataset, model: FlatModel, theta: Tensor, vectors: Tensor
) -> None:
    e, r = loss(model), 0.1 * float(theta.norm())
    slope, dense = vectors @ torch.func.grad(e)(theta), torch.func.hessian(e)(theta)
    steps = {(mode, sign): sign * r * v for mode, v in enumerate(vectors) for sign in (-1, 1)}
    measured = {key: float(e(theta + step) - e(theta)) for key, step in steps.items()}
    best = max(measured, key=lambda key: measured[key])
    assert float(found["sharpness"]) == pytest.approx(measured[best], rel=1e-6)
    assert (int(found["sharpest_mode"]), int(found["sharpest_sign"])) == best
    modelled = {
        (mode, sign): float(sign * r * slope[mode] + steps[mode, sign] @ dense @ steps[mode, sign] / 2)
        for mode, sign in steps
    }
    at = ds.hess.sharpness(radius=0.1).sel(l2=0.01)
    best = max(modelled, key=lambda key: modelled[key])
    assert float(at["sharpness"]) == pytest.approx(modelled[best], rel=1e-5)
    assert (int(at["mode"]), int(at["sign"])) == best
    assert float(at["step_length"]) == pytest.approx(r, rel=1e-9)


def test_grid_points_are_chosen_and_results_label_themselves(ds: xr.Dataset, found: xr.Dataset) -> None:
    calls: list[tuple[int, int]] = []
    every = hesstore.network_geometry(ds, k=2, trust=True, progress=lambda *now: calls.append(now))
    assert every["l2"].values.tolist() == ds["l2"].values.tolist()
    assert calls == [(1, 2), (2, 2)]
    assert every.sizes["angle"] == 2
    assert all(each.attrs["long_name"] for each in found.variables.values())
    assert {name for name, each in found.items() if each.attrs.get("units") == "nat"} == {
        *("gauss_newton", "residual", "sharpness")
    }


def test_a_given_module_serves_and_stays_as_it_is(ds: xr.Dataset, found: xr.Dataset) -> None:
    module = build("mlp", (4,), (64,), 10, seed=3).module
    before = [parameter.clone() for parameter in module.parameters()]
    again = hesstore.network_geometry(ds, l2=0.01, radius=0.1, trust=True, module=module).isel(l2=0)
    xr.testing.assert_identical(again, found)
    assert all(torch.equal(*pair) for pair in zip(before, module.parameters(), strict=True))


def test_what_cannot_be_computed_is_refused(ds: xr.Dataset) -> None:
    with pytest.raises(AnalysisError, match=r"λ = 0\.5 is not one of the 2 complete grid points"):
        hesstore.network_geometry(ds, l2=0.5, trust=True)
    with pytest.raises(AnalysisError, match="radius = 0"):
        hesstore.network_geometry(ds, radius=0.0, trust=True)
    with pytest.raises(AnalysisError, match="names code, 'tests"):
        hesstore.network_geometry(ds)
    with pytest.raises(ExportError, match="module"):
        hesstore.network_geometry(ds, trust=True, module=nn.Linear(64, 10))
    identity = ds.attrs["identity"]
    subset = ds.assign_attrs(identity=identity.replace('"hessian_samples": 0', '"hessian_samples": 100'))
    for function in (hesstore.network_geometry, alignment):
        with pytest.raises(AnalysisError, match="H was taken over 100 of the training rows"):
            function(subset)
    assert alignment(subset, split="test").sizes["l2"] == 2
    digest = hesstore.store.identity.identity_of(ds.attrs)["data_digest"]
    with pytest.raises(DataError, match="has changed since the store was made"):
        hesstore.network_geometry(ds.assign_attrs(identity=identity.replace(digest, "0" * 64)), trust=True)
