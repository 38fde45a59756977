"""Inner products, combinations and lengths of long vectors.

A float32 sum over 10⁷ entries of one sign is wrong by up to 0.3 % in PyTorch's matrix products on a CPU: each step
rounds a total that is much larger than what is added. With vectors that are unit and orthogonal only to 0.3 %, a search
for eigenpairs does not converge. Therefore long sums are taken in blocks, which are added in float64: the error is 10⁻⁶
as for short vectors.

On a CPU, the blocks also divide the work among the threads. PyTorch multiplies a matrix with one vector in a single
thread, which takes 1.4 to 2 times as long as with two (measured for 30 to 150 vectors of 118,282 entries).
"""

from __future__ import annotations

import torch
from torch import Tensor

LONG = 2**18
"""Up to this length, one sum is precise to 10⁻⁶."""

BLOCK = 2**16
"""Number of entries of a block of a longer vector."""

PIECES = 8
"""Number of blocks of a shorter vector on a CPU; whatever the number of threads, because it affects the rounding."""

SHORT = 2**14
"""Vectors below this length are not cut: they do not keep several threads busy."""


def inner_products(a: Tensor, b: Tensor) -> Tensor:
    """The inner products of vectors, a bᵀ, in their precision.

    Parameters
    ----------
    a, b : Tensor
        One vector (P,), or several: (n, P) and (m, P).

    Returns
    -------
    Tensor
        (n, m); a single vector has no dimension there.

    Examples
    --------
    >>> inner_products(torch.ones(2, 300_000), torch.ones(300_000))
    tensor([300000., 300000.])
    """
    size, block = a.shape[-1], _block(a)
    if not block:
        return a @ b.T if b.dim() == 2 else a @ b
    rows, others = a.reshape(-1, size), b.reshape(-1, size)
    few, many = sorted((rows, others), key=len)  # one row times a matrix is much faster than a matrix times one column
    whole = size // block * block
    of_few, of_many = (in_blocks(part[:, :whole], block) for part in (few, many))
    total = torch.bmm(of_few, of_many.mT).sum(0, dtype=torch.float64) + few[:, whole:] @ many[:, whole:].T
    products: Tensor = (total if few is rows else total.T).to(a.dtype).reshape(a.shape[:-1] + b.shape[:-1])
    return products


def in_blocks(rows: Tensor, block: int) -> Tensor:
    """The view (blocks, n, block) of rows (n, P), whose length is a multiple of ``block``."""
    return rows.view(len(rows), rows.shape[1] // block, block).transpose(0, 1)


def subtract_combination(w: Tensor, coefficients: Tensor, vectors: Tensor) -> None:
    """Subtract from ``w`` (P,), in place, the combination of ``vectors`` (n, P) with ``coefficients`` (n,)."""
    block = w.shape[0] // PIECES if w.device.type == "cpu" and w.shape[0] >= SHORT else 0
    whole = block * PIECES
    if block:
        pieces = in_blocks(vectors[:, :whole], block)
        w[:whole].view(PIECES, 1, block).baddbmm_(coefficients.expand(PIECES, 1, -1), pieces, alpha=-1)
    w[whole:].addmv_(vectors[:, whole:].T, coefficients, alpha=-1)


def inner_products_each(vectors: Tensor, w: Tensor) -> Tensor:
    """The inner products (G, n): in row g, those of ``vectors`` g (n, P) with ``w`` g (P,)."""
    if len(w) > 1 and not _block(w):
        return torch.bmm(vectors, w[:, :, None])[:, :, 0]
    return torch.stack([inner_products(*each) for each in zip(vectors, w, strict=True)])


def subtract_combinations(w: Tensor, coefficients: Tensor, vectors: Tensor) -> None:
    """Apply :func:`subtract_combination` to each row of ``w`` (G, P), in place.

    Each row has its own ``coefficients`` (G, n) and ``vectors`` (G, n, P).
    """
    if len(w) > 1 and not _block(w):
        w[:, None].baddbmm_(coefficients[:, None], vectors, alpha=-1)
    else:  # long vectors keep a device busy one after the other
        for each in zip(w, coefficients, vectors, strict=True):
            subtract_combination(*each)


def _block(vectors: Tensor) -> int:
    """The length of the blocks in which a sum over entries of ``vectors`` is taken; 0 if it is taken as a whole."""
    size = vectors.shape[-1]
    if size > LONG and vectors.dtype != torch.float64:
        return BLOCK
    return size // PIECES if vectors.device.type == "cpu" and size >= SHORT else 0


def lengths(vectors: Tensor) -> Tensor:
    """The 2-norm of a vector (P,), or of each row of (n, P), in the precision of the vectors."""
    precision = torch.float64 if vectors.shape[-1] > LONG else None
    norms: Tensor = torch.linalg.vector_norm(vectors, dim=-1, dtype=precision)
    return norms.to(vectors.dtype)
