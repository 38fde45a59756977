"""Searches in a stack of matrices on a GPU, whose chains take their steps together, against exact eigenvalues."""

from __future__ import annotations

import gc
import weakref
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from hesstore.linalg import EigenPairs, lanczos_stack
from hesstore.linalg.copy_search import CopySearch
from hesstore.linalg.eigenpairs import Which
from hesstore.linalg.lanczos_search import REMEMBERED_SIZE
from hesstore.linalg.vector_rows import VectorRows
from hesstore.linalg.vector_stack import VectorStack
from tests.support.operators import DiagonalStack
from tests.support.stand_in_device import Machine

SIZE, DEVICE, K = REMEMBERED_SIZE + 400, "cuda:0", 6
COPIES = slice(0, 4)
"""The entries of the first matrix with equal eigenvalues."""


class SkewStack(DiagonalStack):
    """Diagonal matrices, plus ``skew`` (G, 1) times a cyclic shift, which is not symmetric; with images of each."""

    def __init__(self, diagonals: Tensor, skew: Tensor, each_images: list[SimpleNamespace | None]) -> None:
        super().__init__(diagonals)
        self.skew, self.each_images = skew, each_images

    def matvec(self, v: Tensor) -> Tensor:
        return super().matvec(v) + self.skew * v.roll(1, 1)

    def subset(self, rows: list[int]) -> SkewStack:
        diagonals, skew = (torch.stack([each[row] for row in rows]) for each in (self.diagonals, self.skew))
        part = SkewStack(diagonals, skew, [self.each_images[row] for row in rows])
        part.products = self.products
        return part


def spectra() -> Tensor:
    """The eigenvalues of seven matrices whose searches end at different times."""
    outer = [
        [7, 7, 7, 7, -3, 2, 1, 0.5],  # a chain finds one of the four copies, and images of it lead to the others
        [9, 8, 7, -7, 6, 5, -5, 0.2],
        [1e6, 2e5, 1e5, 1e5, 1e5, -1e5, 1e3, 1],  # in another unit
        [torch.nan] * 8,
        [9, 8, 7, 6, 5, 4, 3, 2],  # it is made not symmetric, which shows when the second chain starts
        [3, 3, 3, -3, -3, 2, 1, 0.9],
        [0.1, 0.1, 0.1, -0.1, -0.1, -0.1, 0.1, 0.1],  # no gap before the others: it reaches the limit
    ]
    others = torch.linspace(0, 0.1, SIZE - 8, dtype=torch.float64)
    return torch.cat([torch.tensor(outer, dtype=torch.float64), others.expand(len(outer), -1)], 1)


def turned(vectors: Tensor, _level: int, generator: torch.Generator) -> Tensor:
    """Vectors after random rotations of the copies."""
    vectors = vectors.clone()
    for row in vectors:
        rotation = torch.linalg.qr(torch.randn(4, 4, generator=generator, dtype=torch.float64)).Q
        row[COPIES] = rotation.to(row.device) @ row[COPIES]
    return vectors


def outermost(diagonal: Tensor, which: Which, count: int) -> Tensor:
    """The first eigenvalues in the order of ``which``."""
    return diagonal[diagonal.argsort() if which == "SA" else diagonal.abs().argsort(descending=True)][:count]


@pytest.mark.parametrize("which", ["LM", "SA"])
def test_the_searches_of_a_stack_find_the_pairs_of_each_matrix(
    machine: Machine, which: Which, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted: list[CopySearch] = []
    accept = CopySearch.accept

    def record(self: CopySearch, image: Tensor, product: Tensor) -> None:
        accepted.append(self)
        accept(self, image, product)

    monkeypatch.setattr(CopySearch, "accept", record)
    diagonals = spectra() * (-1 if which == "SA" else 1)
    skew = torch.zeros(len(diagonals), 1, dtype=torch.float64)
    skew[4] = 1e-7
    images = [SimpleNamespace(levels=1, images=turned), *[None] * (len(diagonals) - 1)]
    stack = SkewStack(diagonals.to(DEVICE), skew.to(DEVICE), images)
    starts = [torch.Generator().manual_seed(seed) for seed in range(stack.copies)]
    found = lanczos_stack(stack, K, which=which, tol=1e-6, max_matvecs=60, lowest=2, generators=starts)
    *ended, limited = found
    for error, text in ((ended.pop(4), "not symmetric"), (ended.pop(3), "not finite")):
        assert isinstance(error, FloatingPointError)
        assert text in str(error)
    assert len(accepted) == 3  # the copies that the first chain did not find
    for pairs, diagonal in zip(ended, diagonals[[0, 1, 2, 5]], strict=True):
        assert isinstance(pairs, EigenPairs)
        assert pairs.message.startswith("complete to 0.003"), pairs.message
        expected, scale = outermost(diagonal, which, K + 1), float(diagonal.abs().max())
        assert torch.allclose(pairs.eigenvalues.abs(), expected[:K].abs(), rtol=1e-9, atol=1e-12 * scale)
        assert float(expected[K].abs()) <= abs(pairs.bound) <= 1.003 * float(expected[K - 1].abs())
        v = pairs.eigenvectors.cpu()
        assert torch.allclose(v @ v.T, torch.eye(K, dtype=v.dtype), atol=1e-12)
        residuals = diagonal * v - pairs.eigenvalues[:, None] * v
        assert float((residuals.norm(dim=1) - pairs.residual_norms).abs().max()) <= 1e-12 * scale
    assert isinstance(limited, EigenPairs)
    assert limited.num_matvecs == 60
    assert not limited.converged.all()
    assert (stack.products[0], len(stack.products)) == (7, 60)
    assert stack.products[-1] <= 3  # reduced when searches ended


def test_the_vectors_of_a_stack_are_freed_when_its_searches_have_ended(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without Python's search for cycles, which memory of a device does not start; one search ended by an error."""
    made, make_rows = [], VectorStack.make_rows

    def record(self: VectorStack) -> list[VectorRows]:
        made.append(weakref.ref(self))
        return make_rows(self)

    monkeypatch.setattr(VectorStack, "make_rows", record)
    diagonals = spectra()[[1, 3]].to(DEVICE)
    gc.disable()
    try:
        found = lanczos_stack(
            DiagonalStack(diagonals),
            K,
            generators=[torch.Generator().manual_seed(seed) for seed in range(2)],
        )
        assert [each() for each in made] == [None]
    finally:
        gc.enable()
    assert [type(each) for each in found] == [EigenPairs, FloatingPointError]


def test_each_vector_of_one_search_starts_at_an_aligned_address(machine: Machine) -> None:
    rows = VectorRows(DiagonalStack(torch.ones(1, 61, device=DEVICE)))
    rows.put(0, torch.arange(122.0, device=DEVICE).view(2, 61), torch.ones(2, 61, device=DEVICE))
    for each in (rows.vectors(2), rows.products(2)):
        assert (each.shape, each.stride()) == ((2, 61), (64, 1))
    assert rows.vectors(2).flatten().tolist() == list(range(122))
