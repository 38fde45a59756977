"""Facts about Hessian operators that only tests need."""

from __future__ import annotations

from hesstore.curvature import HessianOperator


def cached_share(operator: HessianOperator) -> float:
    """The share of the rows whose primal values are cached."""
    chunks = operator._chunks
    cached = sum(len(chunk.y) for chunk in chunks if chunk.primal is not None)
    return cached / sum(len(chunk.y) for chunk in chunks)
