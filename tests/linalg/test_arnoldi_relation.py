"""Products of a chain from the coefficients of Gram–Schmidt, against the products themselves."""

from __future__ import annotations

import torch

from hesstore.linalg.arnoldi_relation import ArnoldiRelation
from tests.support.operators import DenseOperator, symmetric


def test_combinations_are_multiplied_as_by_the_matrix() -> None:
    operator = DenseOperator(symmetric(torch.linspace(-3, 10, 60)))
    generator = torch.Generator().manual_seed(1)
    locked, steps = 3, 40
    vectors = list(torch.linalg.qr(torch.randn(60, locked + 1, generator=generator, dtype=operator.dtype))[0].T)
    relation = ArnoldiRelation(operator, locked)
    alpha, beta = [], []
    for _ in range(steps):
        known, product = torch.stack(vectors), operator.matvec(vectors[-1])
        projection = known @ product  # one pass leaves the vectors less and less orthogonal: the relation holds
        rest = product - projection @ known
        relation.add_product(projection, rest.norm())
        vectors.append(rest / rest.norm())
        alpha.append(projection[-1])
        beta.append(rest.norm())
    mix = torch.randn(2, steps, generator=generator, dtype=operator.dtype)
    expected = mix @ torch.stack(vectors[locked:-1]) @ operator.matrix
    found = relation.products(mix) @ torch.stack(vectors)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert relation.last_diagonals(5) == alpha[-5:] + beta[-5:]
