"""Floating-point operations of the default kind of network, counted from the shapes of its layers.

A product with the Hessian, if all that does not depend on v is kept, is these matrix products. Write h for a layer's
input, z = h Wᵀ + b for its output, δ = ∂E/∂z, and a dot for the derivative along v:

====================  ==============================  =====================================================
forward tangent       ż = h Ẇᵀ + ḣ Wᵀ                 2, but 1 in the first layer, whose input has no tangent
backward tangent      (δ W)˙ = δ̇ W + δ Ẇ              2, but 0 in the first layer: nobody wants ∂E/∂x
gradient tangent      (δᵀ h)˙ = δ̇ᵀ h + δᵀ ḣ           2, but 1 in the first layer
====================  ==============================  =====================================================

So 2 in the first layer and 6 in each other, of 2·rows·inputs·outputs operations each. For 784→128→128→10:
2·(2·784·128 + 6·(128·128 + 128·10)) = 613,376 operations a row, 36.8 GFLOP for 60,000 rows. Elementwise work is not
counted. This is the nominal count, as if every input pixel mattered: where pixels are the same in all rows of a chunk,
fewer operations give the same product.
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
        """Operations of all ``times``."""
        return 2 * self.m * self.k * self.n * self.times


def hvp_gemms(widths: Sequence[int], rows: int) -> list[Gemm]:
    """The matrix products of one Hessian-vector product; ``widths`` from input to logits."""
    gemms = []
    for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(widths), start=1):
        first = layer == 1
        gemms.append(Gemm(f"fc{layer} forward tangent", rows, fan_in, fan_out, 1 if first else 2))
        if not first:
            gemms.append(Gemm(f"fc{layer} backward tangent", rows, fan_out, fan_in, 2))
        gemms.append(Gemm(f"fc{layer} gradient tangent", fan_out, rows, fan_in, 1 if first else 2))
    return gemms


def hvp_flop(widths: Sequence[int], rows: int) -> int:
    """Operations of one Hessian-vector product with everything kept that does not depend on v."""
    return sum(gemm.flop for gemm in hvp_gemms(widths, rows))


def gradient_flop(widths: Sequence[int], rows: int) -> int:
    """Operations of a forward and a backward pass: 2 matrix products in the first layer, 3 in each other."""
    products = [(2 if layer == 0 else 3) * a * b for layer, (a, b) in enumerate(itertools.pairwise(widths))]
    return 2 * rows * sum(products)


def num_parameters(widths: Sequence[int]) -> int:
    """P: weights and biases."""
    return sum((fan_in + 1) * fan_out for fan_in, fan_out in itertools.pairwise(widths))
