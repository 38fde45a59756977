"""Memory in which each vector of a stack starts at an aligned address."""

from __future__ import annotations

import torch

from hesstore.curvature import FlatHessian
from hesstore.linalg.aligned_rows import in_aligned_rows, row_length
from hesstore.linalg.vector_stack import VectorStack
from tests.support import device_work

READ_TOGETHER = 16  # bytes


def test_each_vector_of_a_stack_starts_at_an_aligned_address() -> None:
    model = device_work.make_model("cpu")
    hessian = FlatHessian(model, *device_work.make_rows("cpu")).at_each(model.theta().repeat(3, 1))
    stack = VectorStack(hessian, 3)
    rows_of_each = stack.make_rows()
    stack.reserve(2)
    vectors = torch.arange(3.0 * hessian.size, dtype=hessian.dtype).view(3, -1)
    stack.put({0: 1, 1: 0, 2: 1}, vectors)
    taken = stack.take([1, 0, 1])
    assert torch.equal(taken, vectors)
    assert torch.equal(rows_of_each[2].vectors(2)[1], vectors[2])
    trainer = device_work.make_trainer("cpu", 3)
    for rows in (hessian.theta, taken, *stack.vectors(2), trainer._theta, trainer._gradient):
        assert rows.shape[1] * rows.element_size() % READ_TOGETHER  # this size is not aligned by itself
        assert rows.stride(0) * rows.element_size() % READ_TOGETHER == 0
        assert rows.stride(1) == 1


def test_a_row_is_longer_by_less_than_its_alignment() -> None:
    assert [row_length(size) for size in (1, 64, 65, 118_282)] == [64, 64, 128, 118_336]
    vectors = torch.arange(10.0).view(2, 5)
    rows = in_aligned_rows(vectors)
    assert torch.equal(rows, vectors)
    assert rows.stride() == (64, 1)
    assert in_aligned_rows(vectors[:1]) is not vectors
    assert in_aligned_rows(vectors[:1]).stride() == (5, 1)
