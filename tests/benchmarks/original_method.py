"""The method of the original scripts: a DataLoader reads the images again for each epoch and for each product."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeAlias

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from tests.benchmarks.digit_problem import BATCH, L2, LEARNING_RATE, MEAN, STD

if TYPE_CHECKING:
    from tests.benchmarks.digit_problem import Problem

Batches: TypeAlias = Iterable[tuple[Tensor, Tensor]]


class DigitImages(Dataset[tuple[Tensor, int]]):
    """Images that are decoded, scaled and normalised again at each access, as in torchvision's MNIST."""

    def __init__(self, problem: Problem) -> None:
        self.images = problem.images
        self.labels = problem.y.tolist()
        self.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((MEAN,), (STD,))])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def loader(problem: Problem, *, shuffle: bool) -> Batches:
    """Return a DataLoader with batches of 64 images; with ``shuffle``, each pass has a new order."""
    generator = torch.Generator().manual_seed(0)
    return DataLoader(DigitImages(problem), batch_size=BATCH, shuffle=shuffle, generator=generator)


def in_memory(problem: Problem) -> Batches:
    """Return batches of 64 rows, views of tensors on the device, always in the same order."""
    return list(zip(torch.split(problem.x, BATCH), torch.split(problem.y, BATCH), strict=True))


class ShuffledTensors:
    """Batches of 64 rows, gathered from tensors on the device in a new order at each pass."""

    def __init__(self, problem: Problem) -> None:
        self.x, self.y = problem.x, problem.y
        self.generator = torch.Generator().manual_seed(0)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self.y), generator=self.generator).to(self.x.device)
        return ((self.x[rows], self.y[rows]) for rows in torch.split(order, BATCH))


def double_backward(module: nn.Module, batches: Batches, rows: int) -> Callable[[Tensor], Tensor]:
    """Return v ↦ H v, the gradient of ∇E · v, as the mean over batches weighted by their sizes."""
    parameters = list(module.parameters())

    def product(v: Tensor) -> Tensor:
        total = torch.zeros_like(v)
        for inputs, labels in batches:
            x, y = inputs.to(v.device), labels.to(v.device)
            gradients = torch.autograd.grad(cross_entropy(module(x), y), parameters, create_graph=True)
            slope = torch.cat([gradient.reshape(-1) for gradient in gradients]) @ v
            parts = torch.autograd.grad(slope, parameters)
            total += len(y) * torch.cat([part.reshape(-1) for part in parts])
        return total / rows

    return product


def train(module: nn.Module, batches: Batches, epochs: int, on_epoch: Callable[[], object] = lambda: None) -> float:
    """Train with Adam and coupled weight decay λ, and return the mean batch loss of the last epoch."""
    optimizer = torch.optim.Adam(module.parameters(), lr=LEARNING_RATE, weight_decay=L2)
    device = next(module.parameters()).device
    for _ in range(epochs):
        losses = [_step(module, optimizer, x.to(device), y.to(device)) for x, y in batches]
        on_epoch()
    return sum(losses) / len(losses)


def _step(module: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> float:
    optimizer.zero_grad()
    loss = cross_entropy(module(x), y)
    loss.backward()  # type: ignore[no-untyped-call]  # PyTorch does not annotate it
    optimizer.step()
    return loss.item()
