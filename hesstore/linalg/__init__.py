"""Symmetric eigenproblems on tensors. Knows operators and vectors, nothing of networks."""

from hesstore.linalg.arpack import as_scipy, eigsh
from hesstore.linalg.eigenpairs import EigenPairs
from hesstore.linalg.lanczos import lanczos
from hesstore.linalg.operators import DenseOperator, SymmetricOperator

__all__ = ["DenseOperator", "EigenPairs", "SymmetricOperator", "as_scipy", "eigsh", "lanczos"]
