from __future__ import annotations

import pytest
import torch

from hesstore.linalg.aligned_rows import ALIGNMENT
from hesstore.training.optimizers import GPU_PIECES, Adam


@pytest.mark.parametrize("shape", [(1, 7), (1, 1182), (3, 5001)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pieces_do_not_change_a_bit(shape: tuple[int, int], dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(shape, generator=generator, dtype=dtype)
    gradients = torch.randn(5, *shape, generator=generator, dtype=dtype)
    found = []
    for pieces in (1, GPU_PIECES):
        theta, gradient = start.clone(), torch.zeros_like(start)
        adam = Adam(theta, gradient, 1e-3, pieces=pieces)
        for each in gradients:
            gradient.copy_(each)
            adam.step()
        adam.reset()
        assert not any(bool(state.any()) for state in adam.state)
        adam.step()
        found.append(theta)
    assert torch.equal(*found)
    assert not torch.equal(found[0], start)


def test_pieces_are_aligned_views() -> None:
    theta = torch.zeros(1, 118_282)
    adam = Adam(theta, torch.zeros_like(theta), 1e-3, pieces=GPU_PIECES)
    pieces = adam._parameters
    assert len(pieces) == GPU_PIECES
    assert {len(piece) % ALIGNMENT for piece in pieces[:-1]} == {0}
    assert len({len(piece) for piece in pieces[:-1]}) == 1
    pieces[-1].fill_(1)
    assert int(theta.sum()) == len(pieces[-1]) > 0
