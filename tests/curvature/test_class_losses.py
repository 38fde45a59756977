from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from hesstore.curvature import ClassLosses, FlatHessian, LossLines, class_losses, gradient, line_bytes
from hesstore.problem.models import FlatModel, build
from tests.support import toy

CLASSES = 3


def small_model(dtype: torch.dtype = torch.float64) -> FlatModel:
    model = build("mlp", (4, 3), (5,), CLASSES, seed=1)
    model.module.to(dtype)
    return model


def class_loss(model: FlatModel, x: Tensor, y: Tensor, label: int) -> Callable[[Tensor], Tensor]:
    """E_c by its definition."""
    rows = y == label
    return lambda theta: nn.functional.cross_entropy(model.logits(theta, x[rows]), y[rows])


def directions(model: FlatModel, m: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(m, model.layout.size, generator=generator, dtype=torch.float64)


def dense(model: FlatModel, x: Tensor, y: Tensor, vectors: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """(m, C) v·∇E_c and vᵀH_c v from the dense Hessians of the classes."""
    theta, slopes, curvatures = model.theta(), [], []
    for label in range(classes):
        loss = class_loss(model, x, y, label)
        slopes.append(vectors @ torch.func.grad(loss)(theta))
        curvatures.append(((vectors @ torch.func.hessian(loss)(theta)) * vectors).sum(1))
    return torch.stack(slopes, 1), torch.stack(curvatures, 1)


@pytest.mark.parametrize("chunk_rows", [7, 25, 1000])
def test_derivatives_are_those_of_the_dense_class_hessians(chunk_rows: int, device: torch.device) -> None:
    model = small_model()
    x, y = toy.blobs(50, 5, CLASSES)
    theta, vectors = model.theta(), directions(model)
    slope, curvature = dense(model, x, y, vectors, CLASSES)
    model.module.to(device)
    losses = ClassLosses(model, x.to(device), y.to(device), CLASSES, chunk_rows)
    found = losses.along(theta.to(device), vectors.to(device))
    torch.testing.assert_close(found.slope.cpu(), slope, rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(found.curvature.cpu(), curvature, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("module", [toy.SmoothCNN(10), toy.Residual()], ids=["cnn", "residual"])
def test_networks_of_other_shapes(module: nn.Module) -> None:
    """Networks with convolutions and skip connections."""
    model = FlatModel(module.double())
    x, y = (torch.from_numpy(a) for a in toy.digits()[:2])
    x, y = x[:60].double(), y[:60]
    vectors = directions(model, 2)
    slope, curvature = dense(model, x, y, vectors, 10)
    found = ClassLosses(model, x, y, 10, 32).along(model.theta(), vectors)
    torch.testing.assert_close(found.slope, slope, rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(found.curvature, curvature, rtol=1e-10, atol=1e-10)


TRANSFORMER = nn.TransformerEncoderLayer(3, 1, 4, 0.0, nn.GELU(), batch_first=True)


@pytest.mark.parametrize(
    "between",
    [
        nn.LayerNorm(6),
        nn.SiLU(),
        nn.Mish(),
        pytest.param(
            nn.Sequential(nn.Unflatten(1, (3, 2)), nn.InstanceNorm1d(3), nn.Flatten()), marks=pytest.mark.slow
        ),
        pytest.param(nn.Sequential(nn.Unflatten(1, (2, 3)), TRANSFORMER, nn.Flatten()), marks=pytest.mark.slow),
        toy.Attention(3),
    ],
    ids=["layer norm", "silu", "mish", "instance norm", "transformer", "attention"],
)
def test_operations_that_are_wrong_or_missing_in_nested_forward_mode(between: nn.Module) -> None:
    """Double backward is the reference: torch.func.hessian is wrong for layer norm."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(64, 6), between, nn.Linear(6, 10)).double().train(mode=False)
    model = FlatModel(module)
    x, y = (torch.from_numpy(a) for a in toy.digits()[:2])
    x, y = x[:30].double(), y[:30]
    (v,) = directions(model, 1)
    found = ClassLosses(model, x, y, 10, 16).along(model.theta(), v[None])
    for label in range(10):
        point = model.theta().requires_grad_()
        (slope,) = torch.autograd.grad(class_loss(model, x, y, label)(point), point, create_graph=True)
        (product,) = torch.autograd.grad(slope @ v, point)
        assert float(found.slope[0, label]) == pytest.approx(float(slope.detach() @ v), rel=1e-9)
        assert float(found.curvature[0, label]) == pytest.approx(float(product @ v), rel=1e-9, abs=1e-10)


@pytest.mark.parametrize("chunk_rows", [64, 1000])
def test_accuracies_after_steps(chunk_rows: int, device: torch.device) -> None:
    """Against the accuracies at moved weights; some steps, and the last direction, were not found."""
    model, x, y, v = digit_lines()
    theta = model.theta() * 3
    steps = torch.tensor([[-0.5, 1.0], [-4.0, 20.0], [torch.nan, 1.0], [0.0, 0.0]], dtype=torch.float64)
    v[3] = steps[3] = torch.nan

    def accuracies(at: Tensor) -> Tensor:
        right = model.logits(at, x).argmax(1) == y
        return torch.stack([right[y == label].double().mean() for label in range(10)])

    expected = torch.stack(
        [torch.stack([accuracies(theta + t * u) for t in pair]) for u, pair in zip(v, steps.float(), strict=True)]
    )
    expected = torch.where(steps.isfinite()[..., None], expected - accuracies(theta), torch.nan)
    model.module.to(device)
    losses = ClassLosses(model, x.to(device), y.to(device), 10, chunk_rows)
    derivatives, found = losses.along_with_accuracies(theta.to(device), v.to(device), steps.to(device))
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-12, atol=1e-12, equal_nan=True)
    assert float(found.nan_to_num().abs().max()) > 0.1
    alone = losses.along(theta.to(device), v.to(device))
    torch.testing.assert_close(derivatives, alone, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("chunk_rows", [64, 1000])
def test_losses_along_lines(chunk_rows: int, device: torch.device) -> None:
    """The rises are those of the loss at moved weights, of the network and of the one with linearised logits.

    Estimates add to the latter what it leaves out on a sample of the rows, which has all classes in proportion.
    """
    model, x, y, v = digit_lines()
    theta = model.theta() * 3

    def loss(logits: Tensor, rows: slice | Tensor = slice(None)) -> float:
        return float(nn.functional.cross_entropy(logits[rows].double(), y[rows]))

    start = model.logits(theta, x)
    slopes = [torch.func.jvp(lambda at: model.logits(at, x), (theta,), (u,))[1] for u in v]
    model.module.to(device)
    losses = ClassLosses(model, x.to(device), y.to(device), 10, chunk_rows)
    lines = LossLines(losses, theta.to(device), v.to(device))
    alone = losses.along(theta.to(device), v.to(device))
    torch.testing.assert_close(lines.derivatives, alone, rtol=1e-5, atol=1e-6)
    model.module.to("cpu")
    steps = [(index, t) for t in (-4.0, 0.5, 20.0) for index in range(len(v))]
    index, t = (torch.tensor(each).to(device) for each in zip(*steps, strict=True))
    functions = lines.measured, lines.linearised, lines.estimated
    rises, linearised, estimates = (rise(index, t.double()).cpu() for rise in functions)
    sample = losses.order[losses.sample.places].cpu()
    assert len(set(sample.tolist())) == 128
    assert float((y[sample].bincount() - y.bincount() * 128 / len(y)).abs().max()) < 1
    for place, (which, length) in enumerate(steps):
        moved, linear = model.logits(theta + length * v[which], x), start + length * slopes[which]
        assert float(rises[place]) == pytest.approx(loss(moved) - loss(start), rel=1e-5, abs=1e-6)
        assert float(linearised[place]) == pytest.approx(loss(linear) - loss(start), rel=1e-4, abs=1e-5)
        left_out = loss(moved, sample) - loss(linear, sample)
        assert float(estimates[place]) == pytest.approx(loss(linear) - loss(start) + left_out, rel=1e-4, abs=1e-5)


def test_the_memory_of_lines() -> None:
    """The first layer's 6 values and the 10 slopes of the logits of each row, of 4 bytes each."""
    model, x, y, _ = digit_lines()
    assert line_bytes(ClassLosses(model, x, y, 10, 64), model.theta()) == len(y) * (6 + 10) * 4


def digit_lines() -> tuple[FlatModel, Tensor, Tensor, Tensor]:
    """A network, rows, and four unit directions."""
    model = build("mlp", (6, 5), (64,), 10, seed=0)
    x, y = (torch.from_numpy(a) for a in toy.digits()[:2])
    v = torch.randn(4, model.layout.size, generator=torch.Generator().manual_seed(0))
    return model, x, y.long(), nn.functional.normalize(v, dim=1)


class Unbatchable(nn.Module):
    """A network that vmap can't compute, because it reads a number."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(x)
        return out if x.abs().sum().item() > 0 else out * 2


@pytest.mark.parametrize("chunk_rows", [7, 1000])
@pytest.mark.parametrize("batchable", [True, False])
@pytest.mark.parametrize("together", [1, 2, CLASSES])
def test_gradients_are_those_of_the_class_losses(
    monkeypatch: pytest.MonkeyPatch, chunk_rows: int, together: int, *, batchable: bool
) -> None:
    model = small_model() if batchable else FlatModel(Unbatchable().double())
    monkeypatch.setattr(class_losses, "GRADIENT_BYTES", together * 8 * model.layout.size)
    x, y = toy.blobs(50, 5, CLASSES)
    theta = model.theta()
    expected = torch.stack([torch.func.grad(class_loss(model, x, y, label))(theta) for label in range(CLASSES)])
    found = ClassLosses(model, x, y, CLASSES, chunk_rows).gradients(theta)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


def test_classes_add_up_to_the_hessian_and_the_gradient() -> None:
    """Σ_c π_c vᵀH_c v = vᵀHv and Σ_c π_c v·∇E_c = v·∇E, with a rare class and a class without rows."""
    model = build("mlp", (6, 5), (64,), 11, seed=0)
    x, y = (torch.from_numpy(a) for a in toy.digits()[:2])
    y = y.long()
    keep = (y != 3) | (torch.arange(len(y)) < 20)
    x, y = x[keep], y[keep]
    theta = model.theta()
    v = directions(model).float()
    losses = ClassLosses(model, x, y, 11, 64)
    found = losses.along(theta, v)
    assert found.curvature[:, 10].isnan().all()
    assert losses.gradients(theta)[10].isnan().all()
    h = FlatHessian(model, x, y, chunk_rows=64).at(theta)
    curvature = torch.stack([u.double() @ h.matvec(u).double() for u in v])
    torch.testing.assert_close(found.curvature[:, :10] @ losses.shares[:10], curvature, rtol=1e-5, atol=1e-5)
    slope = v.double() @ gradient(model, theta, x, y).double()
    torch.testing.assert_close(found.slope[:, :10] @ losses.shares[:10], slope, rtol=1e-5, atol=1e-5)
    by_class = losses.gradients(theta)[:10].double()
    torch.testing.assert_close(found.slope[:, :10], v.double() @ by_class.T, rtol=1e-5, atol=1e-5)


def test_programs_are_shared_by_row_count() -> None:
    model = small_model()
    x, y = toy.blobs(50, 5, CLASSES)
    losses = ClassLosses(model, x, y, CLASSES, 25)
    other = ClassLosses(model, x[:25], y[:25], CLASSES, 25, losses.programs)
    losses.along(model.theta(), directions(model))
    program = losses.programs[25]
    other.along(model.theta(), directions(model))
    assert other.programs == {25: program}


def test_curvature_without_cancellation() -> None:
    """Logits that all rise by the same amount change nothing, although z′ is much larger than their differences."""
    model = small_model(torch.float32)
    x, y = toy.blobs(30, 5, CLASSES)
    v = torch.zeros(model.layout.size)
    v[-CLASSES:] = 1e4  # the biases of the last layer
    found = ClassLosses(model, x.float(), y, CLASSES).along(model.theta(), v[None])
    assert (
        float(found.curvature.abs().max()) < 1e-3 * 1e4
    )  # while z′² = 1e8, of which a difference of two sums would keep errors of about 10
    assert math.isclose(float(found.slope.abs().max()), 0, abs_tol=1e-2)
