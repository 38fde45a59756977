"""Symmetric eigenproblems on tensors: solvers, traces and densities. Knows nothing of networks; imports torch alone."""

from hesstore.linalg.arpack import as_scipy, eigsh
from hesstore.linalg.density import Quadrature, lanczos_quadrature, smoothed
from hesstore.linalg.eigenpairs import EigenPairs
from hesstore.linalg.lanczos import lanczos, lanczos_stack
from hesstore.linalg.moments import Moments, moments
from hesstore.linalg.operators import OperatorStack, SymmetricOperator

__all__ = [
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
