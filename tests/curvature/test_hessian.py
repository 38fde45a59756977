from __future__ import annotations

import curvlinops
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hesstore.curvature import FlatHessian, gradient
from hesstore.linalg import eigsh, lanczos
from hesstore.problem import training_data
from hesstore.problem.models import FlatModel, build
from tests.support import toy
from tests.support.hessians import cached_share


def dense(model: FlatModel, theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """∇²E by nested autodiff in float64, all rows at once."""
    matrix: Tensor = torch.func.hessian(
        lambda t: nn.functional.cross_entropy(model.logits(t, x.double()), y, reduction="mean")
    )(theta.double())
    return matrix


def small_model(hidden: tuple[int, ...], features: int, classes: int, dtype: torch.dtype) -> FlatModel:
    model = build("mlp", hidden, (features,), classes, seed=1)
    model.module.to(dtype)
    return model


SHAPES = [((), 3, 2), ((4,), 5, 3), ((3, 2), 4, 4), ((5, 4, 3), 6, 2)]


@pytest.mark.parametrize(("hidden", "features", "classes"), SHAPES)
@pytest.mark.parametrize("chunk_rows", [7, 10, 50, 1000])
def test_products_equal_the_dense_hessian(
    hidden: tuple[int, ...], features: int, classes: int, chunk_rows: int, device: torch.device
) -> None:
    model = small_model(hidden, features, classes, torch.float64)
    x, y = toy.blobs(50, features, classes)
    theta = model.theta()
    h = dense(model, theta, x, y)
    model.module.to(device)
    operator = FlatHessian(model, x.to(device), y.to(device), chunk_rows=chunk_rows).at(theta.to(device))
    columns = torch.stack([operator.matvec(e) for e in torch.eye(len(theta), dtype=torch.float64, device=device)])
    assert float((columns.cpu() - h).abs().max()) <= 1e-12 * max(1.0, float(h.abs().max()))


@pytest.mark.parametrize(("hidden", "features", "classes"), SHAPES)
def test_float32_products(hidden: tuple[int, ...], features: int, classes: int) -> None:
    model = small_model(hidden, features, classes, torch.float32)
    x, y = toy.blobs(50, features, classes)
    theta = model.theta()
    operator = FlatHessian(model, x.float(), y, chunk_rows=16).at(theta)
    h = dense(model, theta, x.float(), y)
    v = torch.randn(len(theta), generator=torch.Generator().manual_seed(0))
    assert torch.allclose(operator.matvec(v).double(), h @ v.double(), atol=1e-5 * float(h.abs().max() * v.norm()))


def test_a_short_last_chunk_has_its_due_weight() -> None:
    """A mean of chunk means would differ, because the rows of the last chunk are of one class and far away."""
    model = small_model((3,), 4, 3, torch.float64)
    x, y = toy.blobs(22, 4, 3)
    x[-2:], y[-2:] = 5.0, 2
    theta = model.theta()
    operator = FlatHessian(model, x, y, chunk_rows=10).at(theta)
    v = torch.ones(len(theta), dtype=torch.float64)
    assert torch.allclose(operator.matvec(v), dense(model, theta, x, y) @ v, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(("cache_bytes", "share"), [(0, 0.0), (9_000, 3 / 5), (float("inf"), 1.0)])
def test_memory_budget_changes_speed_not_bits(cache_bytes: float, share: float) -> None:
    model = small_model((6, 5), 8, 4, torch.float32)
    x, y = toy.blobs(90, 8, 4)
    theta, v = model.theta(), torch.randn(model.layout.size, generator=torch.Generator().manual_seed(0))
    hessian = FlatHessian(model, x.float(), y, chunk_rows=20)
    operator = hessian.at(theta, cache_bytes=cache_bytes)
    assert cached_share(operator) == pytest.approx(share)
    assert torch.equal(operator.matvec(v), hessian.at(theta).matvec(v))


def test_a_part_of_the_rows_has_its_share_of_the_cache() -> None:
    model = small_model((5,), 6, 3, torch.float64)
    x, y = toy.blobs(40, 6, 3)
    theta, v = model.theta(), torch.ones(model.layout.size, dtype=torch.float64)
    hessian = FlatHessian(model, x, y, chunk_rows=10)
    memory = 40 * hessian.row_bytes(theta)
    operator, share = hessian.part_at(theta, cache_bytes=memory, seconds=0)
    assert (share, cached_share(operator)) == (0.25, 1)
    few, _ = hessian.part_at(theta, cache_bytes=memory / 2, seconds=0)
    assert cached_share(few) == 0
    assert torch.equal(few.matvec(v), operator.matvec(v))
    whole, share = hessian.part_at(theta, cache_bytes=memory / 2, seconds=60)
    assert (share, cached_share(whole)) == (1, 0.5)
    assert torch.equal(whole.matvec(v), hessian.at(theta).matvec(v))


def test_one_trace_serves_every_theta() -> None:
    model = small_model((4,), 5, 3, torch.float64)
    x, y = toy.blobs()
    hessian = FlatHessian(model, x, y, chunk_rows=20)
    generator = torch.Generator().manual_seed(2)
    for _ in range(3):
        theta = torch.randn(model.layout.size, generator=generator, dtype=torch.float64)
        v = torch.randn(model.layout.size, generator=generator, dtype=torch.float64)
        assert torch.allclose(hessian.at(theta).matvec(v), dense(model, theta, x, y) @ v, rtol=1e-11, atol=1e-13)
    assert (
        len({id(chunk.program) for chunks in hessian._chunks_by_shape.values() for chunk in chunks}) == 2
    )  # full chunks and the short one


@pytest.mark.parametrize("cache_bytes", [0, float("inf")])
@pytest.mark.parametrize("chunk_rows", [7, 50, 1000])
@pytest.mark.slow
def test_products_of_a_stack_are_those_of_each(chunk_rows: int, cache_bytes: float, device: torch.device) -> None:
    model = small_model((6, 5), 8, 4, torch.float64)
    x, y = toy.blobs(90, 8, 4)
    generator = torch.Generator().manual_seed(3)
    theta, v = (torch.randn(3, model.layout.size, generator=generator, dtype=torch.float64) for _ in range(2))
    expected = torch.stack([dense(model, point, x, y) @ direction for point, direction in zip(theta, v, strict=True)])
    model.module.to(device)
    hessian = FlatHessian(model, x.to(device), y.to(device), chunk_rows=chunk_rows)
    stack = hessian.at_each(theta.to(device), cache_bytes=cache_bytes)
    assert (stack.copies, stack.size) == theta.shape
    assert torch.allclose(stack.matvec(v.to(device)).cpu(), expected, rtol=1e-11, atol=1e-13)
    part = stack.subset([2, 0])
    assert torch.allclose(part.matvec(v[[2, 0]].to(device)).cpu(), expected[[2, 0]], rtol=1e-11, atol=1e-13)
    slopes = gradient(model, theta.to(device), x.to(device), y.to(device), chunk_rows)
    alone = torch.stack([gradient(model, point, x.to(device), y.to(device)) for point in theta.to(device)])
    assert torch.allclose(slopes, alone, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("chunk_rows", [7, 1000])
def test_gradient_is_that_of_the_mean_loss(chunk_rows: int) -> None:
    model = small_model((4,), 5, 3, torch.float64)
    x, y = toy.blobs()
    theta = model.theta().requires_grad_()
    (expected,) = torch.autograd.grad(nn.functional.cross_entropy(model.logits(theta, x), y), theta)
    assert torch.allclose(gradient(model, theta.detach(), x, y, chunk_rows), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("state", ["untrained", "zero", "twin units"])
@pytest.mark.parametrize("which", ["LM", "LA", "SA"])
def test_eigenpairs_equal_the_dense_ones(which: str, state: str) -> None:
    """An untrained network has negative eigenvalues; at θ = 0, or with equal hidden units, it has multiple ones."""
    model = small_model((8,), 5, 3, torch.float64)
    x, y = toy.blobs(51)
    theta = model.theta() * (state != "zero")
    if state == "twin units":
        parts = model.layout.unflatten(theta)
        for name in ("fc1.weight", "fc1.bias"):
            parts[name].copy_(parts[name][:1].clone().expand_as(parts[name]))
        parts["fc2.weight"].copy_(parts["fc2.weight"][:, :1].clone().expand_as(parts["fc2.weight"]))
    exact = torch.linalg.eigvalsh(dense(model, theta, x, y))
    pairs = lanczos(FlatHessian(model, x, y, chunk_rows=20).at(theta), 8, which=which, tol=1e-10)  # type: ignore[arg-type]
    key = {"LM": exact.abs(), "LA": exact, "SA": -exact}[which]
    expected = exact[key.argsort(descending=True)[:8]]
    found = pairs.eigenvalues
    if which == "LM":  # +μ and −μ may swap places
        found, expected = found.abs(), expected.abs()
    assert float((found - expected).abs().max()) < 1e-12
    assert bool(pairs.converged.all())
    if state == "untrained":
        assert float(exact.min()) < -1e-3
    if state == "twin units":
        assert float((exact[1:] - exact[:-1])[:6].min()) < 1e-12  # the most negative eigenvalue has seven copies


@pytest.fixture(scope="module")
def digits() -> training_data.Split:
    """1,000 real digits, 100 of each class, for the default network."""
    data = training_data.load("mnist-5k")
    rows = training_data.stratified_indices(data.train.y, 1000)
    return training_data.Split(data.train.x[rows], data.train.y[rows])


@pytest.mark.slow
@pytest.mark.slow
def test_default_network_agrees_with_curvlinops_and_arpack(digits: training_data.Split) -> None:
    model = build("mlp", (128, 128), (1, 28, 28), 10, seed=0)
    theta = model.theta()
    operator = FlatHessian(model, digits.x, digits.y, chunk_rows=384).at(theta)
    module = model.module
    theirs = curvlinops.HessianLinearOperator(
        module, nn.CrossEntropyLoss(), list(module.parameters()), [(digits.x, digits.y)]
    )
    v = torch.randn(len(theta), generator=torch.Generator().manual_seed(0))
    parts = [
        part.reshape(shape)
        for part, shape in zip(torch.split(v, list(model.layout.sizes)), model.layout.shapes, strict=True)
    ]
    expected = torch.cat([part.reshape(-1) for part in theirs @ parts]).detach()
    mine = operator.matvec(v)
    assert float((mine - expected).norm() / expected.norm()) < 1e-5
    ours, arpack = lanczos(operator, 10, tol=1e-5), eigsh(operator, 10, tol=1e-5)
    assert torch.allclose(ours.eigenvalues, arpack.eigenvalues, rtol=2e-5)
    assert bool(ours.converged.all())
    assert ours.num_matvecs <= arpack.num_matvecs


def test_collapsed_default_network(digits: training_data.Split) -> None:
    """θ = 0, balanced classes: H = (I/10 − 11ᵀ/100) ⊗ φφᵀ with |φ|² = 128/4 + 1, so 3.3 nine times, then zero."""
    model = build("mlp", (128, 128), (1, 28, 28), 10, seed=0)
    pairs = lanczos(FlatHessian(model, digits.x, digits.y).at(torch.zeros(model.layout.size)), 30)
    assert torch.allclose(pairs.eigenvalues[:9], torch.full((9,), 3.3, dtype=torch.float64), rtol=1e-4)
    assert float(pairs.eigenvalues[9:].abs().max()) < 1e-4
    gram = pairs.eigenvectors @ pairs.eigenvectors.T
    assert float((gram - torch.eye(30)).abs().max()) < 1e-5
    assert float(pairs.residual_norms.max()) < 1e-3
    assert pairs.num_matvecs < 100
    assert np.isfinite(pairs.eigenvectors.numpy()).all()
