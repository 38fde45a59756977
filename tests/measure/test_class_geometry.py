"""The stored class geometry is compared with dense float64 references at the stored weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor, nn

import hesstore
from hesstore import linalg
from hesstore.config import SweepConfig
from hesstore.curvature import line_bytes
from hesstore.engine.experiment import Analysis, Experiment
from hesstore.engine.sweep import run_sweep
from hesstore.linalg.product_steps import ProductSteps
from hesstore.measure import class_geometry
from hesstore.measure.class_geometry import ClassGeometry, GridPointInputs, Values
from hesstore.problem.models import FlatModel, build
from hesstore.store.schema import GEOMETRY, LONGEST_STEP, RISE_TOLERANCE, Point, Run, variables
from tests.support import toy
from tests.support.toy import TOY

MakeConfig = Callable[..., SweepConfig]
L2 = 0.01
RISES = ("predicted_rise", "measured_rise")
UNCERTAIN = {"class_response", "response_step", *RISES, "density_error"}
CONFIG = {
    **TOY,
    "response": 0.1,
    "hidden": "4",
    "l2": [0.001, L2],
    "k": 8,
    "dtype": "float64",
    "epochs": 40,
    "probes": 30,
}
TRAIN, TEST = (
    (torch.from_numpy(x).double(), torch.from_numpy(y).long()) for x, y in (toy.digits()[:2], toy.digits()[2:])
)


@pytest.fixture(scope="module")
def point(tmp_path_factory: pytest.TempPathFactory) -> xr.Dataset:
    path = tmp_path_factory.mktemp("geometry") / "run.zarr"
    run_sweep(SweepConfig.from_mapping({**CONFIG, "density": True, "density_probes": 20, "density_steps": 100}), path)
    return hesstore.open(path).sel(run=0, l2=L2).load()


@pytest.fixture(scope="module")
def model() -> FlatModel:
    model = build("mlp", (4,), (64,), 10, seed=0)
    model.module.double()
    return model


@pytest.fixture(scope="module")
def theta(point: xr.Dataset) -> Tensor:
    return torch.from_numpy(point["weights"].values).double()


def loss(model: FlatModel, x: Tensor, y: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda theta: nn.functional.cross_entropy(model.logits(theta, x), y)


def by_class(model: FlatModel, x: Tensor, y: Tensor) -> list[Callable[[Tensor], Tensor]]:
    return [loss(model, x[y == label], y[y == label]) for label in range(10)]


@pytest.fixture(scope="module")
def hessian(model: FlatModel, theta: Tensor) -> Tensor:
    found: Tensor = torch.func.hessian(loss(model, *TRAIN))(theta)
    return found


@pytest.fixture(scope="module")
def vectors(point: xr.Dataset) -> Tensor:
    return torch.from_numpy(point["eigenvectors"].values).double()


def test_class_slopes_and_curvatures(point: xr.Dataset, model: FlatModel, theta: Tensor, vectors: Tensor) -> None:
    for split, rows in (("train", TRAIN), ("test", TEST)):
        for label, e in enumerate(by_class(model, *rows)):
            h, g = torch.func.hessian(e)(theta), torch.func.grad(e)(theta)
            at = point.sel(split=split, label=label)
            np.testing.assert_allclose(at["class_slope"], vectors @ g, atol=1e-6)
            np.testing.assert_allclose(at["class_curvature"], ((vectors @ h) * vectors).sum(1), atol=2e-6)


def test_the_identity_holds_and_its_deviation_is_stored(point: xr.Dataset) -> None:
    shares = np.bincount(TRAIN[1].numpy()) / len(TRAIN[1])
    total = point["class_curvature"].sel(split="train").values @ shares
    off = np.abs(total - point["eigenvalues"].values).max() / np.abs(point["eigenvalues"].values).max()
    assert float(point["class_identity_error"]) == pytest.approx(off, abs=1e-15)
    assert off < 1e-12


def test_gradients(point: xr.Dataset, model: FlatModel, theta: Tensor, vectors: Tensor) -> None:
    for split, rows in (("train", TRAIN), ("test", TEST)):
        at = point.sel(split=split)
        whole = torch.func.grad(loss(model, *rows))(theta)
        rows_of = torch.stack([torch.func.grad(e)(theta) for e in by_class(model, *rows)])
        assert float(at["gradient_norm"]) == pytest.approx(float(whole.norm()), rel=1e-9)
        assert float(at["gradient_share"]) == pytest.approx(
            float((vectors @ whole).norm() / whole.norm()) ** 2, rel=1e-5
        )
        np.testing.assert_allclose(at["class_gradient_norm"], rows_of.norm(dim=1), rtol=1e-9)
        units = rows_of / rows_of.norm(dim=1, keepdim=True)
        np.testing.assert_allclose(at["class_gradient_cosine"], units @ units.T, atol=1e-9)
        np.testing.assert_allclose(at["class_gradient_share"], (units @ vectors.T).square().sum(1), rtol=1e-5)


def test_stationarity_and_weights(point: xr.Dataset, model: FlatModel, theta: Tensor, vectors: Tensor) -> None:
    g = torch.func.grad(loss(model, *TRAIN))(theta)
    assert float(point["stationarity"]) == pytest.approx(float((g + L2 * theta).norm() / g.norm()), rel=1e-9)
    assert float(point["weights_norm"]) == pytest.approx(float(theta.norm()), rel=1e-9)
    assert float(point["weights_share"]) == pytest.approx(float((vectors @ theta).norm() / theta.norm()) ** 2, rel=1e-5)


def test_responses(point: xr.Dataset, model: FlatModel, theta: Tensor, vectors: Tensor) -> None:
    def accuracy(at: Tensor) -> Tensor:
        right = (model.logits(at, TEST[0]).argmax(1) == TEST[1]).double()
        return torch.stack([right[TEST[1] == label].mean() for label in range(10)])

    e = loss(model, *TRAIN)
    slope = vectors @ torch.func.grad(e)(theta)
    reached = np.isfinite(point["response_step"].values)
    assert reached.sum() > 0
    for mode in range(8):
        for sign in (-1, 1):
            at = point.sel(mode=mode, sign=sign)
            length = float(at["response_step"])
            if not math.isfinite(length):
                assert all(bool(at[name].isnull().all()) for name in ("class_response", *RISES))
                farthest = sign * LONGEST_STEP * float(theta.norm())
                assert float(e(theta + farthest * vectors[mode]) - e(theta)) < 0.1
                continue
            predicted = sign * length * float(slope[mode]) + length**2 * float(point["eigenvalues"][mode]) / 2
            assert float(at["predicted_rise"]) == pytest.approx(predicted, abs=1e-5)
            moved = theta + sign * length * vectors[mode]
            assert float(at["measured_rise"]) == pytest.approx(float(e(moved) - e(theta)), abs=1e-5)
            off = np.abs(at["class_response"].values - (accuracy(moved) - accuracy(theta)).numpy())
            assert (off < 1e-12).mean() >= 0.9  # rounded vectors can move a digit across a boundary
    np.testing.assert_allclose(point["measured_rise"].values[reached], 0.1, rtol=RISE_TOLERANCE)
    assert float(point["response_step"].max()) <= LONGEST_STEP * float(theta.norm())


@pytest.mark.slow
def test_lines_in_groups_give_the_same(toy_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory for one eigenvector at a time."""
    found = []
    for limit in (class_geometry.LINE_BYTES, 1):
        monkeypatch.setattr(class_geometry, "LINE_BYTES", limit)
        run_sweep(toy_config(l2=[0.01], response=0.1), tmp_path / f"{limit}.zarr")
        found.append(hesstore.open(tmp_path / f"{limit}.zarr").load())
    for name in ("class_slope", "class_curvature", "class_response", "response_step", *RISES):
        np.testing.assert_allclose(found[0][name], found[1][name], rtol=1e-4, atol=1e-6)


