"""The Hessian of the mean loss, its near-symmetries, and quantities derived from it.

May import ``problem`` and the packages below.
"""

from hesstore.curvature.class_losses import ClassLosses, row_hits, row_losses
from hesstore.curvature.hessian import Hessian, HessianOperator, HessianStack, gradient
from hesstore.curvature.scalar_curvature import scalar_curvature

__all__ = [
    "ClassLosses",
    "Hessian",
    "HessianOperator",
    "HessianStack",
    "gradient",
    "row_hits",
    "row_losses",
    "scalar_curvature",
]
