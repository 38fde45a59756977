from __future__ import annotations

import torch

from hesstore.linalg.eigenpairs import eigenpairs


def test_long_float32_vectors_have_unit_norm_and_their_rayleigh_quotients() -> None:
    """A norm that is summed in float32 is wrong by 2e-5 at this length."""
    generator = torch.Generator().manual_seed(0)
    vectors = 3 * torch.randn(3, 118_282, generator=generator) ** 5
    diagonal = 2 + torch.rand(118_282, generator=generator)
    pairs = eigenpairs(list(vectors), list(vectors * diagonal), which="LM", tol=1e-3, num_matvecs=3, message="")
    assert float((torch.linalg.vector_norm(pairs.eigenvectors.double(), dim=1) - 1).abs().max()) < 1e-7
    exact = (vectors.double().square() @ diagonal.double()) / vectors.double().square().sum(1)
    torch.testing.assert_close(pairs.eigenvalues, exact.sort(descending=True).values, rtol=2e-7, atol=0)
