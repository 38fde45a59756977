"""The networks of docs/examples/images32.py, narrower and on fewer rows than there."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

import hesstore
from tests.support.paths import ROOT


@pytest.fixture
def images32(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv("IMAGES_ROWS", "24")
    monkeypatch.setenv("IMAGES_WIDTH", "4")
    spec = importlib.util.spec_from_file_location("images32", ROOT / "docs" / "examples" / "images32.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def by_double_backward(model: nn.Module, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
    """H v by PyTorch alone."""
    parameters = list(model.parameters())
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        loss = nn.functional.cross_entropy(model(x), y)
        slope = torch.cat([part.flatten() for part in torch.autograd.grad(loss, parameters, create_graph=True)]) @ v
        return torch.cat([part.flatten() for part in torch.autograd.grad(slope, parameters)])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "transformer"])
def test_products_with_little_memory(images32: ModuleType, name: str) -> None:
    """Most values are computed again at each product, because they do not fit into the memory."""
    torch.manual_seed(0)
    x, y, test_x, _ = (torch.from_numpy(part) for part in images32.load())
    assert (x.shape, len(test_x)) == ((24, 3, 32, 32), 6)
    model = getattr(images32, name)((3, 32, 32), 10)
    model(x)  # sets running statistics of batch norm
    model.eval().double()
    counts: list[int] = []
    hessian = hesstore.Hessian(model, x, y, memory_gib=0.001, progress=counts.append)
    for _ in range(2):
        v = torch.randn(hessian.size, dtype=torch.float64)
        torch.testing.assert_close(hessian @ v, by_double_backward(model, x.double(), y, v), rtol=1e-8, atol=1e-10)
    assert counts == [1, 2]
