"""One Lanczos step, and the steps of several chains side by side, against what defines the next vector."""

from __future__ import annotations

import pytest
import torch

from hesstore.linalg.lanczos_step import next_vector, next_vectors
from hesstore.linalg.long_sums import LONG


@pytest.mark.parametrize("size", [5000, LONG + 4321])
def test_the_next_vector_is_a_unit_vector_orthogonal_to_all_before(size: int) -> None:
    """Of three chains of 4, 7 and 5 vectors. The product of the last one is nearly in the span of its vectors."""
    generator = torch.Generator().manual_seed(0)
    lengths, most = (4, 7, 5), 7
    vectors, products = torch.zeros(3, most, size), torch.randn(3, size, generator=generator)
    for own, length in zip(vectors, lengths, strict=True):
        own[:length] = torch.linalg.qr(torch.randn(size, length, generator=generator, dtype=torch.float64)).Q.T
    products[2] = products[2] * 1e-3 + size**0.5 * vectors[2, :5].sum(0)
    w = products.clone()
    coefficients, betas = next_vectors(w, vectors)
    for place, length in enumerate(lengths):
        own, alone = vectors[place, :length], products[place].clone()
        for q, h, beta in (
            (w[place], coefficients[place, :length], betas[place]),
            (alone, *next_vector(alone, own, locked=2)),
        ):
            assert abs(float(q.double().norm()) - 1) < 1e-6
            assert float((own.double() @ q.double()).abs().max()) < 1e-6
            again = h.double() @ own.double() + beta.double() * q.double()
            assert float((again - products[place]).norm()) < 1e-6 * float(products[place].norm())
        assert not coefficients[place, length:].any()
