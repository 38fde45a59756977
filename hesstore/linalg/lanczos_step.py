"""One Lanczos step: from the product of the last vector of a chain to the next vector.

Gram–Schmidt subtracts from the product w = A q its components along all vectors so far. Where w is nearly in their
span, what is left has lost accuracy, and a second pass restores it. On a CPU, there is a second pass if what is left is
short. On a GPU the host would have to wait for that length, so there are always two passes.

Source: Giraud, Langou, Rozložník & van den Eshof, *Rounding error analysis of the classical Gram–Schmidt
orthogonalization process*, Numerische Mathematik 101 (2005): two passes suffice.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hesstore.linalg.long_sums import lengths
from hesstore.linalg.vector_rows import orthogonalise, orthogonalise_each

LOST_ACCURACY = 0.1
"""If orthogonalisation shrinks a vector below this fraction of its length, it needs a second pass."""


def next_vector(w: Tensor, vectors: Tensor, locked: int) -> tuple[Tensor, Tensor]:
    """Make the product ``w`` (P,) of the last vector the next vector of the chain, in place.

    Parameters
    ----------
    w : Tensor
        (P,) A q.
    vectors : Tensor
        (n, P) the locked vectors, and then those of the chain up to q.
    locked : int
        Number of locked vectors.

    Returns
    -------
    tuple of Tensor
        The coefficients (n,) of the vectors in A q, and β, that of the next vector.
    """
    if w.device.type != "cpu":
        (coefficients,), (beta,) = next_vectors(w[None], vectors[None])
        return coefficients, beta
    # Without its components along the last two vectors, which are large, the full pass is a second pass.
    last = slice(max(locked, len(vectors) - 2), len(vectors))
    largest = orthogonalise(w, vectors[last])
    before = float(lengths(w))
    coefficients = orthogonalise(w, vectors)
    coefficients[last] += largest
    beta = _normalise(w)
    if float(beta) < LOST_ACCURACY * before:
        coefficients.addcmul_(beta, orthogonalise(w, vectors))
        beta = beta * _normalise(w)
    return coefficients, beta


def next_vectors(w: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Make the products of the last vectors of G chains their next vectors, in place, without waiting for the device.

    Parameters
    ----------
    w : Tensor
        (G, P) the products.
    vectors : Tensor
        (G, n, P) the vectors of each chain; rows after its last one are zero.

    Returns
    -------
    tuple of Tensor
        The coefficients (G, n), and β (G,).
    """
    coefficients = orthogonalise_each(w, vectors)
    beta = _normalise(w)
    coefficients.addcmul_(beta[:, None], orthogonalise_each(w, vectors))
    return coefficients, beta.mul_(_normalise(w))


def _normalise(w: Tensor) -> Tensor:
    """Scale ``w`` (…, P) to length 1, in place, unless it is zero; return the lengths."""
    norms = lengths(w)
    w /= norms.clamp_min(torch.finfo(w.dtype).tiny)[..., None]
    return norms
