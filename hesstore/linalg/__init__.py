"""Symmetric eigenproblems on tensors: solvers, traces and densities. Knows nothing of networks; needs torch and SciPy.

Read ``lanczos`` first and then ``lanczos_search``, which has the main path of a search. Its ideas have a file each:
``lanczos_step`` (the next vector of a chain), ``tridiagonal`` (T and its Ritz values), ``criteria`` (which pairs have
converged, and which matter), ``certificate`` (the bound on further eigenvalues), ``copy_search`` (copies from images),
``known_products`` (small matrices), ``both_ends`` (the lowest pairs), ``search_stack`` (searches in several matrices),
``vector_rows`` and ``vector_stack`` (the vectors in memory), ``arnoldi_relation`` (their products), ``long_sums``
(inner products of long vectors) and ``endings`` (what a search says).
"""

from hesstore.linalg.arpack import as_scipy, eigsh
from hesstore.linalg.density import Density, Kernel, spectral_density
from hesstore.linalg.eigenpairs import EigenPairs
from hesstore.linalg.lanczos import lanczos, lanczos_stack
from hesstore.linalg.moments import Moments, moments, trace
from hesstore.linalg.operators import OperatorStack, SymmetricOperator
from hesstore.linalg.submatrix import Submatrix

__all__ = [
    "Density",
    "EigenPairs",
    "Kernel",
    "Moments",
    "OperatorStack",
    "Submatrix",
    "SymmetricOperator",
    "as_scipy",
    "eigsh",
    "lanczos",
    "lanczos_stack",
    "moments",
    "spectral_density",
    "trace",
]
