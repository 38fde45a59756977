"""Derivatives traced once as graphs of tensor operations, then rewritten to do less, with the same result."""

from hesstore.autodiff.gradient import GradientProgram, trace_gradient
from hesstore.autodiff.second_order import ValueProgram, trace_along, trace_value
from hesstore.autodiff.tangent import TangentProgram, trace

__all__ = [
    "GradientProgram",
    "TangentProgram",
    "ValueProgram",
    "trace",
    "trace_along",
    "trace_gradient",
    "trace_value",
]
