"""Random small tensor programs, for tests of the rewriting of graphs.

A program is a function (θ, x, y) ↦ scalar. It starts from the rows x (n, f), or from a linear layer on them, and then
applies random steps to a matrix h (n, m). Each step takes its weights from θ at a random place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor

MAX_WIDTH = 4
PARAMETERS = 2 * MAX_WIDTH * 6 + 4


@dataclass(frozen=True)
class Program:
    """The steps of a program, each with the width of its result and the offset of its weights in θ."""

    steps: tuple[tuple[str, int, int], ...]

    def matrix(self, theta: Tensor, x: Tensor) -> Tensor:
        """(n, m) the values for each row of ``x``."""
        h = x.flatten(1)
        for name, width, offset in self.steps:
            h = STEPS[name](h, x.flatten(1), Weights(theta, offset), width)
        return h

    def rows(self, theta: Tensor, x: Tensor) -> Tensor:
        """(n,) one value for each row of ``x``."""
        return torch.tanh(self.matrix(theta, x)).sum(1)

    def __call__(self, theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """The sum over the rows, weighted by ``y``."""
        return (self.rows(theta, x) * (1 + y)).sum()


@dataclass(frozen=True)
class Weights:
    """Weights in θ from an offset on."""

    theta: Tensor
    offset: int

    def vector(self, size: int) -> Tensor:
        return self.theta[self.offset : self.offset + size]

    def matrix(self, rows: int, columns: int) -> Tensor:
        return self.vector(rows * columns).view(rows, columns)


Step = Callable[[Tensor, Tensor, Weights, int], Tensor]


def linear(h: Tensor, x: Tensor, weights: Weights, width: int) -> Tensor:
    return torch.nn.functional.linear(h, weights.matrix(width, h.shape[1]), weights.vector(width))


def matmul(h: Tensor, x: Tensor, weights: Weights, width: int) -> Tensor:
    return h @ weights.matrix(h.shape[1], width)


def matmul_with_rows(h: Tensor, x: Tensor, weights: Weights, width: int) -> Tensor:
    """A product from the left and one from the right with x."""
    return x @ ((weights.matrix(width, len(x)) @ x).t() * 0.1)


def add_rows_product(h: Tensor, x: Tensor, weights: Weights, width: int) -> Tensor:
    """A sum with a matrix product that the sum can absorb."""
    return h + x @ weights.matrix(x.shape[1], h.shape[1])


def multiply(h: Tensor, x: Tensor, weights: Weights, width: int) -> Tensor:
    """A chain of factors, of which some depend on θ."""
    return h * torch.tanh(h) * x.mean(1, keepdim=True).expand(h.shape) * weights.vector(h.shape[1])


def sigmoid(h: Tensor, x: Tensor, weights: Weights, width: int) -> Tensor:
    return torch.sigmoid(h)


def transpose(h: Tensor, x: Tensor, weights: Weights, width: int) -> Tensor:
    """Two transpositions in sequence, and two apart."""
    return (h.t().t().transpose(0, 1) * 2).t()


def views(h: Tensor, x: Tensor, weights: Weights, width: int) -> Tensor:
    """Views in other shapes and in the same one, and a cast to the same type."""
    return h.reshape(-1).view(h.shape).view(h.shape).to(h.dtype).contiguous()


def expand(h: Tensor, x: Tensor, weights: Weights, width: int) -> Tensor:
    return h + h.sum(0, keepdim=True).expand(h.shape) + weights.vector(1).expand(h.shape)


def zeros(h: Tensor, x: Tensor, weights: Weights, width: int) -> Tensor:
    """Sums with zeros of the same shape and of one that is broadcast, and a product with zeros."""
    nothing = torch.zeros_like(h)
    row = torch.zeros(1, h.shape[1], dtype=h.dtype)
    return (nothing + h) + row + nothing * h + nothing @ weights.matrix(h.shape[1], h.shape[1])


def sums(h: Tensor, x: Tensor, weights: Weights, width: int) -> Tensor:
    return h.sum(1, keepdim=True) * torch.ones(1, width, dtype=h.dtype)


def scale(h: Tensor, x: Tensor, weights: Weights, width: int) -> Tensor:
    """A product with a number, which is no tensor of the graph, as a term of a sum."""
    return h * 2 + h


def write_to_copy(h: Tensor, x: Tensor, weights: Weights, width: int) -> Tensor:
    """In-place operations on a copy, which must stay a copy because the original is used again."""
    duplicate = h.clone()
    duplicate.mul_(weights.vector(h.shape[1])).add_(1)
    return duplicate + h


def write_to_zeros(h: Tensor, x: Tensor, weights: Weights, width: int) -> Tensor:
    """Zeros that do not stay zero."""
    total = torch.zeros_like(h)
    total.add_(h).add_(weights.vector(h.shape[1]))
    return total + h


STEPS: dict[str, Step] = {
    step.__name__: step
    for step in (
        linear,
        matmul,
        matmul_with_rows,
        add_rows_product,
        multiply,
        sigmoid,
        transpose,
        views,
        expand,
        zeros,
        sums,
        scale,
        write_to_copy,
        write_to_zeros,
    )
}


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """Programs of one to five steps; most begin with a linear layer, as networks do."""
    names = draw(st.lists(st.sampled_from(list(STEPS)), min_size=1, max_size=4))
    if draw(st.booleans()):
        names = ["linear", *names]
    return Program(tuple((name, draw(st.integers(1, MAX_WIDTH)), draw(st.integers(0, MAX_WIDTH))) for name in names))


@st.composite
def inputs(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """θ (P,), x (n, f) with columns that are constant, or nearly, and y (n,), in float64."""
    n, f = draw(st.sampled_from([2, 5, 10])), draw(st.integers(1, 5))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    theta = torch.randn(PARAMETERS, generator=generator, dtype=torch.float64)
    x = torch.randn(n, f, generator=generator, dtype=torch.float64)
    constant = draw(st.lists(st.integers(0, f - 1), unique=True))
    first = draw(st.sampled_from([0, 1]))  # in a column that is nearly constant, the first row has another value
    x[first:, constant] = x[-1:, constant]
    return theta, x, torch.arange(n, dtype=torch.float64) % 3
