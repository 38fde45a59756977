"""The Hessian of the mean loss and what is derived from it."""

from hesstore.curvature.hessian import Hessian, HessianOperator, HessianStack, gradient

__all__ = ["Hessian", "HessianOperator", "HessianStack", "gradient"]