def test_trace_frobenius_norm_and_scalar_curvature(
    point: xr.Dataset, model: FlatModel, theta: Tensor, hessian: Tensor
) -> None:
    def curvature(h: Tensor, g: Tensor) -> float:
        metric = torch.eye(len(g), dtype=torch.float64) + torch.outer(g, g)
        shape = torch.linalg.solve(metric, h) / math.sqrt(1 + float(g @ g))
        return float(shape.trace() ** 2 - (shape @ shape).trace())

    slope = torch.func.grad(loss(model, *TRAIN))(theta)
    assert float(point["trace"]) == pytest.approx(float(hessian.trace()), rel=1e-6)
    assert float(point["trace_error"]) == 0  # of the network's layers, which give it exactly
    expected = {
        "frobenius_norm": float(torch.linalg.matrix_norm(hessian)),
        "scalar_curvature": curvature(hessian + L2 * torch.eye(len(theta), dtype=torch.float64), slope + L2 * theta),
        "loss_scalar_curvature": curvature(hessian, slope),
    }
    for name, value in expected.items():
        error = float(point[f"{name}_error"])
        assert 0 < error < 0.06 * abs(value)
        assert abs(float(point[name]) - value) < 2.5 * error


def test_density(point: xr.Dataset, hessian: Tensor) -> None:
    mu = torch.from_numpy(point["mu"].values.copy())
    t = torch.asinh(torch.linalg.eigvalsh(hessian) / 1e-3)
    distances = (torch.asinh(mu / 1e-3)[:, None] - t) / 0.1
    kernels = torch.exp(-0.5 * distances**2) / (0.1 * math.sqrt(2 * math.pi))
    expected = (kernels.mean(1) / (mu.square() + 1e-6).sqrt()).numpy()
    assert np.trapezoid(point["density"], mu) == pytest.approx(1, abs=1e-3)
    assert np.trapezoid(np.abs(point["density"] - expected), mu) < 0.15
    flipped = np.abs(point["density"].values[::-1] - expected)
    assert np.trapezoid(flipped, mu) > 0.8
    known = np.abs(point["eigenvalues"].values)
    at_peak = int(np.abs(mu.numpy() - known.max()).argmin())  # the share of known pairs is exact
    assert float(point["density"][at_peak]) == pytest.approx(expected[at_peak], rel=0.02)
    off, errors = np.abs(point["density"].values - expected), point["density_error"].values
    seen = np.isfinite(errors) & (expected > 1e-4)
    assert seen.sum() > 50
    assert (off <= errors)[seen].mean() > 0.8


