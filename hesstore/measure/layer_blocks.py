"""The diagonal blocks of H that belong to single layers: their top eigenvalues and their traces.

The block of a layer is the Hessian with respect to its parameters while all others are fixed. It has no eigenvalue
outside the range of those of H, and the traces of all blocks sum to that of H.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hesstore import linalg

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from hesstore.config import SweepConfig
    from hesstore.linalg import SymmetricOperator

PROBES = 16
"""Number of random vectors for the trace of a block; the trace of a smaller block is exact."""


def layer_blocks(
    operator: SymmetricOperator, rows: Sequence[Tensor], config: SweepConfig, generator: torch.Generator
) -> dict[str, NDArray[np.float64]]:
    """Return the values of the variables of the blocks at one grid point.

    Parameters
    ----------
    operator : SymmetricOperator
        H at the weights of the grid point, or its Gauss–Newton part.
    rows : sequence of Tensor
        The indices of the parameters of each layer.
    config : SweepConfig
        The settings of the search.
    generator : Generator
        The random numbers.

    Raises
    ------
    FloatingPointError
        If a product with H is NaN or infinite.
    """
    shape = (len(rows), config.block_k)
    eigenvalues, residual_norms = (np.full(shape, np.nan) for _ in range(2))
    bounds, traces, errors = (np.full(len(rows), np.nan) for _ in range(3))
    for index, of_layer in enumerate(rows):
        block = linalg.Submatrix(operator, of_layer)
        pairs = linalg.lanczos(
            block,
            min(config.block_k, block.size),
            tol=config.tol,
            max_matvecs=max(config.max_matvecs, config.block_k),
            generator=generator,
            eta=config.eta,
            slack=config.slack,
        )
        found = len(pairs.eigenvalues)
        eigenvalues[index, :found], residual_norms[index, :found] = pairs.eigenvalues, pairs.residual_norms
        bounds[index] = pairs.bound
        traces[index], errors[index] = linalg.trace(block, pairs, PROBES, generator)
    return {
        "block_eigenvalues": eigenvalues,
        "block_residual_norm": residual_norms,
        "block_bound": bounds,
        "block_trace": traces,
        "block_trace_error": errors,
    }
