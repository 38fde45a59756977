"""The number of floating-point operations of an MLP, computed from the widths of its layers.

Let h be the input of a layer, z = h Wᵀ + b its output and δ = ∂E/∂z, and let a dot denote the derivative along v. If
everything that does not depend on v is cached, a Hessian product consists of these matrix products:

====================  ==============================  =====================================================
forward tangent       ż = h Ẇᵀ + ḣ Wᵀ                 2, but 1 in the first layer, whose input has no tangent
backward tangent      (δ W)˙ = δ̇ W + δ Ẇ              2, but 0 in the first layer, as ∂E/∂x is not needed
gradient tangent      (δᵀ h)˙ = δ̇ᵀ h + δᵀ ḣ           2, but 1 in the first layer
====================  ==============================  =====================================================

This makes 2 products in the first layer and 6 in each other layer, with 2·rows·inputs·outputs operations each. For
784→128→128→10 there are 2·(2·784·128 + 6·(128·128 + 128·10)) = 613,376 operations per row, or 36.8 GFLOP for 60,000
rows. Elementwise work is not counted. This count is nominal, as if every input pixel mattered: where a pixel is
constant within a chunk of rows, fewer operations give the same product.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Gemm:
    """``times`` matrix products (m, k) · (k, n)."""

    name: str
    m: int
    k: int
    n: int
    times: int

    @property
    def flop(self) -> int:
        """The number of operations of all ``times`` products."""
        return 2 * self.m * self.k * self.n * self.times


def hvp_gemms(widths: Sequence[int], rows: int) -> list[Gemm]:
    """Return the matrix products of one Hessian product; ``widths`` run from the input to the logits."""
    gemms = []
    for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(widths), start=1):
        first = layer == 1
        gemms.append(Gemm(f"fc{layer} forward tangent", rows, fan_in, fan_out, 1 if first else 2))
        if not first:
            gemms.append(Gemm(f"fc{layer} backward tangent", rows, fan_out, fan_in, 2))
        gemms.append(Gemm(f"fc{layer} gradient tangent", fan_out, rows, fan_in, 1 if first else 2))
    return gemms


def hvp_flop(widths: Sequence[int], rows: int) -> int:
    """Return the operations of one Hessian product if everything that does not depend on v is cached."""
    return sum(gemm.flop for gemm in hvp_gemms(widths, rows))


def gradient_flop(widths: Sequence[int], rows: int) -> int:
    """Return the operations of a forward and a backward pass.

    They are 2 matrix products in the first layer and 3 in each other layer.
    """
    products = [(2 if layer == 0 else 3) * a * b for layer, (a, b) in enumerate(itertools.pairwise(widths))]
    return 2 * rows * sum(products)


def num_parameters(widths: Sequence[int]) -> int:
    """Return P, the number of weights and biases."""
    return sum((fan_in + 1) * fan_out for fan_in, fan_out in itertools.pairwise(widths))
