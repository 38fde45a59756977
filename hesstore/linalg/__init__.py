"""Symmetric eigenproblems on tensors. Knows operators and vectors, nothing of networks."""

from hesstore.linalg.arpack import as_scipy, eigsh
from hesstore.linalg.density import Quadrature, lanczos_quadrature, smoothed
from hesstore.linalg.eigenpairs import EigenPairs
from hesstore.linalg.lanczos import lanczos, lanczos_stack
from hesstore.linalg.moments import Moments, moments
from hesstore.linalg.operators import DenseOperator, OperatorStack, SymmetricOperator

__all__ = [
    "DenseOperator",
    "EigenPairs",
    "Moments",
    "OperatorStack",
    "Quadrature",
    "SymmetricOperator",
    "as_scipy",
    "eigsh",
    "lanczos",
    "lanczos_quadrature",
    "lanczos_stack",
    "moments",
    "smoothed",
]
