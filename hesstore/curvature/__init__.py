"""The Hessian of the mean loss and what is derived from it."""

from hesstore.curvature.directions import ClassLosses
from hesstore.curvature.graph import scalar_curvature
from hesstore.curvature.hessian import Hessian, HessianOperator, HessianStack, gradient

__all__ = ["ClassLosses", "Hessian", "HessianOperator", "HessianStack", "gradient", "scalar_curvature"]