@pytest.mark.parametrize(
    "settings",
    [
        {"response": 0, "probes": 0, "lowest": 0},
        {"response": 0.1, "probes": 0, "lowest": 2, "density": True, "density_steps": 4},
    ],
)
def test_only_results_that_the_config_asks_for_are_stored(
    toy_config: MakeConfig, tmp_path: Path, settings: dict[str, float]
) -> None:
    run_sweep(toy_config(l2=[0.01], **settings), tmp_path / "run.zarr")
    ds = hesstore.open(tmp_path / "run.zarr").load()
    assert set(ds.data_vars) == {variable.name for variable in variables({"k": 6, **settings})}
    assert ("sign" in ds.coords, "mu" in ds.coords) == (settings["response"] > 0, "density" in settings)
    for name in (GEOMETRY - UNCERTAIN) & {*ds.data_vars}:
        assert bool(ds[name].notnull().all()), name


@pytest.mark.slow
def test_models_side_by_side_equal_single_models(toy_config: MakeConfig, tmp_path: Path) -> None:
    one, four = (
        hesstore.open(_swept(toy_config(models=models, path="independent"), tmp_path)).load() for models in (1, 4)
    )
    for name in ("class_slope", "class_curvature", "class_gradient_norm", "trace", "scalar_curvature"):
        np.testing.assert_allclose(one[name], four[name], rtol=2e-3, atol=2e-5)


def _swept(config: SweepConfig, folder: Path) -> Path:
    path = folder / f"{config.models}.zarr"
    run_sweep(config, path)
    return path


def test_a_subset_of_rows_for_the_spectrum(toy_config: MakeConfig, tmp_path: Path) -> None:
    """The identity holds for the rows over which H is taken; gradients are taken over all rows."""
    run_sweep(toy_config(l2=[0.01], hessian_samples=100), tmp_path / "run.zarr")
    point = hesstore.open(tmp_path / "run.zarr").isel(run=0, l2=0).load()
    assert float(point["class_identity_error"]) < 1e-5
    assert float(point["gradient_norm"].sel(split="train")) == pytest.approx(
        float(np.linalg.norm(point["gradient"])), rel=1e-6
    )


@pytest.mark.parametrize("response", [pytest.param(0.0, marks=pytest.mark.slow), 0.1])
def test_grid_points_together_have_the_values_that_each_has_alone(
    response: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are computed in groups of two; products failed for the second one, and then for the last one."""
    at = Experiment.prepare(SweepConfig.from_mapping({**CONFIG, "response": response, "chunk_rows": 8192, "models": 5}))
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(5, at.model.layout.size, generator=generator, dtype=torch.float64)
    thetas, points = list(at.model.theta() + noise), [Point(Run(0, 0, "up"), 0, L2)] * 5
    alone = [at.analyse([theta], [point]) for theta, point in zip(thetas, points, strict=True)]
    bytes_of_line = line_bytes(at.geometry.training_losses, thetas[0])
    monkeypatch.setattr(class_geometry, "LINE_BYTES", 2 * at.config.k * bytes_of_line)
    groups, failed = [], FloatingPointError("a product is not finite")
    solve, directions, curvature = linalg.lanczos_stack, ClassGeometry._directions, ClassGeometry._curvature

    def solve_all_but_one(*arguments: Any, **options: Any) -> list[linalg.EigenPairs | FloatingPointError]:
        first, _, *others = solve(*arguments, **options)
        return [first, failed, *others]

    def record(self: ClassGeometry, group: Sequence[GridPointInputs]) -> list[Values]:
        groups.append(len(group))
        return directions(self, group)

    def fail_for_last(self: ClassGeometry, inputs: GridPointInputs) -> ProductSteps[Values]:
        if inputs.theta is thetas[-1]:
            yield inputs.theta
            raise failed
        return (yield from curvature(self, inputs))

    monkeypatch.setattr(linalg, "lanczos_stack", solve_all_but_one)
    monkeypatch.setattr(ClassGeometry, "_directions", record)
    monkeypatch.setattr(ClassGeometry, "_curvature", fail_for_last)
    together = at.analyse(thetas, points)
    assert groups == [2, 2]
    assert together[1] is together[4] is failed
    for place in (0, 2, 3):
        found, (expected,) = together[place], alone[place]
        assert isinstance(found, Analysis)
        assert isinstance(expected, Analysis)
        assert set(found.geometry) == set(expected.geometry)
        for name, values in expected.geometry.items():
            np.testing.assert_allclose(found.geometry[name], values, rtol=1e-7, atol=1e-9, err_msg=name)
