"""T, the projection of A onto the vectors of a Lanczos chain."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache, cached_property

import torch
from scipy.linalg import eigh_tridiagonal
from threadpoolctl import ThreadpoolController
from torch import Tensor


@cache
def _blas() -> ThreadpoolController:
    """The BLAS libraries of this process.

    The threads of SciPy's BLAS wait for more work after each call, on the cores that PyTorch's threads need: with
    those of SciPy 1.18, a sweep of the quickstart takes half as long again. A small matrix does not need them.
    """
    return ThreadpoolController()


def empty() -> Tensor:
    """No numbers, in float64."""
    return torch.zeros(0, dtype=torch.float64)


@dataclass(frozen=True)
class Tridiagonal:
    """T on the host in float64.

    Attributes
    ----------
    alpha : Tensor
        (m,) its diagonal, for the m steps of the chain.
    beta : Tensor
        (m,) its off-diagonal, and last the length of the vector that leads out of the Krylov space.
    """

    alpha: Tensor = field(default_factory=empty)
    beta: Tensor = field(default_factory=empty)

    @property
    def steps(self) -> int:
        """Number of steps."""
        return len(self.alpha)

    @property
    def is_invariant(self) -> bool:
        """Whether the chain has ended in an invariant subspace."""
        return self.steps > 0 and bool(self.beta[-1] == 0)

    def extended(self, alpha: Tensor, beta: Tensor) -> Tridiagonal:
        """T after further steps; it ends at the first β that is zero."""
        zeros = torch.nonzero(beta == 0)
        taken = int(zeros[0]) + 1 if len(zeros) else len(beta)
        return Tridiagonal(torch.cat([self.alpha, alpha[:taken]]), torch.cat([self.beta, beta[:taken]]))

    @cached_property
    def ritz(self) -> tuple[Tensor, Tensor, Tensor]:
        """The Ritz values θ, their coefficients S (one column each), and the residual estimates β_m |s_mi|."""
        if not self.steps:
            return self.alpha, torch.zeros(0, 0, dtype=torch.float64), self.alpha
        with _blas().limit(limits=1, user_api="blas"):
            found = eigh_tridiagonal(self.alpha.numpy(), self.beta[:-1].numpy(), lapack_driver="stevd")
        theta, s = map(torch.from_numpy, found)
        return theta, s, self.beta[-1] * s[-1].abs()
