"""The Hessian of the mean loss and what is derived from it."""

from hesstore.curvature.hessian import Hessian, HessianOperator, gradient

__all__ = ["Hessian", "HessianOperator", "gradient"]
