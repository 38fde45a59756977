"""The Hessian of the mean loss, its near-symmetries, and quantities derived from it.

May import ``problem`` and the packages below.
"""

from hesstore.curvature.class_losses import ClassLosses, Derivatives
from hesstore.curvature.exact_trace import DenseLayers, hessian_trace
from hesstore.curvature.hessian import FlatHessian, HessianOperator, HessianStack, error_and_gradient, gradient
from hesstore.curvature.loss_lines import LossLines, line_bytes
from hesstore.curvature.scalar_curvature import scalar_curvature

__all__ = [
    "ClassLosses",
    "DenseLayers",
    "Derivatives",
    "FlatHessian",
    "HessianOperator",
    "HessianStack",
    "LossLines",
    "error_and_gradient",
    "gradient",
    "hessian_trace",
    "line_bytes",
    "scalar_curvature",
]
