"""Images of vectors under permutations of hidden units that are nearly equal."""

import pytest
import torch
from torch import Tensor, nn

from hesstore.curvature import FlatHessian
from hesstore.curvature.clone_units import CloneUnits, find_hidden_layers
from hesstore.linalg import EigenPairs, lanczos, lanczos_stack
from hesstore.problem.models import FlatModel
from tests.curvature.test_hessian import small_model
from tests.support import toy


class Residual(nn.Module):
    """Hidden units of ``inner`` can be exchanged; those that the sum couples to the inputs can't."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.inner, self.outer = nn.Linear(5, 6), nn.Linear(6, 4), nn.Linear(4, 6)
        self.last = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        h = torch.tanh(self.first(x))
        out: Tensor = self.last(h * torch.arange(6) + self.outer(torch.tanh(self.inner(h))))
        return out


CONVOLUTIONS = nn.Sequential(
    nn.Conv2d(1, 3, 3), nn.GroupNorm(1, 3), nn.Tanh(), nn.Conv2d(3, 4, 3, bias=False), nn.Tanh(), nn.Flatten()
)


@pytest.mark.parametrize(
    ("module", "x", "units"),
    [
        (nn.Sequential(nn.Linear(5, 6), nn.Sigmoid(), nn.Linear(6, 4), nn.LayerNorm(4), nn.Linear(4, 3)), (5,), [6, 4]),
        (nn.Sequential(*CONVOLUTIONS, nn.Linear(16, 3)), (1, 6, 6), [3, 4]),
        (Residual(), (5,), [4]),
        (nn.Linear(5, 3), (5,), []),
        (nn.Sequential(nn.Conv2d(4, 8, 3, groups=4), nn.Tanh(), nn.Flatten(), nn.Linear(8, 3)), (4, 3, 3), []),
    ],
    ids=["mlp with layer norm", "convolutions with group norm", "residual", "linear", "grouped convolution"],
)
def test_hidden_layers_whose_units_can_be_exchanged(module: nn.Module, x: tuple[int, ...], units: list[int]) -> None:
    model = FlatModel(module.double())
    rows = torch.randn(7, *x, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    layers = find_hidden_layers(model, rows)
    assert [len(layer.rows) for layer in layers] == units
    for layer in layers:
        index = torch.arange(model.layout.size)
        layer.permute(index, torch.arange(len(layer.rows)).flip(0))
        assert sorted(index.tolist()) == list(range(model.layout.size))
        assert torch.allclose(model.logits(model.theta()[index], rows), model.logits(model.theta(), rows), atol=1e-12)


def clones(noise: float) -> tuple[FlatModel, Tensor, tuple[Tensor, Tensor]]:
    """A network whose ten hidden units are a group of six clones and a group of four, the data, and θ."""
    model = small_model((10,), 5, 3, torch.float64)
    theta = model.theta()
    parts = model.layout.unflatten(theta)
    source = torch.tensor([0] * 6 + [6] * 4)
    for name in ("fc1.weight", "fc1.bias"):
        parts[name].copy_(parts[name][source].clone())
    parts["fc2.weight"].copy_(parts["fc2.weight"][:, source].clone())
    generator = torch.Generator().manual_seed(2)
    return model, theta + noise * torch.randn(len(theta), generator=generator, dtype=torch.float64), toy.blobs(51)


def test_images_nearly_commute_with_the_hessian() -> None:
    """H P v = P H v for exact clones, and nearly so for near clones; other units stay where they are."""
    for noise, tolerance in ((0.0, 1e-12), (1e-4, 1e-3)):
        model, theta, rows = clones(noise)
        operator = FlatHessian(model, *rows, chunk_rows=20).at(theta)
        v = torch.randn(operator.size, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
        maps = CloneUnits(find_hidden_layers(model, rows[0]), theta)
        assert maps.levels == 1
        permuted = maps.images(torch.stack([v, operator.matvec(v)]), 0, torch.Generator().manual_seed(4))
        assert not torch.equal(permuted[0], v)
        same = torch.Generator().manual_seed(4)
        image, image_of_product = (
            maps.images(each[None], 0, same.manual_seed(5))[0] for each in (v, operator.matvec(v))
        )
        assert float((operator.matvec(image) - image_of_product).norm()) < tolerance * float(v.norm())
        assert torch.equal(image[-3:], v[-3:])  # the last biases belong to no hidden unit


def test_untrained_networks_have_no_clones() -> None:
    model = small_model((10,), 5, 3, torch.float64)
    assert CloneUnits(find_hidden_layers(model, toy.blobs()[0]), model.theta()).levels == 0


def test_a_search_takes_its_start_vectors_from_clones() -> None:
    """The same eigenvalues for fewer products, for one matrix and in a stack."""
    model, theta, rows = clones(1e-7)
    hessian = FlatHessian(model, *rows, chunk_rows=20)
    operator = hessian.at(theta)
    exact = torch.linalg.eigvalsh(torch.stack([operator.matvec(e) for e in torch.eye(operator.size).double()]))
    expected = exact[exact.abs().argsort(descending=True)][:8]
    found = lanczos(operator, 8, tol=1e-6)
    operator.__dict__["images"] = CloneUnits([], theta)
    without = lanczos(operator, 8, tol=1e-6)
    (stacked,) = lanczos_stack(hessian.at_each(theta[None]), 8, tol=1e-6, generators=[torch.Generator().manual_seed(0)])
    assert isinstance(stacked, EigenPairs)
    for pairs in (found, without, stacked):
        assert torch.allclose(pairs.eigenvalues.abs(), expected.abs(), rtol=1e-5)
    assert found.num_matvecs < without.num_matvecs
    assert stacked.num_matvecs == found.num_matvecs
